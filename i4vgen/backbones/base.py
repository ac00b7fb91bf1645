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

from i4vgen.request import Defaults

Prompt = Any
"""An encoded prompt. Only the backbone that made it looks inside."""


class Backbone(Protocol):
    """A video model that also draws single images with the same weights.

    defaults: what it is best run with, and its limits. device: where its networks are. dtype: their
    precision. A backbone serves one run at a time.
    """

    defaults: Defaults
    device: torch.device
    dtype: torch.dtype

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of one frame of `height` x `width` pixels."""
        ...

    def encode_prompt(self, prompt: str, negative_prompt: str) -> Prompt:
        """The prompt as `predict_noise` wants it. Encoded once per run."""
        ...

    def timesteps(self, num_inference_steps: int) -> Sequence[int]:
        """Prepares the sampler for this many steps; the timesteps from noisy to clean."""
        ...

    def predict_noise(
        self, latents: torch.Tensor, t: int, prompt: Prompt, guidance_scale: float
    ) -> torch.Tensor:
        """The noise in `latents` [B, C, F, h, w] at timestep t, guided (classifier-free). F = 1 draws images:
        the temporal layers are skipped. A guidance scale of at most 1 needs no unconditional prediction.
        """
        ...

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, t: int) -> torch.Tensor:
        """Clean latents [B, C, F, h, w] brought to timestep t."""
        ...

    def noise_level(self, t: int) -> float:
        """1 - alpha_bar_t, the share of noise in the variance at timestep t: the weight of equation 5."""
        ...

    def denoise_step(
        self, noise: torch.Tensor, t: int, latents: torch.Tensor, generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One step from timestep t to the next, given the predicted noise.

        generators: one per batch entry, on the CPU, for samplers that add noise.
        Returns the latents after the step and the clean latents expected from here, both [B, C, F, h, w].
        """
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
