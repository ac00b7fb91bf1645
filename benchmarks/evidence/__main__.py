"""Compares I4VGen, its ablations and the model without it, on prompts that nothing was tuned on.

    python -m benchmarks.evidence --model pocket --prompts 40 --seeds 4
    python -m benchmarks.evidence --model animatediff --judge vbench

Every prompt and seed is a file in --out, so that a run that was stopped goes on where it was, and one with
other --methods draws those that are missing. The report is in a folder there, named by the numbers of prompts
and seeds. For the pocket model, the figures are compared with those that the repository keeps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.evidence.drawing import Drawer, Job, read_device_and_date
from benchmarks.evidence.imagenet import ImageNetJudge, Probe
from benchmarks.evidence.judging import RIGHT_ENOUGH, Jury, judge_pocket, judge_vbench, try_on_real_clips
from benchmarks.evidence.methods import METHODS, REAL
from benchmarks.evidence.prompts import FIRST_SEED, OF_THE_REAL_WORLD, make_prompts, read_prompts
from benchmarks.evidence.report import Splits, write_report
from benchmarks.evidence.rows import compare_with_stored
from benchmarks.evidence.selection import COUNTS, select, selection_table
from i4vgen.errors import InvalidInputError
from i4vgen.serving.runtime import Runtime
from pocket.judge import FOLDER, Judge
from pocket.presets import PRESETS
from pocket.world import full_caption
from training.flow_backbone import register


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated (default all)")
    parser.add_argument(
        "--candidates",
        type=int,
        default=max(COUNTS),
        help="of each prompt and seed, among which the reward is seen to choose (default %(default)s; 0: none)",
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--judge",
        default=str(FOLDER),
        help="the folder of a pocket model's judge (default: the one that is shipped), or vbench",
    )
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="the world of a pocket model")
    parser.add_argument(
        "--prompt-file", type=Path, default=OF_THE_REAL_WORLD, help="for VBench: prompts, one on each line"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    args = parser.parse_args()
    args.methods = args.methods.split(",")
    if unknown := [name for name in args.methods if name not in METHODS]:
        parser.error(f"unknown method {unknown[0]!r}: known are {', '.join(METHODS)}")
    try:
        args.prompts = (
            [(prompt, None) for prompt in read_prompts(args.prompt_file, args.prompts)]
            if args.judge == "vbench"
            else [(full_caption(shown), shown) for shown in make_prompts(PRESETS[args.preset], args.prompts)]
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return args


def main() -> None:
    args = parse_arguments()
    register()
    args.out.mkdir(parents=True, exist_ok=True)
    runtime = Runtime(args.model, args.device)
    drawer = Drawer(runtime)
    seeds = [FIRST_SEED + seed for seed in range(args.seeds)]
    # Seed after seed, so that a run that is stopped has seen all prompts.
    jobs = [
        Job(number, seed, *prompt, args.out / f"prompt-{number:03d}-seed-{seed}.npz")
        for seed in seeds
        for number, prompt in enumerate(args.prompts)
    ]
    about = {"model": args.model, "prompts": [prompt for prompt, _ in args.prompts], "seeds": seeds}
    report = args.out / f"{len(args.prompts)}-prompts-{len(seeds)}-seeds"
    if args.judge == "vbench":
        draw_missing(drawer, jobs, args.methods)
        measured = judge_vbench(jobs, args.methods, args.out, runtime.device, runtime.defaults.fps)
        write_report(report, args.methods, measured, None, about | drawn(jobs))
        return
    preset = PRESETS[args.preset]
    # Loaded before the hours of drawing, so that what is missing is missed at once.
    judge, imagenet = Judge.load(Path(args.judge)), ImageNetJudge()
    accuracy, real = try_on_real_clips(judge, preset)
    probe = Probe.load_or_fit(args.out / f"probe-{args.preset}.safetensors", preset, imagenet)
    draw_missing(drawer, jobs, args.methods, args.candidates)
    heads = [head for head in Judge.heads if accuracy[head] >= RIGHT_ENOUGH]
    jury = Jury(judge, heads, imagenet, probe)
    measured = judge_pocket(jobs, args.methods, jury, preset)
    about |= drawn(jobs) | {"accuracy": accuracy, "probe_accuracy": probe.accuracy}
    further = []
    if args.candidates:
        about["selection"] = select(jobs, jury, args.candidates)
        further.append(selection_table(about["selection"]))
    splits = Splits.of([shown for _, shown in args.prompts])
    write_report(report, [*args.methods, REAL], measured, real, about, splits, further)
    if args.model == "pocket":
        print(compare_with_stored(measured))


def draw_missing(drawer: Drawer, jobs: Sequence[Job], methods: Sequence[str], candidates: int = 0) -> None:
    """Draws what the jobs' files do not have yet. Exits if they have what another model has drawn.

    candidates: of each job, in a file of their own.
    """
    for job in tqdm(jobs, desc="drawing", disable=None):
        try:
            missing = drawer.undrawn(job, methods)
            lacks_pool = candidates and drawer.lacks_pool(job, candidates)
        except InvalidInputError as error:
            raise SystemExit(f"error: {error}") from error
        if missing:
            drawer.draw(job, missing)
        if lacks_pool:
            drawer.draw_pool(job, candidates)


def drawn(jobs: Sequence[Job]) -> dict[str, str]:
    """Where and when the videos were drawn."""
    devices, dates = zip(*(read_device_and_date(job) for job in jobs), strict=True)
    return {"device": " and ".join(sorted(set(devices))), "date": max(dates)}


if __name__ == "__main__":
    main()
