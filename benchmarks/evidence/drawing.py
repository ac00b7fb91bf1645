"""Draws what is compared, one file for each prompt and seed, so that a run that was stopped goes on, and one
that compares more draws what is missing.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.evidence.methods import Comparison
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.media import whole_file
from i4vgen.models.portable import identify
from i4vgen.serving.runtime import Runtime
from pocket.world import Shown
from training.loop import device_name


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


def weights_of(runtime: Runtime) -> dict[str, str]:
    """Digests of the model's parts that are folders or files here."""
    sources = runtime.entry.sources.items()
    return {name: identify(Path(source)).sha256 for name, source in sources if Path(source).exists()}


class Drawer:
    """Draws jobs with one model."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.device = device_name(torch.device(runtime.device))
        self.weights = weights_of(runtime)

    def undrawn(self, job: Job, methods: Sequence[str]) -> list[str]:
        """Those methods that the job's file does not have yet.

        Raises:
            InvalidInputError: What the file has was drawn with other weights or settings.
        """
        if not job.path.exists():
            return list(methods)
        with np.load(job.path) as stored:
            if str(stored.get("origin")) != self.origin(job):
                raise InvalidInputError(
                    f"{job.path} was drawn with another model, other weights or other settings:"
                    " choose another --out"
                )
            return [method for method in methods if f"{method} frames" not in stored]

    def draw(self, job: Job, methods: Sequence[str]) -> None:
        """Adds the videos of these methods to the job's file."""
        config = self.config(job)

        def work(pipeline):
            comparison = Comparison(pipeline, config)
            for method in methods:
                yield method, comparison.outcome(method)

        made = dict(self.runtime.stream(work))
        texts = {"origin": self.origin(job), "device": self.device, "date": datetime.date.today().isoformat()}
        arrays = {name: np.array(text) for name, text in texts.items()}
        if job.path.exists():
            with np.load(job.path) as stored:
                arrays = dict(stored) | arrays
        arrays |= {f"{method} frames": outcome.frames for method, outcome in made.items()}
        arrays |= {f"{method} seconds": np.array(outcome.seconds) for method, outcome in made.items()}
        arrays |= {f"{m} anchor": outcome.anchor for m, outcome in made.items() if outcome.anchor is not None}
        with whole_file(job.path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def origin(self, job: Job) -> str:
        """What the videos of a job depend on, as JSON."""
        return json.dumps(
            {"model": self.runtime.spec.model, "weights": self.weights, **self.config(job).to_dict()}
        )

    def config(self, job: Job) -> GenerationConfig:
        return GenerationConfig.for_model(self.runtime.defaults, prompt=job.prompt, seed=job.seed)


def read_frames(job: Job, method: str) -> np.ndarray:
    """A video, uint8 [F, H, W, 3]."""
    with np.load(job.path) as stored:
        return stored[f"{method} frames"]


def read_anchor(job: Job, method: str) -> np.ndarray | None:
    """The picture that a video began with, uint8 [H, W, 3]; None if it began with none, or was not drawn."""
    with np.load(job.path) as stored:
        return stored.get(f"{method} anchor")


def read_seconds(job: Job, method: str) -> float:
    """How long it took. Unpacks no video."""
    with np.load(job.path) as stored:
        return float(stored[f"{method} seconds"])


def read_device_and_date(job: Job) -> tuple[str, str]:
    """Where and when its last videos were drawn."""
    with np.load(job.path) as stored:
        return str(stored["device"]), str(stored["date"])
