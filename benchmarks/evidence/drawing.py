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
from benchmarks.evidence.methods import Contest
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.media import whole_file
from i4vgen.models.portable import files_in, identify
from i4vgen.serving.runtime import Runtime
from pocket.world import Shown
from training.loop import device_name


@dataclass(frozen=True)
class Case:
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
class DrawnVideo:
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
    """Draws cases with one model."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.device = device_name(torch.device(runtime.device))
        self.weights = weights_of(runtime)
        anything = GenerationConfig.for_model(runtime.defaults, prompt="anything")
        self.digest = hashlib.sha256(self.origin(anything).encode()).hexdigest()[:12]
        """Of the model, its weights and its settings: rows with the same one belong together."""

    def undrawn(self, case: Case, methods: Sequence[str]) -> list[str]:
        """Those methods that the case's file does not have yet.

        Raises:
            InvalidInputError: What the file has was drawn with other weights or settings.
        """
        drawn = self._drawn(case.path, self.config(case))
        return [method for method in methods if f"{method} frames" not in drawn]

    def lacks_pool(self, case: Case, size: int) -> bool:
        """Whether as many candidates are still to be drawn. Raises `InvalidInputError` as `undrawn` does."""
        return not self._drawn(case.pool, self.config(case, num_candidates=size))

    def draw(self, case: Case, methods: Sequence[str], pool: int = 0) -> None:
        """Adds the videos of these methods to the case's file, and fills its pool with as many candidates."""
        config = self.config(case)

        def work(pipeline):
            contest = Contest(pipeline, config)
            for method in methods:
                yield method, contest.outcome(method)
            if pool:
                yield case.pool, contest.candidates(pool)[0]

        made = dict(self.runtime.stream(work))
        if candidates := made.pop(case.pool, None):
            images = np.stack([candidate.image for candidate in candidates])
            scores = np.array([candidate.score for candidate in candidates])
            of_pool = self.config(case, num_candidates=pool)
            self._write(case.pool, of_pool, {"images": images, "scores": scores})
        if not made:  # the file of the videos keeps its date
            return
        arrays: dict[str, np.ndarray] = {}
        if case.path.exists():
            with np.load(case.path) as stored:
                arrays = dict(stored)
        for method, outcome in made.items():
            arrays[f"{method} frames"] = outcome.frames
            arrays[f"{method} seconds"] = np.array(outcome.seconds)
            arrays[f"{method} anchor"] = outcome.anchor
        self._write(case.path, config, arrays)

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

    def config(self, case: Case, **settings: int) -> GenerationConfig:
        return GenerationConfig.for_model(self.runtime.defaults, prompt=case.prompt, seed=case.seed, **settings)


def read_drawn(case: Case, method: str) -> DrawnVideo:
    with np.load(case.path) as stored:
        return DrawnVideo(
            stored[f"{method} frames"],
            stored[f"{method} anchor"],
            float(stored[f"{method} seconds"]),
            provenance_in(stored),
        )


def read_pool(case: Case) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """A case's candidates, uint8 [P, H, W, 3], their scores [P], and what they were drawn with."""
    with np.load(case.pool) as stored:
        return stored["images"], stored["scores"], provenance_in(stored)


def provenance_in(stored: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What a file was drawn with."""
    return {name: str(stored[name]) for name in PROVENANCE}
