"""The denoising loop: from noise to clean latents, one step of a sampler at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # without torch at run time: the command line's help reads `comparisons`, which imports this
    import torch

    from i4vgen.backbones.base import Backbone, PromptEmbeds, Sampler
    from i4vgen.generation_config import Sampling


@dataclass(frozen=True)
class DenoiseStep:
    """One step of the loop. Shapes: [B, C, F, h, w].

    Attributes:
        timestep: t.
        weight: 1 - alpha_bar_t, the noise level at t.
        before: The latents before the step.
        latents: The latents after the step.
        predict_x0: Computes the clean latents that the model expected at this step.
    """

    timestep: int
    weight: float
    before: torch.Tensor
    latents: torch.Tensor
    predict_x0: Callable[[], torch.Tensor]

    @property
    def update(self) -> torch.Tensor:
        """Mean absolute change of the latents, a scalar on their device: reading it waits for the device."""
        return (self.latents - self.before).abs().mean()


def make_sampler(backbone: Backbone, sampling: Sampling, last: int | None = None) -> Sampler:
    """A fresh sampler of the backbone.

    Args:
        sampling: Its name and its number of steps.
        last: Keep only this many of its timesteps, the cleanest; None keeps all.
    """
    return backbone.sampler(sampling.sampler, sampling.steps, last)


def denoise(
    backbone: Backbone,
    latents: torch.Tensor,
    sampler: Sampler,
    prompt_embeds: PromptEmbeds,
    guidance_scale: float,
    generators: list[torch.Generator],
) -> Iterator[DenoiseStep]:
    """Denoises latents with the steps of a sampler.

    Args:
        latents: [B, C, F, h, w], as noisy as the sampler's first timestep.
        sampler: Fresh: some samplers remember their earlier steps.
        guidance_scale: Of classifier-free guidance; at most 1 means none.
        generators: One per batch entry, on the CPU, for samplers that add noise.

    Yields:
        Every step; the latents of the last one are clean.
    """
    for t in sampler.timesteps:
        noise = backbone.predict_noise(latents, t, prompt_embeds, guidance_scale)
        predict_x0 = partial(backbone.predict_x0, latents, noise, t)
        before, latents = latents, sampler.step(noise, t, latents, generators)
        yield DenoiseStep(t, backbone.noise_level(t), before, latents, predict_x0)
