"""What the pipeline asks of a video model.

Everything in which model families differ lives behind this protocol: the noise schedule, the prediction
target, how a still video is made, how latents become pixels. `pipeline.py` and `ni_vsds.py` see noise
predictions and latents only, so a flow-matching model fits as well: it predicts noise as `latents + (1 -
sigma_t) * velocity`, and its `noise_level` is whatever stands for 1 - alpha_bar_t there.

Shapes: B batch, C latent channels, F frames, h x w latent size, H x W pixels. Latents are float32 whatever
the dtype of the networks, so that the steps between two forward passes lose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from i4vgen.generation_config import Defaults

PromptEmbeds = Any
"""An encoded prompt. Only the backbone that made it looks inside."""


class Sampler(Protocol):
    """One stage's way from noise to clean latents. Made for that stage: some samplers remember.

    timesteps: from noisy to clean.
    """

    timesteps: Sequence[int]

    def step(
        self, noise: torch.Tensor, t: int, latents: torch.Tensor, generators: list[torch.Generator]
    ) -> torch.Tensor:
        """The latents [B, C, F, h, w] after the step from timestep t to the next, given the predicted noise.

        generators: one per batch entry, on the CPU, for samplers that add noise.
        """
        ...


class Backbone(Protocol):
    """A video model that also draws single images with the same weights.

    image_to_video: whether its videos show an anchor (`condition`). defaults: what it is best run with, and its
    limits. noisiest: the last timestep of its schedule, at which hardly anything but noise is left. device:
    where its networks are. dtype: their precision.
    """

    image_to_video: bool
    defaults: Defaults
    noisiest: int
    device: torch.device
    dtype: torch.dtype

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of one frame of `height` x `width` pixels."""
        ...

    def encode_prompt(self, prompt: str, negative_prompt: str) -> PromptEmbeds:
        """The prompt as `predict_noise` wants it. Encoded once per run."""
        ...

    def condition(self, prompt: PromptEmbeds, anchor: torch.Tensor) -> PromptEmbeds:
        """The prompt for a video of this anchor, latents [1, C, 1, h, w]. Image-to-video models put the anchor
        into it; a text-to-video model returns the prompt as it is.
        """
        ...

    def sampler(self, name: str, num_inference_steps: int, last: int | None = None) -> Sampler:
        """A fresh sampler. name: one of `defaults.samplers`. last: only the last so many of its timesteps."""
        ...

    def predict_noise(
        self, latents: torch.Tensor, t: int, prompt: PromptEmbeds, guidance_scale: float
    ) -> torch.Tensor:
        """The noise in `latents` [B, C, F, h, w] at timestep t, guided (classifier-free). F = 1 draws images:
        the temporal layers are skipped. A guidance scale of at most 1 needs no unconditional prediction.
        """
        ...

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, t: int) -> torch.Tensor:
        """Clean latents [B, C, F, h, w] brought to timestep t."""
        ...

    def predict_x0(self, latents: torch.Tensor, noise: torch.Tensor, t: int) -> torch.Tensor:
        """The clean latents that are expected from latents [B, C, F, h, w] at timestep t and the noise
        predicted in them. The inverse of `add_noise`.
        """
        ...

    def noise_level(self, t: int) -> float:
        """1 - alpha_bar_t, the share of noise in the variance at timestep t: the weight of equation 5."""
        ...

    def ni_vsds_step_size(self, index: int) -> float:
        """The step size of equation 5 at NI-VSDS step `index` (from 0)."""
        ...

    def still_video(self, anchor: torch.Tensor, num_frames: int) -> torch.Tensor:
        """An image's latents [B, C, 1, h, w] as the latents of a video in which nothing moves, [B, C, F, h,
        w].
        """
        ...

    def encode(self, image: np.ndarray) -> torch.Tensor:
        """An image, uint8 [H, W, 3], as latents [1, C, 1, h, w]. Deterministic."""
        ...

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Latents [B, C, F, h, w] as uint8 frames [B, F, H, W, 3]."""
        ...
