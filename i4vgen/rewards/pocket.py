"""The pocket model's reward: a small CLIP trained on the same kind of images as the pocket model."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from i4vgen.errors import ModelError
from i4vgen.rewards.clip import ClipScore, pick_score, rgb_pixels
from i4vgen.weights import hub


class PocketReward(ClipScore):
    """Scores images by their CLIP similarity to the prompt, calibrated on generated candidates.

    Args:
        clip: The CLIP model.
        tokenizer: The tokenizer of the model.
        mean: The mean similarity (cosine times the model's logit scale) over generated candidates.
        std: The standard deviation of the similarity over generated candidates.
    """

    def __init__(self, clip: CLIPModel, tokenizer: CLIPTokenizer, mean: float, std: float):
        super().__init__("pocket", clip, tokenizer, self._pixels, pick_score, mean, std)

    @classmethod
    def from_pretrained(cls, model: str, subfolder: str = "reward", device: str = "cpu") -> PocketReward:
        """Loads a CLIPModel in float32, its tokenizer, and "mean" and "std" from calibration.json.

        Raises:
            ModelError: A part is missing or damaged.
        """
        calibration = hub.read_json(model, f"{subfolder}/calibration.json") or {}
        try:
            mean, std = float(calibration["mean"]), float(calibration["std"])
        except (TypeError, KeyError, ValueError):
            mean = std = math.nan
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise ModelError(f"{model}/{subfolder}/calibration.json must give a mean and a positive std")
        clip: Any = hub.load(CLIPModel, model, subfolder, torch.float32)
        clip.to(device)
        return cls(clip, hub.load_tokenizer(CLIPTokenizer, model, subfolder), mean, std)

    def embed_prompt(self, prompt: str) -> Tensor:
        return super().embed_prompt(prompt.lower())

    def _pixels(self, images: list[Image.Image]) -> Tensor:
        """Scales images to [B, 3, S, S] in -1..1, where S is the model's size."""
        size = self.clip.config.vision_config.image_size
        scaled = [
            F.interpolate(rgb_pixels(image)[None], size=(size, size), mode="bicubic", antialias=True)
            for image in images
        ]
        return torch.cat(scaled) * 2 - 1
