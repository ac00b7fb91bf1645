"""The denoising loop: from noise to clean latents, one step of a sampler at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `comparisons` imports this module and must not import torch
    import torch
    from torch import Tensor

    from i4vgen.backbones.base import Backbone, EncodedPrompt, Sampler
    from i4vgen.backbones.prediction import NoiseLevel


@dataclass(frozen=True)
class Step:
    """One step of a stage. All latents are [B, C, F, h, w].

    Attributes:
        level: The noise level of the model's prediction.
        before: The latents before the step.
        latents: The latents after the step.
        clean: The predicted clean latents; in NI-VSDS, the same as `latents`.
    """

    level: NoiseLevel
    before: Tensor
    latents: Tensor
    clean: Tensor

    @property
    def update(self) -> Tensor:
        """Mean absolute change of the latents, a scalar on their device. Reading it waits for the device."""
        return (self.latents - self.before).abs().mean()


def denoise(
    backbone: Backbone,
    latents: Tensor,
    sampler: Sampler,
    prompt_embeds: EncodedPrompt,
    guidance_scale: float,
    generators: list[torch.Generator],
) -> Iterator[Step]:
    """Denoises latents with the steps of a sampler.

    Args:
        backbone: The video model.
        latents: The latents, [B, C, F, h, w], at the sampler's first noise level.
        sampler: A new sampler, because some samplers keep state.
        prompt_embeds: The encoded prompt.
        guidance_scale: The scale of classifier-free guidance; 1 or less turns it off.
        generators: Random generators on the CPU for samplers that add noise, one per batch entry.

    Yields:
        Every step. The latents of the last one are clean.
    """
    for level in sampler.levels:
        before = latents
        prediction = backbone.predict(before, level, prompt_embeds, guidance_scale)
        latents = sampler.step(prediction, generators)
        yield Step(level, before, latents, prediction.clean)
