"""Compares I4VGen, its ablations and the model without it, on prompts that nothing was tuned on.

    python -m benchmarks.evidence --model pocket --prompts 40 --seeds 4

Every prompt and seed is a file in --out, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.evidence.judge import FOLDER, Judge
from benchmarks.evidence.methods import METHODS, Comparison
from benchmarks.evidence.metrics import METRICS
from benchmarks.evidence.prompts import FIRST_SEED, make_prompts
from benchmarks.evidence.report import write_report
from i4vgen.request import Request
from i4vgen.runtime import Runtime
from training.config import PRESETS, Preset
from training.data import draw_all, render
from training.loop import device_name
from training.world import Shown, full_caption

REAL_CLIPS = 400  # held out, for the Frechet distance


def draw(runtime: Runtime, shown: Shown, seed: int, methods: list[str], path: Path) -> None:
    """Writes the videos of all methods of one prompt and seed."""
    request = Request.for_model(runtime.defaults, prompt=full_caption(shown), seed=seed)

    def work(pipeline):
        comparison = Comparison(pipeline, request)
        for method in methods:
            yield method, comparison.outcome(method)

    made = dict(runtime.stream(work))
    arrays = {f"{method} frames": outcome.frames for method, outcome in made.items()}
    arrays |= {f"{method} seconds": np.array(outcome.seconds) for method, outcome in made.items()}
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        np.savez_compressed(file, **arrays)
    new.replace(path)


def measure(judge: Judge, path: Path, shown: Shown, methods: list[str]) -> dict[str, dict]:
    """By method: all figures of its video, its seconds, and the judge's features."""
    wanted = {head: getattr(shown, head) for head in Judge.heads}
    found = {}
    with np.load(path) as stored:
        for method in methods:
            frames = stored[f"{method} frames"]
            figures, features = judge.measure(frames, wanted)
            figures |= {name: metric(frames) for name, metric in METRICS.items()}
            found[method] = {
                "figures": figures,
                "seconds": float(stored[f"{method} seconds"]),
                "features": features,
            }
    return found


def real_features(judge: Judge, preset: Preset) -> np.ndarray:
    """The judge's features of real clips that nobody has learned from, [N, D]."""
    clips = draw_all(partial(render, preset, "judge-test"), REAL_CLIPS, "drawing real clips")
    return np.stack(
        [judge.measure(clip.frames, {h: getattr(clip.shown, h) for h in Judge.heads})[1] for clip in clips]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated (default all)")
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="the world of the model (default cpu)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--judge", type=Path, default=FOLDER, help="its folder (default: the one that is shipped)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    args = parser.parse_args()
    methods = args.methods.split(",")
    if unknown := [name for name in methods if name not in METHODS]:
        parser.error(f"unknown method {unknown[0]!r}: known are {', '.join(METHODS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    judge = Judge.load(args.judge)
    preset = PRESETS[args.preset]
    prompts = make_prompts(preset, args.prompts)
    runtime = Runtime(args.model, args.device)
    # Seed after seed, so that a run that is stopped has seen all prompts.
    jobs = [(number, seed) for seed in range(args.seeds) for number in range(args.prompts)]
    files = {job: args.out / f"prompt-{job[0]:03d}-seed-{job[1]}.npz" for job in jobs}
    for number, seed in tqdm(jobs, desc="drawing", disable=None):
        if not files[number, seed].exists():
            draw(runtime, prompts[number], FIRST_SEED + seed, methods, files[number, seed])
    measured = {
        job: measure(judge, files[job], prompts[job[0]], methods)
        for job in tqdm(jobs, desc="judging", disable=None)
    }
    write_report(
        args.out,
        methods,
        measured,
        real_features(judge, preset),
        {
            "model": args.model,
            "device": device_name(torch.device(runtime.device)),
            "date": datetime.date.today().isoformat(),
            "prompts": [full_caption(shown) for shown in prompts],
            "seeds": [FIRST_SEED + seed for seed in range(args.seeds)],
        },
    )


if __name__ == "__main__":
    main()
