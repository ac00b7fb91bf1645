"""Images and videos judged by all reward models of a pipeline."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from PIL import Image

from i4vgen.events import Event, Result
from i4vgen.rewards.base import Reward

T = TypeVar("T")


def score_images(
    rewards: Sequence[Reward], prompt: str, images: Sequence[np.ndarray] | np.ndarray
) -> list[dict[str, float]]:
    """The scores of every image, uint8 [H, W, 3], by the names of the reward models."""
    pictures = [Image.fromarray(image) for image in images]
    by_reward = {reward.name: reward.score(prompt, pictures) for reward in rewards}
    return [{name: scores[i] for name, scores in by_reward.items()} for i in range(len(images))]


def judged(
    rewards: Sequence[Reward], prompt: str, events: Generator[Event, None, T]
) -> Generator[Event, None, T]:
    """The same events, but every Result with the mean scores of its frames. Returns what `events` returns."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        if isinstance(event, Result):
            scores = score_images(rewards, prompt, event.frames)
            means = {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}
            event = replace(event, scores=means)
        yield event
