"""What the package asks of a reward model.

A reward model is one class, and one entry of `catalog.REWARDS` that says how it is loaded.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from PIL import Image


class Reward(Protocol):
    """Scores how well images show a prompt: the reward of equation 4.

    Attributes:
        name: What people call it; the key of its scores.
    """

    name: str

    @abstractmethod
    def score(self, prompt: str, images: list[Image.Image]) -> list[float]:
        """One score per image, on the reward model's own scale. Higher is better.

        Args:
            images: RGB, of any size.
        """
        ...
