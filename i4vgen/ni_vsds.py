"""Noise-invariant video score distillation sampling: a still image starts to move (paper, equation 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import torch

from i4vgen.backbones.base import Backbone, PromptEmbeds
from i4vgen.backbones.prediction import NoiseLevel


@dataclass(frozen=True)
class NIVSDSStep:
    """One step of NI-VSDS.

    Attributes:
        index: Counts from 0.
        level: The noise level that it looked at.
        update: Mean absolute change of the latents, a scalar on their device: reading it waits for the device.
        latents: [B, C, F, h, w] after the step.
    """

    index: int
    level: NoiseLevel
    update: torch.Tensor
    latents: torch.Tensor

    @property
    def clean(self) -> torch.Tensor:
        """The video so far, [B, C, F, h, w]: NI-VSDS works on clean latents throughout."""
        return self.latents


def ni_vsds(
    backbone: Backbone,
    latents: torch.Tensor,
    noise: torch.Tensor,
    levels: Iterable[NoiseLevel],
    prompt_embeds: PromptEmbeds,
    guidance_scale: float,
    stride: Fraction = Fraction(1),
) -> Iterator[NIVSDSStep]:
    """Equation 5. At every noise level t, with the step size of the backbone for this step,

        z <- z - step_size * weight_t * (eps(add_noise(z, noise, t), t) - noise)

    where weight_t, the share of noise in the variance, is 1 - alpha_bar_t.

    Args:
        latents: The still video z to start from, [B, C, F, h, w].
        noise: Of the same shape. Drawn once and kept for all steps, hence noise-invariant.
        levels: From noisy to clean.
        prompt_embeds: What `eps` is conditioned on.
        guidance_scale: Of the classifier-free guidance in `eps`.
        stride: How many of the backbone's steps one of these stands for: more than 1 where there are fewer.

    Yields:
        Every step.
    """
    for index, level in enumerate(levels):
        noisy = level.add_noise(latents, noise)
        prediction = backbone.predict(noisy, level, prompt_embeds, guidance_scale)
        gradient = level.weight * (prediction.noise - noise)
        update = joint_step_size(backbone, index, stride, level.weight) * gradient
        latents = latents - update
        yield NIVSDSStep(index, level, update.abs().mean(), latents)


def joint_step_size(backbone: Backbone, index: int, stride: Fraction, weight: float) -> float:
    """The size of a step that goes as far as all of the backbone's steps that it stands for.

    With the clean latents z0 that the model predicts, equation 5 is z <- z - lambda (z - z0), where lambda =
    step_size * sqrt(weight_t (1 - weight_t)). Steps towards one z0 multiply what each leaves of the way,
    1 - lambda, so that together they do not go beyond it; the sum of their sizes would.

    Args:
        index: Of this step, counted from 0.
        stride: How many steps it stands for, on average. Every one of them belongs to exactly one step.
        weight: Of its noise level.
    """
    unit = math.sqrt(weight * (1 - weight))
    sizes = map(backbone.ni_vsds_step_size, range(int(index * stride), int((index + 1) * stride)))
    return reduce(lambda joint, size: joint + size - unit * joint * size, sizes)
