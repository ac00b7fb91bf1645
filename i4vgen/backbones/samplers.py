"""Samplers: diffusers' schedulers, one fresh object per stage, because multistep solvers remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from i4vgen.backbones.prediction import NoiseLevel, Prediction

# By the names that a request uses. DPM-Solver++ is the second-order multistep one (arXiv 2211.01095).
SCHEDULERS = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler, "dpm++": DPMSolverMultistepScheduler}


class DiffusersSampler:
    """Speaks the protocol of `base.Sampler`, for models with a table of noise levels.

    levels: from noisy to clean.
    """

    def __init__(
        self, name: str, schedule: Mapping[str, Any], num_inference_steps: int, last: int | None = None
    ):
        """name: a key of `SCHEDULERS`. schedule: the configuration of a diffusers scheduler. last: only the
        last so many of the steps.
        """
        # Latents are not bounded by 1, so clipping them, diffusers' default, is wrong for any latent model.
        options = {"clip_sample": False}
        if name == "dpm++":  # so few steps must not begin late: what they begin with is noise alone
            options = {"timestep_spacing": "linspace"}
        self._scheduler = SCHEDULERS[name].from_config(schedule, **options)
        self._scheduler.set_timesteps(num_inference_steps)
        timesteps = self._scheduler.timesteps.tolist()
        first = 0 if last is None else len(timesteps) - last
        table = noise_levels(self._scheduler)
        self.levels: Sequence[NoiseLevel] = [table[t] for t in timesteps[first:]]
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(first)

    def step(self, prediction: Prediction, generators: list[torch.Generator]) -> torch.Tensor:
        step = self._scheduler.step(
            prediction.output, prediction.level.timestep, prediction.noisy, generator=generators or None
        )
        return step.prev_sample


def noise_levels(scheduler: Any) -> list[NoiseLevel]:
    """The table of a diffusers scheduler, by timestep."""
    # Plain numbers: reading one from a tensor on a GPU would wait for everything queued there.
    alphas_cumprod = scheduler.alphas_cumprod.double().tolist()
    return [NoiseLevel.of_alpha_bar(t, alpha_bar) for t, alpha_bar in enumerate(alphas_cumprod)]
