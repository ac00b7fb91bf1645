"""The denoising loop: from noise to clean latents, one step of a sampler at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # without torch at run time: the command line's help reads `comparisons`, which imports this
    import torch

    from i4vgen.backbones.base import Backbone, PromptEmbeds, Sampler
    from i4vgen.backbones.prediction import NoiseLevel, Prediction
    from i4vgen.generation_config import Sampling


@dataclass(frozen=True)
class DenoiseStep:
    """One step of the loop.

    Attributes:
        prediction: What the model predicted for the latents before the step.
        latents: The latents after the step, [B, C, F, h, w].
    """

    prediction: Prediction
    latents: torch.Tensor

    @property
    def level(self) -> NoiseLevel:
        """The noise level before the step."""
        return self.prediction.level

    @property
    def clean(self) -> torch.Tensor:
        """The clean latents that the model expected at this step, [B, C, F, h, w]."""
        return self.prediction.clean

    @property
    def update(self) -> torch.Tensor:
        """Mean absolute change of the latents, a scalar on their device: reading it waits for the device."""
        return (self.latents - self.prediction.noisy).abs().mean()


def make_sampler(
    backbone: Backbone, sampling: Sampling, last: int | None = None, noised: bool = False
) -> Sampler:
    """A fresh sampler of the backbone.

    Args:
        sampling: Its name and its number of steps.
        last: Keep only this many of its steps, the cleanest; None keeps all.
        noised: Whether it starts from a video that noise was added to, not from noise alone.
    """
    return backbone.sampler(sampling.sampler, sampling.steps, last, noised)


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
        latents: [B, C, F, h, w], as noisy as the sampler's first level.
        sampler: Fresh: some samplers remember their earlier steps.
        guidance_scale: Of classifier-free guidance; at most 1 means none.
        generators: One per batch entry, on the CPU, for samplers that add noise.

    Yields:
        Every step; the latents of the last one are clean.
    """
    for level in sampler.levels:
        prediction = backbone.predict(latents, level, prompt_embeds, guidance_scale)
        latents = sampler.step(prediction, generators)
        yield DenoiseStep(prediction, latents)
