"""What a run tells its listener.

A run is an iterator of these events. They are frozen, hold numpy arrays on the CPU only, and pickle, so they
can cross threads and processes. Images and frames are uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

STAGES = ("candidates", "ni_vsds", "regeneration")
"""The stages of the method. Those of comparisons are named after them (`comparisons.COMPARISONS`)."""

VIDEOS = ("ni_vsds", "i4vgen")
"""What the results of these stages are named. The result of a comparison is named after it."""

HIGHEST_REWARD, PICKED, UPLOADED = REASONS = ("highest reward", "picked", "uploaded image")
"""Why an image is the anchor."""


@dataclass(frozen=True)
class Loading:
    """A part of the model is being downloaded.

    repo_or_path: its hub id. done, total: bytes.
    """

    repo_or_path: str
    done: int
    total: int


@dataclass(frozen=True)
class Stage:
    """A stage begins.

    name: one of `STAGES`, or of a comparison.
    total: the number of `Progress` events to come (denoiser steps, over all chunks of candidates).
    """

    name: str
    total: int


@dataclass(frozen=True)
class Progress:
    """One denoiser step is done.

    step: counts from 1 to `total`.
    timestep: the diffusion timestep of this step, in the units of the model's noise schedule.
    seconds: how long this step took.
    weight: the noise level 1 - alpha_bar at this timestep; NI-VSDS weighs its update with it.
    update: mean size of the change to the latents; only in runs with previews, as reading it waits for the
    device.
    """

    stage: str
    step: int
    total: int
    timestep: int
    seconds: float
    weight: float | None = None
    update: float | None = None


@dataclass(frozen=True)
class Preview:
    """How the video looks after `step` steps of `stage`.

    Where the stage denoises, this is the clean video that the model expects at this point, not the noise.

    frames: uint8 [F, h, w, 3]; large videos are shown smaller than they are.
    """

    stage: str
    step: int
    frames: np.ndarray


@dataclass(frozen=True)
class Candidate:
    """A candidate image.

    image: uint8 [H, W, 3].
    scores: by the name of the reward model; the first one decides. Empty without reward models.
    latents: float32 [C, 1, h, w], what the candidate is animated from.
    sketch: whether this is only how the candidate is expected to look, seen after a part of its steps. If it is
    among the best, the finished one follows, with the same index.
    """

    index: int
    image: np.ndarray
    scores: dict[str, float]
    latents: np.ndarray
    sketch: bool = False

    @property
    def score(self) -> float | None:
        """The score that decides, or None."""
        return next(iter(self.scores.values()), None)

    @property
    def rank_key(self) -> tuple[bool, float, int]:
        """Sorts candidates, the best one first. What was finished is ahead of all sketches."""
        return self.sketch, -(self.score or 0.0), self.index


def best(candidates: Iterable[Candidate]) -> Candidate:
    """The candidate that leads. Raises `ValueError` if there is none."""
    return min(candidates, key=lambda candidate: candidate.rank_key)


def latest(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Every candidate once, finished ones instead of their sketches, in the order in which they first came."""
    return list({candidate.index: candidate for candidate in candidates}.values())


@dataclass(frozen=True)
class Scores:
    """What the reward models say about one picture.

    scores: by the name of the reward model; the first one decides.
    """

    scores: dict[str, float]


@dataclass(frozen=True)
class Selected:
    """The anchor is chosen.

    index: the candidate's index, or None for an uploaded image.
    image: uint8 [H, W, 3], the anchor as the model sees it.
    reason: one of `REASONS`.
    latents: float32 [C, 1, h, w], what is animated; None in runs that were read back.
    """

    index: int | None
    image: np.ndarray
    reason: str
    latents: np.ndarray | None = None


@dataclass(frozen=True)
class Result:
    """A finished video.

    name: one of `VIDEOS`, or of a comparison.
    frames: uint8 [F, H, W, 3], to be played at `fps` frames per second.
    seconds: how long its stage took.
    latents: float32 [C, F, h, w], the video before decoding.
    scores: the mean score of its frames by the name of the reward model, where the run was to judge it.
    """

    name: str
    frames: np.ndarray
    fps: int
    seconds: float
    latents: np.ndarray
    scores: dict[str, float] = field(default_factory=dict)


Event = Loading | Stage | Progress | Preview | Candidate | Scores | Selected | Result
