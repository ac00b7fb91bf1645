"""Noise-invariant video score distillation sampling: a still image starts to move (paper, equation 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from i4vgen.backbones.base import Backbone, PromptEmbeds


@dataclass(frozen=True)
class NIVSDSStep:
    """One step of NI-VSDS.

    index: from 0. timestep: t. weight: 1 - alpha_bar_t. update: mean size of the change to the latents, left
    where it was computed: reading it waits for the device. latents: [B, C, F, h, w] after the step.
    """

    index: int
    timestep: int
    weight: float
    update: torch.Tensor
    latents: torch.Tensor

    def predict_x0(self) -> torch.Tensor:
        """The latents of the video so far: NI-VSDS works on clean latents throughout."""
        return self.latents


def ni_vsds(
    backbone: Backbone,
    latents: torch.Tensor,
    noise: torch.Tensor,
    timesteps: Sequence[int],
    prompt: PromptEmbeds,
    guidance_scale: float,
) -> Iterator[NIVSDSStep]:
    """Yields every step of

        z <- z - step_size * (1 - alpha_bar_t) * (eps(add_noise(z, noise, t), t) - noise)

    latents: z, [B, C, F, h, w], the still video to start from. timesteps: from noisy to clean.
    noise: of the same shape, drawn once and kept for all steps, hence noise-invariant.
    """
    for index, t in enumerate(timesteps):
        noisy = backbone.add_noise(latents, noise, t)
        weight = backbone.noise_level(t)
        gradient = weight * (backbone.predict_noise(noisy, t, prompt, guidance_scale) - noise)
        update = backbone.ni_vsds_step_size(index) * gradient
        latents = latents - update
        yield NIVSDSStep(index, t, weight, update.abs().mean(), latents)
