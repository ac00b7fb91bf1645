"""The denoising loop: from noise to clean latents, one step of a sampler at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from i4vgen.backbones.base import Backbone, PromptEmbeds, Sampler


@dataclass(frozen=True)
class DenoiseStep:
    """One step of the loop.

    timestep: t. weight: 1 - alpha_bar_t. before, latents: [B, C, F, h, w] before and after the step.
    predict_x0: computes the clean latents that were expected at this step.
    """

    timestep: int
    weight: float
    before: torch.Tensor
    latents: torch.Tensor
    predict_x0: Callable[[], torch.Tensor]

    @property
    def update(self) -> torch.Tensor:
        """Mean size of the change to the latents, left where it is computed: reading it waits."""
        return (self.latents - self.before).abs().mean()


def denoise(
    backbone: Backbone,
    latents: torch.Tensor,
    sampler: Sampler,
    prompt: PromptEmbeds,
    guidance_scale: float,
    generators: list[torch.Generator],
) -> Iterator[DenoiseStep]:
    """Yields every step of a fresh sampler, from latents [B, C, F, h, w] that are as noisy as its first
    timestep to clean ones.

    generators: one per batch entry, for samplers that add noise.
    """
    for t in sampler.timesteps:
        noise = backbone.predict_noise(latents, t, prompt, guidance_scale)
        predict_x0 = partial(backbone.predict_x0, latents, noise, t)
        before, latents = latents, sampler.step(noise, t, latents, generators)
        yield DenoiseStep(t, backbone.noise_level(t), before, latents, predict_x0)
