"""Turns the steps of a stage into progress and preview events."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from i4vgen.backbones.base import Backbone
from i4vgen.errors import ModelError
from i4vgen.events import Event, Preview, Progress, Result, Stage
from i4vgen.method.sampling import Step

PREVIEWS = 0.1
"""The extra time for previews of a video that a user watches, as a share of the computing time."""


@dataclass(frozen=True)
class Turn:
    """The position of a video among several that one stage makes, with the same number of steps each.

    Attributes:
        index: The index of the video, from 0.
        count: The number of videos.
    """

    index: int = 0
    count: int = 1


ONLY = Turn()


@dataclass
class StageTracker:
    """Turns the steps of a stage into events and measures their time.

    Attributes:
        stage: The name of the stage.
        total: The number of steps of the stage.
        done: The number of steps done, including those before this tracker.
        seconds: The time spent on the followed steps.
    """

    stage: str
    total: int
    done: int = 0
    seconds: float = field(default=0.0, init=False)

    def begin(self) -> Stage:
        return Stage(self.stage, self.total)

    def follow(
        self, steps: Iterable[Step], previews: float = 0.0, draw: Callable[[Tensor], np.ndarray] | None = None
    ) -> Generator[Event, None, Step]:
        """Yields events for steps and measures the time of the steps without the previews.

        Args:
            steps: The steps to follow.
            previews: The share of time for previews (`I4VGenPipeline`).
            draw: The function that draws previews (`Backbone.preview`); None means no previews.

        Yields:
            `Progress` for every step, and `Preview`s.

        Returns:
            The last step.
        """
        start, spent = time.perf_counter(), 0.0
        for step in steps:
            update = float(step.update) if previews else None  # waits for the device
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
    backbone: Backbone,
    stage: str,
    name: str,
    steps: Iterable[Step],
    total: int,
    previews: float = 0.0,
    turn: Turn = ONLY,
) -> Generator[Event, None, Tensor]:
    """Yields the events of a stage that makes a video, ending with its `Result`.

    Args:
        stage: The name of the stage.
        name: The name of the video.
        total: The number of steps of this video.
        previews: The share of time for previews (`I4VGenPipeline`).
        turn: The position among the videos of the stage. Only the first one yields the `Stage`.

    Returns:
        The latents of the video, [1, C, F, h, w].

    Raises:
        ModelError: The latents contain nan or infinity.
    """
    tracker = StageTracker(stage, total * turn.count, total * turn.index)
    if turn.index == 0:
        yield tracker.begin()
    step = yield from tracker.follow(steps, previews, backbone.preview)
    start = time.perf_counter()
    frames = decode(backbone, step.latents)[0]
    seconds = tracker.seconds + time.perf_counter() - start
    yield Result(name, frames, backbone.defaults.fps, seconds, step.latents[0].cpu().numpy())
    return step.latents


def decode(backbone: Backbone, latents: Tensor) -> np.ndarray:
    """Decodes latents [B, C, F, h, w] to frames, uint8 [B, F, H, W, 3].

    Raises:
        ModelError: The latents contain nan or infinity, which would decode to a black picture.
    """
    if not latents.isfinite().all():
        raise ModelError(
            f"the model computed values that are not numbers ({backbone.dtype}): try another sampler, a lower"
            " guidance scale, or another precision"
        )
    return backbone.decode(latents)
