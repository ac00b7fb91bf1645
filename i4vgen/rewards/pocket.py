"""The embedded reward model: a small CLIP that was trained on the pocket model's world."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from i4vgen import hub
from i4vgen.errors import ModelError


class PocketReward:
    """Scores images by their CLIP similarity to the prompt, scaled to mean 0 and deviation 1 over generated
    candidates.
    """

    name = "pocket"

    def __init__(self, clip: CLIPModel, tokenizer: CLIPTokenizer, mean: float, std: float):
        """mean, std: of the similarity (cosine times the model's logit scale) over generated candidates."""
        self.clip: Any = clip  # whose annotations leave open what its parts are
        self.tokenizer = tokenizer
        self.mean = mean
        self.std = std

    @classmethod
    def from_pretrained(cls, model: str, subfolder: str = "reward", device: str = "cpu") -> PocketReward:
        """Loads model/subfolder: a CLIPModel, its tokenizer and calibration.json with "mean" and "std".

        Runs in float32 on any device: it is tiny. Raises `ModelError` if anything is missing or damaged.
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

    @torch.inference_mode()
    def score(self, prompt: str, images: list[Image.Image]) -> list[float]:
        """One score per image of any size. Higher is better."""
        device = self.clip.device
        tokens = self.tokenizer(
            [prompt.lower()],
            padding="max_length",
            max_length=self.clip.config.text_config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).to(device)
        pixels = torch.cat([self._pixels(image) for image in images]).to(device)
        output = self.clip(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=pixels
        )
        logits = output.logits_per_image[:, 0].float()
        return ((logits - self.mean) / self.std).tolist()

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        """[1, 3, S, S] in [-1, 1], where S is the size that the model was trained at."""
        size = self.clip.config.vision_config.image_size
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
        pixels = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True)
        return (pixels - 0.5) / 0.5
