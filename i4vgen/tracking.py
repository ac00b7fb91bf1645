"""Turns the steps of a sampler into events: progress, and how the video looks so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from i4vgen.backbones.base import Backbone
from i4vgen.errors import ModelError
from i4vgen.events import Event, Preview, Progress, Result, Stage

PREVIEWS = 0.1
"""The share of its time, on top, that a video may spend on previews where somebody watches."""


@dataclass
class StageTracker:
    """Turns the steps of a sampler into Progress and Preview events, and adds up the time spent in it."""

    stage: str
    total: int
    done: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)

    def begin(self) -> Stage:
        return Stage(self.stage, self.total)

    def follow(
        self, steps: Iterable, previews: float = 0.0, draw: Callable | None = None
    ) -> Generator[Event, None, Any]:
        """Runs the sampler. Only its own time counts.

        Args:
            steps: `DenoiseStep`s or `NIVSDSStep`s.
            previews: See `I4VGenPipeline`.
            draw: `Backbone.preview`; without it there are no previews.

        Yields:
            `Progress` for every step, and `Preview`s.

        Returns:
            The last step.
        """
        start, spent = time.perf_counter(), 0.0
        for step in steps:
            update = float(step.update) if previews else None  # waits for the device, so the time is right
            now = time.perf_counter()
            self.done += 1
            self.seconds += now - start
            t, weight = step.level.timestep, step.level.weight
            yield Progress(self.stage, self.done, self.total, t, now - start, weight, update)
            if previews and draw and self.done < self.total and spent <= previews * self.seconds:
                start = time.perf_counter()
                frames = draw(step.clean)
                spent += time.perf_counter() - start
                yield Preview(self.stage, self.done, frames)
            start = time.perf_counter()
        return step


def track_video(
    backbone: Backbone, stage: str, name: str, steps: Iterable, total: int, previews: float = 0.0
) -> Generator[Event, None, torch.Tensor]:
    """The events of a stage that makes a video: `Stage`, `Progress`, `Preview` and at last its `Result`.

    Args:
        stage: The name of the stage.
        name: The name of the video.
        steps: Of a sampler (`DenoiseStep` or `NIVSDSStep`).
        total: How many steps there will be.
        previews: See `I4VGenPipeline`.

    Returns:
        The latents of the video, [1, C, F, h, w].
    """
    tracker = StageTracker(stage, total)
    yield tracker.begin()
    step = yield from tracker.follow(steps, previews, backbone.preview)
    start = time.perf_counter()
    frames = decode(backbone, step.latents)[0]
    seconds = tracker.seconds + time.perf_counter() - start
    yield Result(name, frames, backbone.defaults.fps, seconds, step.latents[0].cpu().numpy())
    return step.latents


def decode(backbone: Backbone, latents: torch.Tensor) -> np.ndarray:
    """The finished frames of latents [B, C, F, h, w], uint8 [B, F, H, W, 3].

    Raises:
        ModelError: The latents are not numbers any more. Decoded, they would be a black picture.
    """
    if not latents.isfinite().all():
        raise ModelError(
            f"the model computed values that are not numbers ({backbone.dtype}): try another sampler, a lower"
            " guidance scale, or another precision"
        )
    return backbone.decode(latents)
