"""The anchor: the image that is animated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i4vgen.backbones.base import Backbone
from i4vgen.bounds import shown
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.events import HIGHEST_REWARD, PICKED, UPLOADED, Candidate, best
from i4vgen.media import fit_picture, open_picture

Choice = Union["Anchor", Candidate, Image.Image, np.ndarray, str, os.PathLike, int, None]
"""The types that `Anchor.choose` accepts."""


@dataclass(frozen=True)
class Anchor:
    """The image that is animated, as plain picklable data.

    Attributes:
        image: uint8 [H, W, 3], or an uploaded image of any size and mode that is not fitted to the video yet.
        latents: float32 [C, 1, h, w]; None for an uploaded image that is not encoded yet.
        index: The candidate's index; None for an uploaded image.
        reason: The reason for the selection, one of `events.REASONS`.
        scores: The candidate's scores by reward model; empty for an uploaded image.
    """

    image: np.ndarray | Image.Image
    latents: np.ndarray | None
    index: int | None
    reason: str
    scores: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_candidate(cls, candidate: Candidate, reason: str = PICKED) -> Anchor:
        """Makes an anchor from a candidate, whose latents are animated as they are."""
        return cls(candidate.image, candidate.latents, candidate.index, reason, candidate.scores)

    @classmethod
    def from_image(cls, image: Image.Image) -> Anchor:
        """Makes an anchor from an uploaded image, which `encode_anchor` later fits to the video."""
        return cls(image, None, None, UPLOADED)

    @classmethod
    def choose(cls, choice: Choice) -> Anchor | int | None:
        """Converts a choice to the `anchor` argument of `I4VGenPipeline.run`.

        Args:
            choice: The index of a candidate, a candidate or anchor of an earlier run, or an image (a PIL
                image, uint8 [H, W, 3], or the path of a file). None selects the highest reward.

        Raises:
            InvalidInputError: The choice has another type, or the image file is missing, unreadable or too
                large.
        """
        match choice:
            case Candidate():
                return cls.from_candidate(choice)
            case Image.Image():
                return cls.from_image(choice)
            case str() | os.PathLike():
                return cls.from_image(open_picture(choice))
            case np.ndarray(dtype=np.uint8, shape=(_, _, 3)):
                return cls.from_image(Image.fromarray(choice))
            case np.integer():
                return int(choice)
            case Anchor() | int() | None:
                return choice
        raise InvalidInputError(
            "anchor must be the index of a candidate, a candidate, a path, a PIL image or uint8 [H, W, 3], not"
            f" {type(choice).__name__}"
        )


def check_choice(choice: int | None, config: GenerationConfig, has_reward: bool) -> None:
    """Checks a choice before the candidates are drawn.

    Args:
        choice: The index of a candidate; None leaves the choice to the reward model.
        config: The run's configuration.
        has_reward: Whether there is a reward model.

    Raises:
        InvalidInputError: The choice is not the index of a candidate, or is None without a reward model.
    """
    if choice is None and not has_reward:
        raise InvalidInputError(
            "this model has no reward model: pick the anchor by its index or bring a picture"
        )
    if choice is not None and (type(choice) is not int or choice not in range(config.num_candidates)):
        last = config.num_candidates - 1
        raise InvalidInputError(
            f"the anchor must be the index of a candidate, from 0 to {last}, not {shown(choice)}"
        )


def select_anchor(candidates: Mapping[int, Candidate], choice: int | None = None) -> Anchor:
    """Selects the finished candidate with the highest reward (equation 4), unless the user chose another.

    Args:
        candidates: The candidates by index.
        choice: The index of the user's choice; None selects the highest reward.
    """
    if choice is None:
        return Anchor.from_candidate(best(candidates.values()), HIGHEST_REWARD)
    return Anchor.from_candidate(candidates[choice], PICKED)


def encode_anchor(backbone: Backbone, anchor: Anchor, height: int, width: int) -> tuple[np.ndarray, Tensor]:
    """Fits an anchor to a video of `height` x `width` pixels and encodes it.

    Uploaded images are turned upright, flattened on white, cropped and resized.

    Returns:
        The image, uint8 [H, W, 3], and its latents, [1, C, 1, h, w], on the backbone's device.

    Raises:
        InvalidInputError: The anchor's latents are missing, or their shape does not fit the model and size.
    """
    image, latents = anchor.image, anchor.latents
    if isinstance(image, Image.Image):
        image = fit_picture(image, height, width)
        return image, backbone.encode(image)
    channels, *size = backbone.latent_shape(height, width)
    if latents is None or latents.shape != (channels, 1, *size):
        raise InvalidInputError("the anchor was made for another model or size: make the candidates again")
    return image, torch.from_numpy(latents)[None].to(backbone.device)
