"""Samplers: diffusers' schedulers, one fresh object per stage, because multistep solvers remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)

from i4vgen.backbones.prediction import NoiseLevel, Prediction

# By the names that a request uses. DPM-Solver++ is the second-order multistep one (arXiv 2211.01095).
SCHEDULERS = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler, "dpm++": DPMSolverMultistepScheduler}
FLOW_SCHEDULERS = {"unipc": UniPCMultistepScheduler, "dpm++": DPMSolverMultistepScheduler}
NAMES = tuple(dict.fromkeys((*SCHEDULERS, *FLOW_SCHEDULERS)))


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


class FlowSampler:
    """The same for flow models, whose noise levels are any from 1 to 0, shifted towards noise.

    levels: from noisy to clean.
    """

    def __init__(
        self,
        name: str,
        schedule: Mapping[str, Any],
        num_inference_steps: int,
        last: int | None = None,
        first_sigma: float = 1.0,
    ):
        """name: a key of `FLOW_SCHEDULERS`. schedule: the configuration of a `UniPCMultistepScheduler` (see
        `flow_schedule`). last: only the last so many of the steps. first_sigma: the amount of noise that the
        steps begin with, before the shift.
        """
        # UniPC's way of dividing the schedule, of which Wan's authors make use, whoever solves it.
        # Any: by its annotations it could also be a pair.
        way: Any = UniPCMultistepScheduler.from_config(dict(schedule))
        cleanest = 1 / way.config["num_train_timesteps"]
        way.set_timesteps(sigmas=np.linspace(first_sigma, cleanest, num_inference_steps + 1)[:-1])
        self._scheduler = way
        if name != "unipc":
            self._scheduler = FLOW_SCHEDULERS[name].from_config(dict(schedule))
            self._scheduler.set_timesteps(num_inference_steps)
            self._scheduler.sigmas, self._scheduler.timesteps = way.sigmas, way.timesteps
        first = 0 if last is None else num_inference_steps - last
        self._scheduler.set_begin_index(first)
        steps = zip(way.timesteps.tolist(), way.sigmas.double().tolist()[:-1], strict=True)
        self.levels: Sequence[NoiseLevel] = [NoiseLevel.of_flow(t, sigma) for t, sigma in steps][first:]

    def step(self, prediction: Prediction, generators: list[torch.Generator]) -> torch.Tensor:
        return self._scheduler.step(prediction.output, prediction.level.timestep, prediction.noisy).prev_sample


def flow_schedule(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A flow model's schedule, whichever of diffusers' schedulers it was saved with."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    if config.get("_class_name") == "UniPCMultistepScheduler":
        own: Any = UniPCMultistepScheduler.from_config(dict(config), **flow)  # a pair only if asked for one
        return own.config
    flow["flow_shift"] = config.get("flow_shift", config.get("shift", 1.0))
    flow["num_train_timesteps"] = config.get("num_train_timesteps", 1000)
    return UniPCMultistepScheduler(**flow).config


def noise_levels(scheduler: Any) -> list[NoiseLevel]:
    """The table of a diffusers scheduler, by timestep."""
    # Plain numbers: reading one from a tensor on a GPU would wait for everything queued there.
    alphas_cumprod = scheduler.alphas_cumprod.double().tolist()
    return [NoiseLevel.of_alpha_bar(t, alpha_bar) for t, alpha_bar in enumerate(alphas_cumprod)]
