"""Draws what is compared, one file for each prompt and seed, so that a run that was stopped goes on, and one
that compares more draws what is missing.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.evidence.methods import Comparison
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.events import Candidate, latest
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

    @property
    def pool(self) -> Path:
        """Where many candidates of it are kept, of which some are chosen."""
        return self.path.with_stem(f"{self.name}-candidates")


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
        drawn = self._drawn(job.path, self.config(job))
        return [method for method in methods if f"{method} frames" not in drawn]

    def draw(self, job: Job, methods: Sequence[str]) -> None:
        """Adds the videos of these methods to the job's file."""
        config = self.config(job)

        def work(pipeline):
            comparison = Comparison(pipeline, config)
            for method in methods:
                yield method, comparison.outcome(method)

        made = dict(self.runtime.stream(work))
        arrays: dict[str, np.ndarray] = {}
        if job.path.exists():
            with np.load(job.path) as stored:
                arrays = dict(stored)
        arrays |= {f"{method} frames": outcome.frames for method, outcome in made.items()}
        arrays |= {f"{method} seconds": np.array(outcome.seconds) for method, outcome in made.items()}
        arrays |= {f"{m} anchor": outcome.anchor for m, outcome in made.items() if outcome.anchor is not None}
        self._write(job.path, config, arrays)

    def lacks_pool(self, job: Job, size: int) -> bool:
        """Whether as many candidates are still to be drawn. Raises `InvalidInputError` as `undrawn` does."""
        return not self._drawn(job.pool, self.config(job, num_candidates=size))

    def draw_pool(self, job: Job, size: int) -> None:
        """Draws as many candidates and scores them, in a file of their own."""
        config = self.config(job, num_candidates=size)
        events = self.runtime.stream(lambda pipeline: pipeline.candidates(config))
        candidates = latest(event for event in events if isinstance(event, Candidate))
        images = np.stack([candidate.image for candidate in candidates])
        scores = np.array([candidate.score for candidate in candidates])
        self._write(job.pool, config, {"images": images, "scores": scores})

    def _drawn(self, path: Path, config: GenerationConfig) -> list[str]:
        """The names of the arrays in a file; none where there is no file."""
        if not path.exists():
            return []
        with np.load(path) as stored:
            if str(stored.get("origin")) != self.origin(config):
                raise InvalidInputError(
                    f"{path} was drawn with another model, other weights or other settings:"
                    " choose another --out"
                )
            return list(stored)

    def _write(self, path: Path, config: GenerationConfig, arrays: Mapping[str, np.ndarray]) -> None:
        today = datetime.date.today().isoformat()
        texts = {"origin": self.origin(config), "device": self.device, "date": today}
        with whole_file(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **arrays | {name: np.array(text) for name, text in texts.items()})

    def origin(self, config: GenerationConfig) -> str:
        """All that determines what is drawn, as JSON."""
        return json.dumps({"model": self.runtime.spec.model, "weights": self.weights, **config.to_dict()})

    def config(self, job: Job, **settings: int) -> GenerationConfig:
        return GenerationConfig.for_model(self.runtime.defaults, prompt=job.prompt, seed=job.seed, **settings)


def read_frames(job: Job, method: str) -> np.ndarray:
    """A video, uint8 [F, H, W, 3]."""
    with np.load(job.path) as stored:
        return stored[f"{method} frames"]


def read_anchor(job: Job, method: str) -> np.ndarray | None:
    """The picture that a video began with, uint8 [H, W, 3]; None if it began with none, or was not drawn."""
    with np.load(job.path) as stored:
        return stored.get(f"{method} anchor")


def read_pool(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """A job's candidates, uint8 [P, H, W, 3], and their scores [P]."""
    with np.load(job.pool) as stored:
        return stored["images"], stored["scores"]


def read_seconds(job: Job, method: str) -> float:
    """How long it took. Unpacks no video."""
    with np.load(job.path) as stored:
        return float(stored[f"{method} seconds"])


def read_device_and_date(job: Job) -> tuple[str, str]:
    """Where and when its last videos were drawn."""
    with np.load(job.path) as stored:
        return str(stored["device"]), str(stored["date"])
