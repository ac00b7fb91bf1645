"""What the pipeline asks of a reward model."""

from __future__ import annotations

from typing import Protocol

from PIL import Image


class Reward(Protocol):
    """Judges how well images show a prompt (paper, equation 4).

    name: what a person calls it.
    """

    name: str

    def score(self, prompt: str, images: list[Image.Image]) -> list[float]:
        """One score per RGB image, on the reward model's own scale. Higher is better."""
        ...
