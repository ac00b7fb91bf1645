"""Draws what is compared, one file for each prompt and seed, so that a run that was stopped goes on, and one
that compares more draws what is missing.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.evidence.measured import PROVENANCE, Key
from benchmarks.evidence.methods import Comparison
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.media import whole_file
from i4vgen.models.portable import files_in, identify
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
    def key(self) -> Key:
        return self.number, self.seed

    @property
    def pool(self) -> Path:
        """Where many candidates of it are kept, of which some are chosen."""
        return self.path.with_stem(f"{self.name}-candidates")


@dataclass(frozen=True)
class Drawn:
    """A video, uint8 [F, H, W, 3]; the picture that it is compared with, uint8 [H, W, 3]; how long it took; and
    what the last videos of its file were drawn with.
    """

    frames: np.ndarray
    anchor: np.ndarray
    seconds: float
    provenance: Mapping[str, str]


def weights_of(runtime: Runtime) -> dict[str, str]:
    """Digests of the model's local files, by part and path. Its card is left out: it changes no video."""
    digests = {}
    for part, source in runtime.entry.sources.items():
        place = Path(source)
        for file in [place] if place.is_file() else files_in(place):
            if file.suffix != ".md":
                path = Path(part) / file.relative_to(place)
                digests[path.as_posix()] = identify(file).sha256
    return digests


class Drawer:
    """Draws jobs with one model."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.device = device_name(torch.device(runtime.device))
        self.weights = weights_of(runtime)
        anything = GenerationConfig.for_model(runtime.defaults, prompt="anything")
        self.digest = hashlib.sha256(self.origin(anything).encode()).hexdigest()[:12]
        """Of the model, its weights and its settings: rows with the same one belong together."""

    def undrawn(self, job: Job, methods: Sequence[str]) -> list[str]:
        """Those methods that the job's file does not have yet.

        Raises:
            InvalidInputError: What the file has was drawn with other weights or settings.
        """
        drawn = self._drawn(job.path, self.config(job))
        return [method for method in methods if f"{method} frames" not in drawn]

    def lacks_pool(self, job: Job, size: int) -> bool:
        """Whether as many candidates are still to be drawn. Raises `InvalidInputError` as `undrawn` does."""
        return not self._drawn(job.pool, self.config(job, num_candidates=size))

    def draw(self, job: Job, methods: Sequence[str], pool: int = 0) -> None:
        """Adds the videos of these methods to the job's file, and fills its pool with as many candidates."""
        config = self.config(job)

        def work(pipeline):
            comparison = Comparison(pipeline, config)
            for method in methods:
                yield method, comparison.outcome(method)
            if pool:
                yield job.pool, comparison.candidates(pool)[0]

        made = dict(self.runtime.stream(work))
        if candidates := made.pop(job.pool, None):
            images = np.stack([candidate.image for candidate in candidates])
            scores = np.array([candidate.score for candidate in candidates])
            of_pool = self.config(job, num_candidates=pool)
            self._write(job.pool, of_pool, {"images": images, "scores": scores})
        if not made:  # the file of the videos keeps its date
            return
        arrays: dict[str, np.ndarray] = {}
        if job.path.exists():
            with np.load(job.path) as stored:
                arrays = dict(stored)
        for method, outcome in made.items():
            arrays[f"{method} frames"] = outcome.frames
            arrays[f"{method} seconds"] = np.array(outcome.seconds)
            arrays[f"{method} anchor"] = outcome.anchor
        self._write(job.path, config, arrays)

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
        texts = {"origin": self.origin(config), "weights": self.digest, "device": self.device, "date": today}
        with whole_file(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **arrays | {name: np.array(text) for name, text in texts.items()})

    def origin(self, config: GenerationConfig) -> str:
        """All that determines what is drawn, as JSON."""
        return json.dumps({"model": self.runtime.spec.model, "weights": self.weights, **config.to_dict()})

    def config(self, job: Job, **settings: int) -> GenerationConfig:
        return GenerationConfig.for_model(self.runtime.defaults, prompt=job.prompt, seed=job.seed, **settings)


def read_drawn(job: Job, method: str) -> Drawn:
    with np.load(job.path) as stored:
        return Drawn(
            stored[f"{method} frames"],
            stored[f"{method} anchor"],
            float(stored[f"{method} seconds"]),
            provenance_in(stored),
        )


def read_pool(job: Job) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """A job's candidates, uint8 [P, H, W, 3], their scores [P], and what they were drawn with."""
    with np.load(job.pool) as stored:
        return stored["images"], stored["scores"], provenance_in(stored)


def provenance_in(stored: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What a file was drawn with."""
    return {name: str(stored[name]) for name in PROVENANCE}
