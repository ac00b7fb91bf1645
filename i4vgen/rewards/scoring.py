"""Scores images and videos with all reward models of a pipeline."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from PIL import Image

from i4vgen import metrics
from i4vgen.events import Event, Result
from i4vgen.metrics import Steadiness
from i4vgen.rewards.base import FeatureReward, Reward

T = TypeVar("T")


def score_images(
    rewards: Sequence[Reward], prompt: str, images: Sequence[np.ndarray] | np.ndarray
) -> list[dict[str, float]]:
    """Scores images with all reward models.

    Args:
        rewards: The reward models.
        prompt: The prompt.
        images: The images, uint8 [H, W, 3] each.

    Returns:
        The scores of each image by the name of the reward model.
    """
    pictures = [Image.fromarray(image) for image in images]
    by_reward = {reward.name: reward.score(prompt, pictures) for reward in rewards}
    return [{name: scores[i] for name, scores in by_reward.items()} for i in range(len(images))]


def steadiness(
    rewards: Sequence[Reward], frames: np.ndarray, anchor: np.ndarray | None = None
) -> Steadiness | None:
    """Measures a video's steadiness.

    Returns None if no reward model provides image features.

    Args:
        rewards: The reward models, of which the first with image features is used.
        frames: The video's frames, uint8 [F, H, W, 3].
        anchor: The anchor, uint8 [H, W, 3]; None compares with the first frame.
    """
    reward = next((reward for reward in rewards if isinstance(reward, FeatureReward)), None)
    if reward is None:
        return None
    pictures = [*frames] if anchor is None else [*frames, anchor]
    features = reward.image_features([Image.fromarray(picture) for picture in pictures])
    return metrics.steadiness(reward.name, features[: len(frames)], None if anchor is None else features[-1])


def judge_video(
    rewards: Sequence[Reward], prompt: str, result: Result, anchor: np.ndarray | None = None
) -> Result:
    """Adds the mean and lowest scores of the frames and the steadiness to a finished video.

    Args:
        rewards: The reward models.
        prompt: The prompt.
        result: The finished video.
        anchor: The video's anchor, uint8 [H, W, 3], if any.
    """
    scores = score_images(rewards, prompt, result.frames)
    by_reward = {name: [each[name] for each in scores] for name in scores[0]}
    return replace(
        result,
        scores={name: float(np.mean(values)) for name, values in by_reward.items()},
        worst={name: float(min(values)) for name, values in by_reward.items()},
        steadiness=steadiness(rewards, result.frames, anchor),
    )


def judge_results(
    rewards: Sequence[Reward], prompt: str, events: Generator[Event, None, T], anchor: np.ndarray | None = None
) -> Generator[Event, None, T]:
    """Yields the events, with every `Result` scored, and returns the value of `events`.

    Without reward models, results stay unscored.
    """
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        if rewards and isinstance(event, Result):
            event = judge_video(rewards, prompt, event, anchor)
        yield event
