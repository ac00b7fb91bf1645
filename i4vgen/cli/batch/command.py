"""The command `i4vgen batch`: makes a folder of runs, summary.csv and index.html from a file of prompts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from i4vgen.cli.batch.prompts import CHOICES, PromptLine, read_prompts
from i4vgen.cli.options import Parser, add_run_options, chosen_model, given_settings, set_models_dirs
from i4vgen.errors import unwritable
from i4vgen.models.catalog import ModelSpec, default_model
from i4vgen.serving.imports import gc_paused

if TYPE_CHECKING:
    from i4vgen.cli.batch.cluster import Share
    from i4vgen.cli.batch.folder import BatchFolder
    from i4vgen.cli.batch.summary import SummaryRow
    from i4vgen.cli.batch.tasks import Task
    from i4vgen.storage.run_file import RunFile

DESCRIPTION = """\
Makes the videos of many prompts: one folder per run, as a single run writes it, a table (summary.csv) and a
page to browse them (index.html). Finished runs are not made again: after a stop or a crash, the same command
goes on. Exit status: 0 if all runs are done, 1 if some failed, 2 for a command that cannot be run or a folder
that cannot be written to, 130 if it was stopped.
"""

MAX_SEEDS = 10_000


def run_batch(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit status."""
    args = parse(argv)
    set_models_dirs(args)
    rows = read_prompts(args.prompts)
    with gc_paused():
        # Imported here because it takes seconds: --help and input errors should be immediate.
        from i4vgen.cli.batch.folder import find_folder

    folder = find_folder(args.out)
    if not args.ray:
        return _run(args, rows, folder)
    from i4vgen.cli.batch.cluster import connect

    with connect(args.ray, args.device) as share:
        return _run(args, rows, folder, share)


def _run(
    args: argparse.Namespace, rows: Sequence[PromptLine], folder: BatchFolder, share: Share | None = None
) -> int:
    """Makes the missing runs of the batch and returns the exit status.

    Args:
        args: The parsed command line.
        rows: The lines of the prompt file.
        folder: The folder of the batch.
        share: The resources of each cluster worker; None to run in this process.
    """
    from i4vgen.cli.batch.executor import LocalExecutor
    from i4vgen.cli.batch.progress import make_batch_listener
    from i4vgen.cli.batch.summary import DONE, FAILED, Summary
    from i4vgen.cli.batch.tasks import Task, plan
    from i4vgen.cli.batch.vbench import VBenchLayout, fitting
    from i4vgen.cli.listeners import warn_of_unused_gpu, warn_of_words
    from i4vgen.serving.runtime import Runtime
    from i4vgen.storage.run_place import room_for, writing_to

    if share:  # the default model depends on the cluster's device; this process only plans
        model = chosen_model(args, ModelSpec(default_model(share.device)))
        runtime = Runtime(model, "cpu", args.compile)
    else:
        runtime = Runtime(chosen_model(args), args.device, args.compile)
        warn_of_unused_gpu(args.device)
    options = given_settings(args)
    options |= {name: value for name in CHOICES if (value := getattr(args, name)) is not None}
    planned = plan(rows, args.seeds, options, runtime)
    if args.layout == "vbench":
        planned = [fitting(each) for each in planned]
    tasks = [each for each in planned if isinstance(each, Task)]
    warn_of_words(runtime, [task.config for task in tasks])

    summary = Summary.of(folder, args.prompts.name, planned)

    def record(task: Task, error: str = "", file: RunFile | None = None) -> SummaryRow:
        if layout and not error:
            with writing_to(layout.out):
                layout.add(task)
        return summary.add(task, error, file)

    found = list(zip(tasks, folder.find_all(tasks), strict=True))
    missing = [task for task, file in found if not file]
    made = len(tasks) - len(missing)
    folder.check(sum(room_for(task.config, task.compare) for task in missing))
    try:
        layout = VBenchLayout(folder, tasks) if args.layout == "vbench" else None
        for task, file in found:
            if file:
                record(task, file=file)
        summary.write()
    except OSError as error:
        raise unwritable(folder, error) from None
    listener = make_batch_listener(args.json, missing, made, runtime)
    if share:
        from i4vgen.cli.batch.cluster import RayExecutor

        executor = RayExecutor(share, runtime, folder, listener, args.metadata)
    else:
        executor = LocalExecutor(runtime, folder, listener, args.metadata)
    try:
        with closing(executor.run(missing)) as outcomes:
            for outcome in outcomes:
                listener.finish_run(record(outcome.task, outcome.error))
    finally:
        listener.close()
        summary.write()
    listener.finish(folder.locate("index.html"), summary.count(DONE), summary.count(FAILED))
    return 1 if summary.count(FAILED) else 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the command line of `i4vgen batch`."""
    parser = Parser(
        prog="i4vgen batch", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "prompts",
        type=Path,
        metavar="PROMPTS",
        help="Text (a prompt per line), CSV, Excel or JSONL (a run per line). Columns: prompt, seed, compare,"
        " anchor, anchor_image and every setting below, by its name here or in run.json.",
    )
    add(
        "--out",
        metavar="DIR",
        required=True,
        help="Where the runs go: a folder, or a URL that fsspec takes, such as s3://bucket/study.",
    )
    add(
        "--seeds",
        type=seeds,
        metavar="0-4",
        help="Run every prompt with each of these seeds, such as 0-4 or 0,7,10-12.",
    )
    add(
        "--layout",
        choices=("runs", "vbench"),
        default="runs",
        help="vbench: also name the videos DIR/vbench/METHOD/PROMPT-INDEX.mp4, as that package reads them.",
    )
    add(
        "--ray",
        metavar="local|auto|ADDRESS",
        help="Make the runs with Ray (pip install 'i4vgen[cluster]'): on all GPUs of this machine, on the"
        " cluster that it is a node of, or on that of a head HOST:PORT. All nodes must share --out.",
    )
    add_run_options(parser)
    args = parser.parse_args(argv)
    if args.seeds is not None and args.seed is not None:
        parser.error("--seed and --seeds exclude each other: give one of them")
    return args


def seeds(text: str) -> list[int]:
    """Parses a list of seeds such as 0-4 or 0,7,10-12 for argparse.

    Raises:
        argparse.ArgumentTypeError: The text is not such a list, or a range has more than `MAX_SEEDS` seeds.
    """
    found: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,19})\s*(?:-\s*(\d{1,19})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not 0 <= last - first < MAX_SEEDS:
            raise argparse.ArgumentTypeError(f"{text!r} are not seeds: write 0-4 or 0,7,10-12")
        found |= dict.fromkeys(range(first, last + 1))
    return list(found)
