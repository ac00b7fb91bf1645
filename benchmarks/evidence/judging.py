"""Who measures the videos: the pocket model's judge, or VBench."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.evidence import vbench_judge
from benchmarks.evidence.drawing import Job, read_frames, read_seconds
from benchmarks.evidence.judge import Judge
from benchmarks.evidence.methods import REAL
from benchmarks.evidence.metrics import METRICS
from benchmarks.evidence.report import Measured
from i4vgen.media import write_video
from training.config import Preset
from training.data import SEEDS, draw_all, render
from training.world import draw_clip

REAL_CLIPS = 400  # held out: what the judge is tried on, and what videos are compared with
RIGHT_ENOUGH = 0.97  # a head that is wrong more often judges nothing

NO_VBENCH = """\
The videos are in {out}/videos. vbench cannot be imported here: it needs an environment of its own. There, run
    pip install vbench
    python -m benchmarks.evidence.vbench_judge {out}
then this command again, which goes on from there."""


def judge_pocket(
    jobs: Sequence[Job], methods: Sequence[str], judge: Judge, accuracy: Mapping[str, float], preset: Preset
) -> Measured:
    """All figures of all videos, and the judge's features of them; of a real clip of every job as well.

    accuracy: of every head of the judge, how often it is right.
    """
    measured: Measured = {}
    heads = [head for head in Judge.heads if accuracy[head] >= RIGHT_ENOUGH]
    for job in tqdm(jobs, desc="judging", disable=None):
        wanted = {head: getattr(job.shown, head) for head in heads}
        videos = {method: (read_frames(job, method), read_seconds(job, method)) for method in methods}
        videos[REAL] = real_clip(job, preset), 0.0
        for method, (frames, seconds) in videos.items():
            figures, features = judge.measure(frames, wanted)
            figures |= {name: metric(frames) for name, metric in METRICS.items()}
            found = {"figures": figures, "seconds": seconds, "features": features}
            measured.setdefault((job.number, job.seed), {})[method] = found
    return measured


def real_clip(job: Job, preset: Preset) -> np.ndarray:
    """Renders a new clip of the prompt, which no network was trained on: uint8 [F, H, W, 3]."""
    rng = np.random.default_rng([SEEDS["judge-test"], job.seed, job.number])
    return draw_clip(rng, *astuple(job.shown), preset.num_frames, preset.size)


def try_on_real_clips(judge: Judge, preset: Preset) -> tuple[dict[str, float], np.ndarray]:
    """Measures the accuracy of every head on clips that were not trained on, and their features [N, D]."""
    clips = draw_all(partial(render, preset, "judge-test"), REAL_CLIPS, "drawing real clips")
    measured = [judge.measure(c.frames, {h: getattr(c.shown, h) for h in Judge.heads}) for c in clips]
    figures, features = zip(*measured, strict=True)
    accuracy = {head: float(np.mean([f[f"{head}_right"] for f in figures])) for head in Judge.heads}
    return accuracy, np.stack(features)


def judge_vbench(jobs: Sequence[Job], methods: Sequence[str], out: Path, device: str, fps: int) -> Measured:
    """VBench's figures of all videos. Exits with what to do where `vbench` cannot be imported."""
    if not all(vbench_judge.results_file(out, method).exists() for method in methods):
        write_videos(jobs, methods, out, fps)
        try:
            vbench_judge.evaluate(out, list(vbench_judge.DIMENSIONS), device)
        except ImportError:
            raise SystemExit(NO_VBENCH.format(out=out)) from None
    measured: Measured = {}
    for method in methods:
        results = vbench_judge.read_results(out, method)
        for job in jobs:
            found = {"figures": results[f"{job.name}.mp4"], "seconds": read_seconds(job, method)}
            measured.setdefault((job.number, job.seed), {})[method] = found
    return measured


def write_videos(jobs: Sequence[Job], methods: Sequence[str], out: Path, fps: int) -> None:
    """The videos as VBench reads them: a folder for each method, and which prompt each file belongs to."""
    folder = out / "videos"
    shutil.rmtree(folder, ignore_errors=True)
    for method in methods:
        (folder / method).mkdir(parents=True)
        for job in tqdm(jobs, desc=f"writing {method}", disable=None):
            write_video(folder / method / f"{job.name}.mp4", read_frames(job, method), fps)
    prompts = {f"{job.name}.mp4": job.prompt for job in jobs}
    (folder / "prompts.json").write_text(json.dumps(prompts, indent=1) + "\n")
