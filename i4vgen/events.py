"""The events that a run yields.

They are immutable and picklable and hold NumPy arrays, so that they can cross threads and processes. Images and
frames are uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # metrics imports torch
    from i4vgen.metrics import Steadiness

STAGES = ("candidates", "ni_vsds", "regeneration")
"""The method's stages. A comparison's stage has the comparison's name."""

VIDEOS = ("ni_vsds", "i4vgen")
"""The method's videos. A comparison's video has the comparison's name."""


def stage_of(video: str) -> str:
    """Returns the name of the stage that makes a video."""
    return "regeneration" if video == "i4vgen" else video


HIGHEST_REWARD, PICKED, UPLOADED = REASONS = ("highest reward", "picked", "uploaded image")
"""The reasons why an image is the anchor."""


@dataclass(frozen=True)
class Loading:
    """A part of the model is being downloaded.

    Attributes:
        repo_or_path: The hub id of the part, or its file on the hub.
        done: Bytes received.
        total: Total bytes.
    """

    repo_or_path: str
    done: int
    total: int


@dataclass(frozen=True)
class LoraFit:
    """A LoRA was added to the loaded model.

    Attributes:
        lora: The LoRA's file name.
        applied: The number of layers that fit the model; the others are ignored.
        layers: The total number of layers.
        made_for: The model family that the LoRA was probably made for, such as "Wan 14B"; empty if unknown.
    """

    lora: str
    applied: int
    layers: int
    made_for: str = ""

    def __str__(self) -> str:
        share = "all" if self.applied == self.layers else f"{self.applied}"
        looks = f" (it looks made for {self.made_for})" if self.made_for else ""
        return f"LoRA {self.lora}: {share} of its {self.layers} layers apply{looks}"


@dataclass(frozen=True)
class Stage:
    """A stage begins.

    Attributes:
        name: The name of the stage, from `STAGES`, or of a comparison.
        total: Number of `Progress` events of the stage: the denoising steps of all batches or videos.
    """

    name: str
    total: int


@dataclass(frozen=True)
class Progress:
    """One denoising step is done.

    Attributes:
        stage: The name of the stage.
        step: Number of the step, from 1 to `total`.
        total: Number of steps of the stage.
        timestep: The diffusion timestep, in the units of the model's noise schedule.
        seconds: Duration of the step.
        weight: The noise's share of the variance at this timestep, which weights the update of NI-VSDS.
        update: Mean absolute change of the latents; None without previews, because reading it waits for the
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
    """The current state of a video: the predicted clean video in stages that denoise.

    Attributes:
        stage: The name of the stage.
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
        index: Index of the candidate, from 0.
        image: uint8 [H, W, 3].
        scores: Scores by reward model; empty without reward models. The first score selects the anchor.
        latents: float32 [C, 1, h, w], animated if the candidate becomes the anchor.
        sketch: Whether the image is predicted after only part of the steps. For the best sketches, the
            finished candidate follows with the same index.
    """

    index: int
    image: np.ndarray
    scores: dict[str, float]
    latents: np.ndarray
    sketch: bool = False

    @property
    def score(self) -> float | None:
        """The score that selects the anchor; None without reward models."""
        return next(iter(self.scores.values()), None)

    @property
    def rank_key(self) -> tuple[bool, float, int]:
        """The sort key: finished candidates before sketches, then the best first."""
        return self.sketch, -(self.score or 0.0), self.index


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sorts candidates: finished ones before sketches, then the best first."""
    return sorted(candidates, key=lambda candidate: candidate.rank_key)


def best(candidates: Iterable[Candidate]) -> Candidate:
    """Returns the best candidate.

    Raises:
        ValueError: There are no candidates.
    """
    return min(candidates, key=lambda candidate: candidate.rank_key)


def latest(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Returns every candidate once, in order of appearance; finished candidates replace their sketches."""
    return list({candidate.index: candidate for candidate in candidates}.values())


@dataclass(frozen=True)
class Scores:
    """The scores of one image.

    Attributes:
        scores: Scores by reward model.
    """

    scores: dict[str, float]


@dataclass(frozen=True)
class Trial:
    """One of several candidates was animated (`GenerationConfig.animate_best`).

    After all trials, `Selected` and the results of the best trial follow.

    Attributes:
        index: Index of the candidate.
        frames: The candidate's I4VGen video, uint8 [F, H, W, 3].
        fps: Frames per second.
        seconds: Duration of NI-VSDS and the regeneration.
        score: The score that ranks the trials (`method.search.video_score`).
        scores: Mean score of the frames, by reward model.
        worst: Lowest score of any frame, by reward model.
    """

    index: int
    frames: np.ndarray
    fps: int
    seconds: float
    score: float
    scores: dict[str, float]
    worst: dict[str, float]


@dataclass(frozen=True)
class Selected:
    """The anchor was selected.

    Attributes:
        index: Index of the candidate; None for an uploaded image.
        image: uint8 [H, W, 3], as the model sees it.
        reason: The reason for the selection, one of `REASONS`.
        latents: float32 [C, 1, h, w]; None for stored runs.
    """

    index: int | None
    image: np.ndarray
    reason: str
    latents: np.ndarray | None = None


@dataclass(frozen=True)
class Result:
    """A finished video.

    Attributes:
        name: The name of the video, from `VIDEOS`, or of a comparison.
        frames: uint8 [F, H, W, 3].
        fps: Frames per second.
        seconds: Duration of the video's steps and of its decoding, without previews.
        latents: float32 [C, F, h, w], before decoding.
        scores: Mean score of the frames, by reward model. Empty unless the run scores videos.
        worst: Lowest score of any frame, by reward model. Empty unless the run scores videos.
        steadiness: The steadiness, measured with the first reward model that has image features. None without
            such a model, or if the run does not score videos.
    """

    name: str
    frames: np.ndarray
    fps: int
    seconds: float
    latents: np.ndarray
    scores: dict[str, float] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    steadiness: Steadiness | None = None


Event = Loading | LoraFit | Stage | Progress | Preview | Candidate | Scores | Trial | Selected | Result
