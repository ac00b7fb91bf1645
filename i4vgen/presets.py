"""The presets: "faithful" follows the paper; "fast" does about half the work.

"fast" samples I4VGen with DPM-Solver++ in about half the steps. It scores all candidates after part of the
steps and finishes only the best. Each of its NI-VSDS steps replaces about two steps of "faithful".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from typing import NamedTuple

PRESETS = ("faithful", "fast")

FAST_SAMPLER = "dpm++"
FAST_SHARE = 0.48  # share of the steps of "faithful": 12 of 25
SKETCH_SHARE = 0.6  # share of the steps after which all candidates are scored
FINISHED_SHARE = 0.25  # share of the candidates, the best ones, that are denoised to the end


class Sampling(NamedTuple):
    """A sampler's name and its number of steps."""

    sampler: str
    steps: int


def fast_sampling(steps: int) -> Sampling:
    """Returns the sampling of "fast" if "faithful" takes `steps` steps."""
    return Sampling(FAST_SAMPLER, max(1, round(steps * FAST_SHARE)))


class Round(NamedTuple):
    """One round of denoising: the number of candidates, and the number of further steps of each."""

    candidates: int
    steps: int


def fast_rounds(candidates: int, steps: int) -> list[Round]:
    """Returns the rounds of "fast": all candidates for some of the steps, then the best for the rest."""
    sketching, finished = int(steps * SKETCH_SHARE), math.ceil(candidates * FINISHED_SHARE)
    if not sketching or finished == candidates:
        return [Round(candidates, steps)]
    return [Round(candidates, sketching), Round(finished, steps - sketching)]


def joint_step_sizes(
    step_size: Callable[[int], float], weights: Sequence[float], stride: Fraction
) -> list[float]:
    """Returns the step sizes of NI-VSDS if each step replaces `stride` single steps on average.

    With the clean latents z0 that the model predicts, equation 5 is z <- z - lambda (z - z0), where lambda =
    step_size * sqrt(weight (1 - weight)). Each step leaves 1 - lambda of the distance to z0. Joint steps
    multiply these factors, so that they never overshoot z0; adding the step sizes would.

    Args:
        step_size: Returns the size of a single step by index (`Backbone.ni_vsds_step_size`).
        weights: The noise share of each joint step (`NoiseLevel.weight`).
        stride: Average number of single steps per joint step; 1 leaves the sizes unchanged. Every single step
            belongs to exactly one joint step.
    """

    def joint(index: int, weight: float) -> float:
        unit = math.sqrt(weight * (1 - weight))
        sizes = map(step_size, range(int(index * stride), int((index + 1) * stride)))
        return reduce(lambda joint, size: joint + size - unit * joint * size, sizes)

    return [joint(index, weight) for index, weight in enumerate(weights)]
