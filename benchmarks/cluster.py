"""Measures how a batch scales with its workers, and simulates a large cluster.

    python -m benchmarks.cluster                  # 1 and 2 workers on this machine, and a simulation from that
    python -m benchmarks.cluster --seconds 27.9   # simulates runs of this length

Measures the batch's own executor from the end of each worker's first run to the last end, which leaves out the
start; and the driver's work: for each run an empty call and the recording of its result, and in between the
polling of the workers. Every run includes vanilla and FreeInit: three methods.

The simulation gives each run to the first free worker, as the executor does, with one of the measured times at
random. The driver handles one run at a time, so that many workers wait for it.
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

from i4vgen.cli.batch.cluster import POLL, RayExecutor, Share
from i4vgen.cli.batch.folder import find_folder
from i4vgen.cli.batch.progress import BatchLines
from i4vgen.cli.batch.prompts import PromptLine
from i4vgen.cli.batch.summary import Summary
from i4vgen.cli.batch.tasks import Task, plan
from i4vgen.serving.runtime import Runtime

VBENCH = 946 * 5
"""Number of runs for all of VBench's prompts with five seeds each."""

COMPARE = ["vanilla", "freeinit"]

CALLS = 200
"""Number of empty calls to time."""

LOOKS = 50
"""Number of polls without news to time."""


@dataclass(frozen=True)
class Measured:
    """Measurements of a batch with a number of workers.

    Attributes:
        runs_per_minute: Of all workers together.
        between: Seconds between the ends of consecutive runs; with one worker, the time of a run.
        driver: Seconds for the driver to record the result of a run.
    """

    workers: int
    runs_per_minute: float
    between: list[float]
    driver: float


def measure(tasks: Sequence[Task], runtime: Runtime, workers: int, share: Share) -> Measured:
    """Makes the tasks with this many workers, each of which must get several."""
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
    """Measures the seconds of an empty call of an actor, there and back."""

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
    """Measures the share of a core that the driver uses for polling while nothing happens."""

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
    """Simulates the seconds until all runs are finished.

    Args:
        seconds: Times of runs, of which each run takes one at random.
        overhead: Seconds of the driver for each run, one after the other.
    """
    draw = random.Random(0)
    working = [draw.choice(seconds) for _ in range(min(workers, runs))]  # the end of each
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
    add("--runs", type=int, default=12, help="Runs to measure with each number of workers.")
    add("--candidates", type=int)
    add("--steps", type=int)
    add("--gpus", type=int, default=100, help="Workers to simulate.")
    add("--seconds", type=float, help="Length of simulated runs (default: as measured).")
    args = parser.parse_args()
    if args.runs < 4:
        parser.error("--runs must be at least 4: the first of each worker does not count")
    given = {"num_candidates": args.candidates, "num_inference_steps": args.steps, "compare": COMPARE}
    options = {name: value for name, value in given.items() if value is not None}
    rows = [PromptLine(n, {"prompt": "a rocket rising in a starry night", "seed": n}) for n in range(args.runs)]
    runtime = Runtime(args.model, "cpu")
    tasks = [task for task in plan(rows, None, options, runtime) if isinstance(task, Task)]
    results, call, looking = [], 0.0, 0.0
    for workers in (1, 2):
        # Tells Ray of two cores per worker, whether the machine has them or not.
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
    words = f"{1000 * overhead:.1f} ms a run, {1000 * call:.1f} ms of it for a call"
    print(f"the driver: {words}, and {looking:.1%} of a core to poll")
    print(
        f"simulated, {VBENCH} runs of {statistics.mean(seconds):.1f} s: {alone / 3600:.1f} h with"
        f" one worker, {many / 60:.0f} min with {args.gpus}, {alone / many:.0f} times as fast"
    )


if __name__ == "__main__":
    main()
