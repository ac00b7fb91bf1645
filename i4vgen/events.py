"""The events that a run yields.

They are immutable and picklable and hold NumPy arrays only, so they can cross threads and processes. Images and
frames are uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

STAGES = ("candidates", "ni_vsds", "regeneration")
"""The stages of the method. The stage of a comparison is named after the comparison."""

VIDEOS = ("ni_vsds", "i4vgen")
"""The names of the method's videos. The video of a comparison is named after the comparison."""

HIGHEST_REWARD, PICKED, UPLOADED = REASONS = ("highest reward", "picked", "uploaded image")
"""Why an image is the anchor."""


@dataclass(frozen=True)
class Loading:
    """A part of the model is being downloaded.

    Attributes:
        repo_or_path: Its hub id.
        done: Bytes received.
        total: Bytes in all.
    """

    repo_or_path: str
    done: int
    total: int


@dataclass(frozen=True)
class Stage:
    """A stage begins.

    Attributes:
        name: One of `STAGES`, or a comparison.
        total: Number of `Progress` events that will follow: denoising steps, over all batches of candidates.
    """

    name: str
    total: int


@dataclass(frozen=True)
class Progress:
    """One denoising step is done.

    Attributes:
        stage: The name of its `Stage`.
        step: From 1 to `total`.
        total: Number of steps of the stage.
        timestep: The diffusion timestep, in the units of the model's noise schedule.
        seconds: Duration of the step.
        weight: The share of noise in the variance at this timestep, by which NI-VSDS weights its update.
        update: Mean absolute change of the latents. Only in runs with previews, as reading it waits for the
            device.
    """

    stage: str
    step: int
    total: int
    timestep: float
    seconds: float
    weight: float | None = None
    update: float | None = None


@dataclass(frozen=True)
class Preview:
    """The video so far: the predicted clean video where the stage denoises, not the noisy one.

    Attributes:
        stage: The name of its `Stage`.
        step: Number of steps done.
        frames: uint8 [F, h, w, 3]. Large videos are scaled down.
    """

    stage: str
    step: int
    frames: np.ndarray


@dataclass(frozen=True)
class Candidate:
    """A candidate image.

    Attributes:
        index: From 0.
        image: uint8 [H, W, 3].
        scores: By the name of the reward model. The first one selects; empty without reward models.
        latents: float32 [C, 1, h, w], from which it is animated.
        sketch: Whether this is a prediction after some of the steps. If it is among the best, the finished
            candidate follows with the same index.
    """

    index: int
    image: np.ndarray
    scores: dict[str, float]
    latents: np.ndarray
    sketch: bool = False

    @property
    def score(self) -> float | None:
        """The score that selects; None without reward models."""
        return next(iter(self.scores.values()), None)

    @property
    def rank_key(self) -> tuple[bool, float, int]:
        """Sorts candidates, the best first and finished ones before sketches."""
        return self.sketch, -(self.score or 0.0), self.index


def best(candidates: Iterable[Candidate]) -> Candidate:
    """The best candidate.

    Raises:
        ValueError: There are no candidates.
    """
    return min(candidates, key=lambda candidate: candidate.rank_key)


def latest(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Every candidate once, in order of first appearance; finished candidates replace their sketches."""
    return list({candidate.index: candidate for candidate in candidates}.values())


@dataclass(frozen=True)
class Scores:
    """The scores of one image.

    Attributes:
        scores: By the name of the reward model.
    """

    scores: dict[str, float]


@dataclass(frozen=True)
class Selected:
    """The anchor is selected.

    Attributes:
        index: Index of the candidate; None for an uploaded image.
        image: uint8 [H, W, 3], as the model sees it.
        reason: One of `REASONS`.
        latents: float32 [C, 1, h, w], from which it is animated; None in runs read from disk.
    """

    index: int | None
    image: np.ndarray
    reason: str
    latents: np.ndarray | None = None


@dataclass(frozen=True)
class Result:
    """A finished video.

    Attributes:
        name: One of `VIDEOS`, or a comparison.
        frames: uint8 [F, H, W, 3].
        fps: Frames per second.
        seconds: Duration of its stage.
        latents: float32 [C, F, h, w], before decoding.
        scores: Mean score of its frames, by the name of the reward model. Empty unless the run scores videos.
    """

    name: str
    frames: np.ndarray
    fps: int
    seconds: float
    latents: np.ndarray
    scores: dict[str, float] = field(default_factory=dict)


Event = Loading | Stage | Progress | Preview | Candidate | Scores | Selected | Result
