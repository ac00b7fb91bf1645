"""How a batch grows with its workers, and what a large cluster would do: `python -m benchmarks.cluster`.

    python -m benchmarks.cluster                  # 1 and 2 workers on this machine, and a simulation from that
    python -m benchmarks.cluster --seconds 27.9   # simulated with runs that take so long

Measured with the batch's own executor, from the end of the first run of every worker to the last end, so that
starting is left out; and what the driver has to do: for each run the time of an empty call and of noting its
result, and besides to look whether anything has happened. Every run is compared with vanilla and FreeInit:
three methods.

The simulation gives each run to the worker that is free first, as the executor does, and lets it take one of
the measured times, drawn at random. The driver has to do with one run at a time: enough workers wait for it.
"""

from __future__ import annotations

import argparse
import datetime
import heapq
import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray.util.queue import Queue

from i4vgen.batch.cluster import POLL, RayExecutor, Share
from i4vgen.batch.folder import find_folder
from i4vgen.batch.progress import BatchLines
from i4vgen.batch.prompts import Row
from i4vgen.batch.summary import Summary
from i4vgen.batch.tasks import Task, plan
from i4vgen.runtime import Runtime

VBENCH = 946 * 5
"""The runs of a whole VBench: its prompts, five seeds each."""

COMPARE = ["vanilla", "freeinit"]

CALLS = 200
"""Empty calls that are timed."""

LOOKS = 50
"""Looks at workers that have nothing to say that are timed."""


@dataclass(frozen=True)
class Measured:
    """A batch with so many workers.

    Attributes:
        runs_per_minute: Of all workers together.
        between: Seconds from each end of a run to the next: with one worker, what a run takes.
        driver: Seconds in which the driver notes what has become of a run.
    """

    workers: int
    runs_per_minute: float
    between: list[float]
    driver: float


def measure(tasks: Sequence[Task], runtime: Runtime, workers: int, share: Share) -> Measured:
    """Makes the tasks with so many workers, of which each is to have more than one."""
    with tempfile.TemporaryDirectory() as folder:
        out = find_folder(folder)
        summary, ends, noting = Summary.of(out, "benchmark", tasks), [], []
        for outcome in RayExecutor(share, runtime, out, BatchLines(tasks, 0)).run(tasks):
            assert not outcome.error, outcome.error
            ends.append(time.perf_counter())
            summary.add(outcome.task)
            noting.append(time.perf_counter() - ends[-1])
    between = [later - earlier for earlier, later in itertools.pairwise(ends[workers - 1 :])]
    return Measured(workers, 60 * len(between) / sum(between), between, statistics.mean(noting))


def measure_call() -> float:
    """Seconds of an empty call of an actor, there and back."""

    class Empty:
        def call(self):
            pass

    actor = ray.remote(Empty).options(num_cpus=0).remote()
    ray.get(actor.call.remote())
    start = time.perf_counter()
    for _ in range(CALLS):
        ray.get(actor.call.remote())
    return (time.perf_counter() - start) / CALLS


def measure_looking() -> float:
    """Processor time of the driver for each second in which nothing happens: it looks all the same."""

    class Busy:
        def call(self):
            time.sleep(10 * LOOKS * POLL)

    post, busy = Queue(actor_options={"num_cpus": 0}), ray.remote(Busy).options(num_cpus=0).remote()
    call = busy.call.remote()
    post.qsize()
    start, began = time.process_time(), time.perf_counter()
    for _ in range(LOOKS):
        ray.wait([call], timeout=POLL)
        post.get_nowait_batch(post.qsize())
    share = (time.process_time() - start) / (time.perf_counter() - began)
    ray.kill(busy)
    return share


def simulate(runs: int, workers: int, seconds: Sequence[float], overhead: float) -> float:
    """Seconds until all runs are over.

    Args:
        seconds: What runs take; each takes one of these.
        overhead: Seconds that the driver has to do with each run, one after the other.
    """
    draw = random.Random(0)
    working = [draw.choice(seconds) for _ in range(min(workers, runs))]  # when each is over
    heapq.heapify(working)
    left, driver = runs - len(working), 0.0
    while working:
        driver = max(driver, heapq.heappop(working)) + overhead
        if left:
            left -= 1
            heapq.heappush(working, driver + draw.choice(seconds))
    return driver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="pocket")
    add("--device", default="cpu", choices=("cpu", "cuda"))
    add("--runs", type=int, default=12, help="Measured with each number of workers.")
    add("--candidates", type=int)
    add("--steps", type=int)
    add("--gpus", type=int, default=100, help="Simulated.")
    add("--seconds", type=float, help="Of a simulated run; by default the measured ones.")
    args = parser.parse_args()
    if args.runs < 4:
        parser.error("--runs must be at least 4: the first of each worker does not count")
    given = {"num_candidates": args.candidates, "num_inference_steps": args.steps, "compare": COMPARE}
    options = {name: value for name, value in given.items() if value is not None}
    rows = [Row(n, {"prompt": "a rocket rising in a starry night", "seed": n}) for n in range(args.runs)]
    runtime = Runtime(args.model, "cpu")
    tasks = [task for task in plan(rows, None, options, runtime) if isinstance(task, Task)]
    results, call, looking = [], 0.0, 0.0
    for workers in (1, 2):
        # Two cores for each worker in Ray's books, whether the machine has them or not.
        devices = {"num_cpus": 2 * workers, "num_gpus": workers if args.device == "cuda" else 0}
        share = Share.of([{"CPU": devices["num_cpus"], "GPU": devices["num_gpus"]}], args.device)
        ray.init(
            address="local", include_dashboard=False, log_to_driver=False, logging_level="error", **devices
        )
        try:
            results.append(measure(tasks, runtime, workers, share))
            call, looking = measure_call(), measure_looking()
        finally:
            ray.shutdown()
    seconds = [args.seconds] if args.seconds else results[0].between
    overhead = results[0].driver + call
    alone, many = (simulate(VBENCH, workers, seconds, overhead) for workers in (1, args.gpus))
    print(f"{args.model} ({args.device}), {os.cpu_count()} CPU cores, {datetime.date.today()}")
    for result in results:
        print(f"{result.workers} workers: {result.runs_per_minute:.1f} runs per minute")
    words = f"{1000 * overhead:.1f} ms a run, {1000 * call:.1f} of them for a call"
    print(f"the driver: {words}, and {looking:.1%} of a core to look")
    print(
        f"simulated, {VBENCH} runs of {statistics.mean(seconds):.1f} s: {alone / 3600:.1f} h with"
        f" one worker, {many / 60:.0f} min with {args.gpus}, {alone / many:.0f} times as fast"
    )


if __name__ == "__main__":
    main()
