"""Simulates many concurrent visitors: checks that each gets their own results, and times runs and clicks.

    python -m benchmarks.load --visitors 50 --minutes 10

Every visitor has their own address, session and seed, opens the page, and alternates between short runs and
clicks: picking a card, starring, sorting the cards, reloading the page. A result belongs to its visitor if its
picture equals the first picture of this seed and differs from the pictures of all other seeds. Reports waiting
times, refusals, memory (the median over ten runs) and disk.
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

import numpy as np
from gradio_client import Client
from gradio_client.exceptions import AppError

from benchmarks.serving import Server, main
from tests.support.gradio_protocol import Tab, open_client

RUN = {"prompt": "a racing car", "num_candidates": 1, "num_inference_steps": 2, "compare": []}
RUNS_SHARE = 0.3
OPENING = "on_load"
CLICKS = (OPENING, "on_card", "on_card", "on_star", "on_order")
"""Clicks of visitors by the names of their handlers; frequent ones are repeated."""

SHOWN = {"on_star": [{"anchor": 0, "starred": False}]}
"""State of the page, for the handlers that receive it."""

MARKS = (0, 20, 50, 100, 200, 400, 800)
"""Numbers of runs after which the report gives the server's memory."""

BETWEEN = 1.0  # seconds, on average, between two actions of a visitor


@dataclass
class Measurements:
    """Measurements of all visitors.

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
        """Collects the memory during ten runs from this number on; it varies within each run."""
        return [megabytes for runs in range(first, first + 10) for megabytes in self.memory[runs]]


def percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {f"p{p}": round(float(np.percentile(seconds, p)), 2) for p in (50, 95, 99)}


class Visitor:
    """One simulated visitor. Acts until `stop` is set."""

    def __init__(self, number: int, url: str, config: dict, measured: Measurements, stop: threading.Event):
        self.seed, self.measured, self.stop = number, measured, stop
        self.rng = random.Random(number)
        self.address = f"10.1.{number // 250}.{number % 250 + 1}"
        self.tab = Tab(url, f"visitor{number}", self.address, config)

    def act(self) -> None:
        headers = {"x-forwarded-for": self.address}
        client = open_client(self.tab.url, headers=headers, download_files=False)
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
            self.measured.problems[f"{type(error).__name__}: {str(error)[:80]}"] += 1

    def run(self, client: Client) -> None:
        """Makes a run and checks that its picture is this visitor's."""
        start = time.monotonic()
        try:
            answer = client.predict(**RUN, seed=self.seed, api_name="/generate")
        except AppError as error:  # refused with a message
            self.measured.problems[f"refused: {str(error)[:80]}"] += 1
            return
        took = time.monotonic() - start
        picture = self.tab.http.get(answer["candidates"][0]["image"]["url"]).content
        found = hashlib.sha256(picture).hexdigest()
        if self.measured.pictures.setdefault(self.seed, found) != found:
            self.measured.problems["another visitor's result"] += 1
        self.measured.runs.append(took)

    def click(self, name: str) -> None:
        """Sends an event of the page, by the name of its handler."""
        event_data = {"index": self.rng.randrange(4), "ticked": None}  # of a card
        start = time.monotonic()
        self.tab.join(name, SHOWN.get(name), event_data=event_data)
        (answer,) = self.tab.answers()
        if answer.error is not None:
            self.measured.problems[f"{name} failed"] += 1
        self.measured.clicks.append(time.monotonic() - start)


def load(
    server: Server,
    visitors: int,
    minutes: float,
    until: Callable[[Measurements], bool] = lambda _measured: False,
) -> dict:
    """Runs all visitors concurrently for this many minutes, or until a condition holds. Returns the report."""
    config = Tab(server.url).config
    measured, stop = Measurements(), threading.Event()
    people = [Visitor(number, server.url, config, measured, stop) for number in range(visitors)]
    threads = [threading.Thread(target=person.act, daemon=True) for person in people]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end and not until(measured):
        measured.memory[len(measured.runs)].append(server.memory())
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join(120)
    if len(set(measured.pictures.values())) < len(measured.pictures):
        measured.problems["two seeds with one picture"] += 1
    return measured.to_dict(server) | {"tracebacks": dict(server.tracebacks())}


if __name__ == "__main__":
    main("benchmarks.load", __doc__, {"visitors": 50, "minutes": 10.0}, load)
