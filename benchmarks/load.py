"""Many visitors at once: does everybody get what they asked for, and how long do clicks take meanwhile?

    python -m benchmarks.load --visitors 50 --minutes 10

Every visitor has an address, a session and a seed of their own, opens the page, and goes back and forth between
short runs and clicks: another card of the run that the page shows, a star, the order of the cards, the page
once more. A result belongs to its visitor if the picture is the one that this seed gave the first time, and
nobody else's. Reports waiting times, refusals, memory (the median while ten runs were made) and disk.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx
import numpy as np
from gradio_client import Client
from gradio_client.exceptions import AppError

from benchmarks.serving import Server, main

RUN = {"prompt": "a red car", "num_candidates": 1, "num_inference_steps": 2, "compare": []}
RUNS_SHARE = 0.3
OPENING = "on_load"
CLICKS = (OPENING, "on_card", "on_card", "on_star", "on_order")
"""What visitors click on, by the names of the handlers: what they do most often comes up most often."""

MARKS = (0, 20, 50, 100, 200, 400, 800)
"""Numbers of runs at which the server's memory is of interest."""

BETWEEN = 1.0  # seconds on average between what a visitor does


@dataclass
class Report:
    """What all visitors have seen.

    Attributes:
        clicks, runs: Seconds until each was answered.
        pictures: The hash of the picture that each seed gave.
        problems: How often what went wrong.
        memory: MB of the server over time, by the number of runs at that time.
    """

    clicks: list[float] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)
    pictures: dict[int, str] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    memory: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def to_dict(self, server: Server) -> dict:
        return {
            "runs": len(self.runs),
            "run_seconds": percentiles(self.runs),
            "clicks": len(self.clicks),
            "click_seconds": percentiles(self.clicks),
            "visitors_with_results": len(self.pictures),
            "problems": dict(self.problems.most_common()),
            "memory_mb": {str(m): round(median(seen)) for m in MARKS if (seen := self.memory_during(m))},
            "disk_mb": round(server.disk(), 1),
        }

    def memory_during(self, first: int) -> list[float]:
        """What was seen from this number of runs on, for ten runs: it goes up and down with each."""
        return [megabytes for runs in range(first, first + 10) for megabytes in self.memory[runs]]


def percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {f"p{p}": round(float(np.percentile(seconds, p)), 2) for p in (50, 95, 99)}


class Visitor:
    """One of many. Acts until `stop` is set."""

    def __init__(self, number: int, url: str, config: dict, report: Report, stop: threading.Event):
        self.seed, self.url, self.report, self.stop = number, url, report, stop
        self.rng = random.Random(number)
        self.session = f"visitor{number}"
        self.headers = {"x-forwarded-for": f"10.1.{number // 250}.{number % 250 + 1}"}
        # The server closes idle connections after five seconds: kept for as long, some are used too late.
        limits = httpx.Limits(keepalive_expiry=2)
        self.http = httpx.Client(timeout=120, headers=self.headers, limits=limits)
        self.values = {each["id"]: each["props"].get("value") for each in config["components"]}
        self.events = {each["api_name"]: each for each in config["dependencies"]}

    def act(self) -> None:
        client = Client(self.url, headers=self.headers, verbose=False, download_files=False)
        self.attempt(self.click, OPENING)
        while not self.stop.is_set():
            if self.rng.random() < RUNS_SHARE:
                self.attempt(self.run, client)
            else:
                self.attempt(self.click, self.rng.choice(CLICKS))
            self.stop.wait(self.rng.expovariate(1 / BETWEEN))

    def attempt(self, action: Callable[..., None], *given: Any) -> None:
        try:
            action(*given)
        except Exception as error:
            self.report.problems[f"{type(error).__name__}: {str(error)[:80]}"] += 1

    def run(self, client: Client) -> None:
        """A run, of which the picture must be this visitor's."""
        start = time.monotonic()
        try:
            answer = client.predict(**RUN, seed=self.seed, api_name="/generate")
        except AppError as error:  # refused, in words
            self.report.problems[f"refused: {str(error)[:80]}"] += 1
            return
        took = time.monotonic() - start
        picture = self.http.get(answer["candidates"][0]["image"]["url"]).content
        found = hashlib.sha256(picture).hexdigest()
        if self.report.pictures.setdefault(self.seed, found) != found:
            self.report.problems["somebody else's result"] += 1
        self.report.runs.append(took)

    def click(self, name: str) -> None:
        """One of the page's events, by the name of its handler."""
        event = self.events[name]
        body = {
            "fn_index": event["id"],
            "data": [self.values.get(component) for component in event["inputs"]],
            "event_data": {"index": self.rng.randrange(4), "toggle": False},  # of a card
            "session_hash": self.session,
        }
        start = time.monotonic()
        self.http.post(f"{self.url}/gradio_api/queue/join", json=body).raise_for_status()
        with self.http.stream("GET", f"{self.url}/gradio_api/queue/data?session_hash={self.session}") as stream:
            for line in stream.iter_lines():
                if '"process_completed"' in line:
                    if '"success":true' not in line:
                        self.report.problems[f"{name} failed"] += 1
                    break
        self.report.clicks.append(time.monotonic() - start)


def load(server: Server, visitors: int, minutes: float) -> dict:
    """All visitors at once for so long. Returns the report."""
    config = httpx.get(f"{server.url}/config").json()
    report, stop = Report(), threading.Event()
    people = [Visitor(number, server.url, config, report, stop) for number in range(visitors)]
    threads = [threading.Thread(target=person.act, daemon=True) for person in people]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        report.memory[len(report.runs)].append(server.memory())
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join(120)
    if len(set(report.pictures.values())) < len(report.pictures):
        report.problems["two seeds with one picture"] += 1
    return report.to_dict(server) | {"tracebacks": dict(server.tracebacks())}


if __name__ == "__main__":
    main("benchmarks.load", __doc__, {"visitors": 50, "minutes": 10.0}, load)
