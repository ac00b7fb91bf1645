"""Draws what is compared, one file for each prompt and seed, so that a run that was stopped goes on, and one
that compares more draws what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.evidence.methods import Comparison
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.serving.runtime import Runtime
from training.world import Shown


@dataclass(frozen=True)
class Job:
    """One prompt, of this number, with one seed. shown: what the prompt asks for, if it is one of the pocket
    model's. path: where its videos are kept.
    """

    number: int
    seed: int
    prompt: str
    shown: Shown | None
    path: Path

    @property
    def name(self) -> str:
        return self.path.stem


def undrawn(job: Job, model: str, methods: list[str]) -> list[str]:
    """Those methods that the job's file does not have yet.

    Raises:
        InvalidInputError: The file has another model's videos.
    """
    if not job.path.exists():
        return methods
    with np.load(job.path) as stored:
        if (drawn_by := str(stored.get("model", "an older version"))) != model:
            raise InvalidInputError(f"{job.path} was drawn by {drawn_by}, not {model}: choose another --out")
        return [method for method in methods if f"{method} frames" not in stored]


def draw(runtime: Runtime, job: Job, methods: list[str]) -> None:
    """Adds the videos of these methods to the job's file."""
    config = GenerationConfig.for_model(runtime.defaults, prompt=job.prompt, seed=job.seed)

    def work(pipeline):
        comparison = Comparison(pipeline, config)
        for method in methods:
            yield method, comparison.outcome(method)

    made = dict(runtime.stream(work))
    arrays = {"model": np.array(runtime.spec.model)}
    if job.path.exists():
        with np.load(job.path) as stored:
            arrays |= dict(stored)
    arrays |= {f"{method} frames": outcome.frames for method, outcome in made.items()}
    arrays |= {f"{method} seconds": np.array(outcome.seconds) for method, outcome in made.items()}
    new = job.path.with_suffix(".new")
    with new.open("wb") as file:
        np.savez_compressed(file, **arrays)
    new.replace(job.path)


def read_frames(job: Job, method: str) -> np.ndarray:
    """A video, uint8 [F, H, W, 3]."""
    with np.load(job.path) as stored:
        return stored[f"{method} frames"]


def read_seconds(job: Job, method: str) -> float:
    """How long it took. Unpacks no video."""
    with np.load(job.path) as stored:
        return float(stored[f"{method} seconds"])
