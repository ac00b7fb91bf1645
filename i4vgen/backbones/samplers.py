"""Samplers: diffusers' schedulers, one fresh object per stage, because multistep solvers remember."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

# By the names that a request uses. DPM-Solver++ is the second-order multistep one (arXiv 2211.01095).
SCHEDULERS = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler, "dpm++": DPMSolverMultistepScheduler}


class DiffusersSampler:
    """Speaks the protocol of `base.Sampler`, for models that predict the noise.

    timesteps: from noisy to clean.
    """

    def __init__(
        self, name: str, schedule: Mapping[str, Any], num_inference_steps: int, last: int | None = None
    ):
        """name: a key of `SCHEDULERS`. schedule: the configuration of a diffusers scheduler. last: only the
        last so many of the timesteps.
        """
        # Latents are not bounded by 1, so clipping them, diffusers' default, is wrong for any latent model.
        options = {"clip_sample": False}
        if name == "dpm++":  # so few steps must not begin late: what they begin with is noise alone
            options = {"timestep_spacing": "linspace"}
        self._scheduler = SCHEDULERS[name].from_config(schedule, **options)
        self._scheduler.set_timesteps(num_inference_steps)
        timesteps = self._scheduler.timesteps.tolist()
        self.timesteps: list[int] = timesteps if last is None else timesteps[len(timesteps) - last :]
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(len(timesteps) - len(self.timesteps))

    def step(
        self, noise: torch.Tensor, t: int, latents: torch.Tensor, generators: list[torch.Generator]
    ) -> torch.Tensor:
        return self._scheduler.step(noise, t, latents, generator=generators or None).prev_sample
