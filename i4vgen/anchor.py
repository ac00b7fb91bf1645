"""The anchor: the image that is set in motion."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

import numpy as np
import torch
from PIL import Image

from i4vgen.backbones.base import Backbone
from i4vgen.bounds import shown
from i4vgen.errors import InvalidInputError
from i4vgen.events import HIGHEST_REWARD, PICKED, UPLOADED, Candidate, best
from i4vgen.generation_config import GenerationConfig
from i4vgen.media import fit_picture, open_picture

Choice = Union["Anchor", Candidate, Image.Image, np.ndarray, str, os.PathLike, int, None]
"""What a person may give as the anchor (`Anchor.choose`)."""


@dataclass(frozen=True)
class Anchor:
    """The image that is set in motion. Made by `from_candidate` or `from_image`. Plain data that pickles.

    Attributes:
        image: uint8 [H, W, 3] of a candidate, or an image of any size and mode that is not fitted yet.
        latents: float32 [C, 1, h, w] of a candidate; None for an image that is not encoded yet.
        index: The candidate's index; None for an uploaded image.
        reason: One of `events.REASONS`.
        scores: By the name of the reward model; empty for an uploaded image.
    """

    image: np.ndarray | Image.Image
    latents: np.ndarray | None
    index: int | None
    reason: str
    scores: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_candidate(cls, candidate: Candidate, reason: str = PICKED) -> Anchor:
        """This candidate as the anchor: its own latents are animated, nothing is encoded again."""
        return cls(candidate.image, candidate.latents, candidate.index, reason, candidate.scores)

    @classmethod
    def from_image(cls, image: Image.Image) -> Anchor:
        """An uploaded image as the anchor. `encode_anchor` turns it upright, flattens it on white, crops it to
        the shape of the video, resizes and encodes it.
        """
        return cls(image, None, None, UPLOADED)

    @classmethod
    def choose(cls, choice: Choice) -> Anchor | int | None:
        """A choice as `I4VGenPipeline.run` takes it.

        Args:
            choice: None for the highest reward, the index of a candidate to be drawn, a candidate or an anchor
                of an earlier run, or an image: PIL's, uint8 [H, W, 3], or the path of a file.

        Raises:
            InvalidInputError: An image that cannot be read.
        """
        match choice:
            case Candidate():
                return cls.from_candidate(choice)
            case Image.Image():
                return cls.from_image(choice)
            case str() | os.PathLike():
                return cls.from_image(open_picture(choice))
            case np.ndarray(dtype=np.uint8, ndim=3):
                return cls.from_image(Image.fromarray(choice))
            case np.integer():
                return int(choice)
            case Anchor() | int() | None:
                return choice
        raise InvalidInputError(
            "anchor must be the index of a candidate, a candidate, a path, a PIL image or uint8 [H, W, 3], not"
            f" {type(choice).__name__}"
        )


def check_choice(choice: int | None, config: GenerationConfig, judged: bool) -> None:
    """Checks a choice among candidates that are yet to be drawn.

    Args:
        choice: The index of a candidate; None leaves the choice to the reward model.
        judged: Whether there is a reward model.

    Raises:
        InvalidInputError: There will be no such candidate, or nobody to choose one.
    """
    if choice is None and not judged:
        raise InvalidInputError(
            "this model has no reward model: pick the anchor by its index or bring a picture"
        )
    if choice is not None and (type(choice) is not int or choice not in range(config.num_candidates)):
        last = config.num_candidates - 1
        raise InvalidInputError(
            f"the anchor must be the index of a candidate, from 0 to {last}, not {shown(choice)}"
        )


def select_anchor(candidates: Mapping[int, Candidate], choice: int | None = None) -> Anchor:
    """Equation 4: the candidate with the highest reward, unless a person chose another one.

    Args:
        candidates: By their index.
        choice: The index of the person's choice; None takes the highest reward.
    """
    if choice is None:
        return Anchor.from_candidate(best(candidates.values()), HIGHEST_REWARD)
    return Anchor.from_candidate(candidates[choice], PICKED)


def encode_anchor(
    backbone: Backbone, anchor: Anchor, height: int, width: int
) -> tuple[np.ndarray, torch.Tensor]:
    """The anchor as the model sees it.

    Args:
        height: Of the video, in pixels.
        width: Likewise.

    Returns:
        Its image, uint8 [H, W, 3], and its latents, [1, C, 1, h, w], on the backbone's device.

    Raises:
        InvalidInputError: The anchor is a candidate of another model or size.
    """
    image, latents = anchor.image, anchor.latents
    if isinstance(image, Image.Image):
        image = fit_picture(image, height, width)
        return image, backbone.encode(image)
    channels, *size = backbone.latent_shape(height, width)
    if latents is None or latents.shape != (channels, 1, *size):
        raise InvalidInputError("the anchor was made for another model or size: make the candidates again")
    return image, torch.from_numpy(latents)[None].to(backbone.device)
