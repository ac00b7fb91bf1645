"""Compares I4VGen, its ablations and the model without it, on prompts that nothing was tuned on.

    python -m benchmarks.evidence --model pocket --prompts 40 --seeds 4
    python -m benchmarks.evidence --model animatediff --judge vbench

Every prompt and seed is a file in --out, so that a run that was stopped goes on where it was, and one with
other --methods draws those that are missing.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.evidence.drawing import Job, draw, undrawn
from benchmarks.evidence.judge import FOLDER, Judge
from benchmarks.evidence.judging import judge_pocket, judge_vbench, try_on_real_clips
from benchmarks.evidence.methods import METHODS, REAL
from benchmarks.evidence.prompts import FIRST_SEED, OF_THE_REAL_WORLD, make_prompts, read_prompts
from benchmarks.evidence.report import write_report
from i4vgen.errors import InvalidInputError
from i4vgen.serving.runtime import Runtime
from training.config import PRESETS
from training.flow_backbone import register
from training.loop import device_name
from training.world import full_caption


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
    seeds = [FIRST_SEED + seed for seed in range(args.seeds)]
    # Seed after seed, so that a run that is stopped has seen all prompts.
    jobs = [
        Job(number, seed, *prompt, args.out / f"prompt-{number:03d}-seed-{seed}.npz")
        for seed in seeds
        for number, prompt in enumerate(args.prompts)
    ]
    for job in tqdm(jobs, desc="drawing", disable=None):
        try:
            missing = undrawn(job, args.model, args.methods)
        except InvalidInputError as error:
            raise SystemExit(f"error: {error}") from error
        if missing:
            draw(runtime, job, missing)
    about = {
        "model": args.model,
        "device": device_name(torch.device(runtime.device)),
        "date": datetime.date.today().isoformat(),
        "prompts": [prompt for prompt, _ in args.prompts],
        "seeds": seeds,
    }
    methods = args.methods
    if args.judge == "vbench":
        measured = judge_vbench(jobs, args.methods, args.out, runtime.device, runtime.defaults.fps)
        real = None
    else:
        judge = Judge.load(Path(args.judge))
        accuracy, real = try_on_real_clips(judge, PRESETS[args.preset])
        about["accuracy"] = accuracy
        measured = judge_pocket(jobs, args.methods, judge, accuracy, PRESETS[args.preset])
        methods = [*methods, REAL]
    write_report(args.out, methods, measured, real, about)


if __name__ == "__main__":
    main()
