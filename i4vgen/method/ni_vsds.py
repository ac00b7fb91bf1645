"""Noise-invariant video score distillation sampling, which sets a still image in motion (equation 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from i4vgen.backbones.base import Backbone, EncodedPrompt
from i4vgen.backbones.prediction import NoiseLevel
from i4vgen.method.sampling import Step


def ni_vsds(
    backbone: Backbone,
    latents: Tensor,
    noise: Tensor,
    levels: Sequence[NoiseLevel],
    step_sizes: Sequence[float],
    prompt_embeds: EncodedPrompt,
    guidance_scale: float,
) -> Iterator[Step]:
    """Updates a still video by equation 5 at every noise level t.

        z <- z - step_size * weight_t * (eps(add_noise(z, noise, t), t) - noise)

    where weight_t, the noise's share of the variance, is 1 - alpha_bar_t.

    Args:
        backbone: The model that predicts `eps`.
        latents: The still video z, [B, C, F, h, w].
        noise: The noise, of the same shape, drawn once and kept for all steps, hence noise-invariant.
        levels: The noise levels, from noisy to clean.
        step_sizes: The step sizes, one per level.
        prompt_embeds: The condition of `eps`.
        guidance_scale: The scale of classifier-free guidance in `eps`.

    Yields:
        Every step, with clean latents.
    """
    for level, step_size in zip(levels, step_sizes, strict=True):
        before = latents
        prediction = backbone.predict(level.add_noise(before, noise), level, prompt_embeds, guidance_scale)
        latents = before - step_size * (level.weight * (prediction.noise - noise))
        yield Step(level, before, latents, clean=latents)
