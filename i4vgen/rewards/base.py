"""The interface of reward models. To add one, write a class and add an entry to `catalog.REWARDS`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image


class Reward(Protocol):
    """Scores how well images match a prompt: the reward of equation 4.

    Attributes:
        name: The name shown to users, and the key of the scores.
    """

    name: str

    @abstractmethod
    def score(self, prompt: str, images: list[Image.Image]) -> list[float]:
        """Returns one score per image, on the model's own scale. Higher is better.

        Args:
            prompt: The prompt.
            images: RGB images of any size.
        """


@runtime_checkable
class FeatureReward(Reward, Protocol):
    """A reward model that also provides image features. Callers check `isinstance(reward, FeatureReward)`."""

    @abstractmethod
    def image_features(self, images: list[Image.Image]) -> np.ndarray:
        """Returns the features of the model's image encoder.

        Args:
            images: N RGB images of any size.

        Returns:
            The features, float32 [N, D], normalised so that dot products are cosines.
        """
