"""Kills the server at random moments during queued runs, and checks that every prompt is made exactly once.

    python -m benchmarks.kills --moments 50

Each server continues with the queue of the one before, gets more prompts, and is killed (SIGKILL) within a few
seconds. The last server finishes the queue. Every accepted prompt must then have exactly one run, or be
reported as failed; otherwise the command fails.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.serving import Server, running_server
from i4vgen.storage.run_store import RunStore
from i4vgen.studio.components.queue import LOST
from tests.support.gradio_protocol import Tab

SMALL = {"Candidates": 1, "Denoising steps": 2, "Compare with": []}
"""The settings of the form, by their labels."""

WAITING = 4
"""Number of prompts in the queue after each start."""


class QueuePage:
    """Queues prompts and asks for their state, like the page."""

    def __init__(self, server: Server) -> None:
        self.tab = Tab(server.url)

    def queue(self, prompts: list[str]) -> list[dict]:
        """Queues prompts. Returns those that were accepted."""
        fields = {"queue-lines": "\n".join(prompts)} | SMALL
        changes, *_ = self.tab.send("on_queue", self.tab.values("on_queue", fields))
        return changes["added"]

    def rows(self, accepted: list[dict]) -> list[dict]:
        """Returns the rows of the list for these prompts; finished ones have none."""
        rows = []
        for first in range(0, len(accepted), 48):  # the limit of one request
            answer = self.tab.send("on_look", [accepted[first : first + 48]])
            shown = answer[2]
            value = shown.get("value") if isinstance(shown, dict) and "rows" not in shown else shown
            rows += value["rows"] if value else []
        return rows


def kills(moments: int, seconds: float, seed: int) -> dict:
    """Kills the server this many times, each within so many seconds. Returns the report."""
    rng, accepted, running = random.Random(seed), [], Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for moment in range(moments):
            with running_server(folder=folder, kill=True) as server:
                page = QueuePage(server)
                left = [row for row in page.rows(accepted) if row["state"] != "failed"]
                prompts = [f"a racing car {moment} {number}" for number in range(WAITING - len(left))]
                accepted += page.queue(prompts) if prompts else []
                time.sleep(rng.uniform(0, seconds))
                running[any(row["state"] == "running" for row in page.rows(accepted))] += 1
        with running_server(folder=folder) as server:
            page = QueuePage(server)
            while any(row["state"] in ("waiting", "running") for row in page.rows(accepted)):
                time.sleep(1)
            failed = [row for row in page.rows(accepted) if row["state"] == "failed"]
            told = {row["run"]: row["words"] for row in failed if row["words"] != LOST}
        made = Counter(run.path.stem for run in RunStore(next(folder.rglob("i4vgen-runs"))).runs())
    names = [each["run"] for each in accepted]
    return {
        "moments": moments,
        "with a run under way": running[True],
        "accepted": len(names),
        "made once": sum(made[name] == 1 and name not in told for name in names),
        "told to have failed": sum(made[name] == 0 and name in told for name in names),
        "made and told to have failed": sum(made[name] > 0 and name in told for name in names),
        "made twice": sum(made[name] > 1 for name in names),
        "lost": sum(made[name] == 0 and name not in told for name in names),
        "failures": dict(Counter(told.values())),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=6.0, help="until a kill, at most (default 6)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    report = kills(args.moments, args.seconds, args.seed)
    print(json.dumps(report, indent=2))
    if any(report[fault] for fault in ("lost", "made twice", "made and told to have failed")):
        raise SystemExit("error: not every prompt has exactly one run or one failure")
