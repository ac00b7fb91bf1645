"""Samplers based on diffusers' schedulers. Multistep solvers keep state, so each pass needs a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from i4vgen.backbones.prediction import NoiseLevel, Prediction

# Keyed by sampler names. "dpm++" is the second-order multistep DPM-Solver++ (arXiv 2211.01095).
SCHEDULERS = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler, "dpm++": DPMSolverMultistepScheduler}
FLOW_SCHEDULERS = {"unipc": UniPCMultistepScheduler, "dpm++": DPMSolverMultistepScheduler}
NAMES = tuple(dict.fromkeys((*SCHEDULERS, *FLOW_SCHEDULERS)))


class DiffusersSampler:
    """A `base.Sampler` for models with a table of noise levels.

    Args:
        name: A key of `SCHEDULERS`.
        schedule: The configuration of a diffusers scheduler.
        num_inference_steps: The number of steps of the full schedule.
        last: The number of steps to keep at the clean end; None keeps all.
    """

    def __init__(
        self, name: str, schedule: Mapping[str, Any], num_inference_steps: int, last: int | None = None
    ):
        # diffusers clips samples to -1..1 by default, which latents exceed.
        options = {"clip_sample": False}
        if name == "dpm++":  # the usual "leading" starts far below the noisiest level if there are few steps
            options = {"timestep_spacing": "linspace"}
        self._scheduler = SCHEDULERS[name].from_config(schedule, **options)
        self._scheduler.set_timesteps(num_inference_steps)
        timesteps = self._scheduler.timesteps.tolist()
        first = 0 if last is None else len(timesteps) - last
        table = noise_levels(self._scheduler)
        self.levels: Sequence[NoiseLevel] = [table[t] for t in timesteps[first:]]
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(first)

    def step(self, prediction: Prediction, generators: list[torch.Generator]) -> Tensor:
        step = self._scheduler.step(
            prediction.output, prediction.level.timestep, prediction.noisy, generator=generators or None
        )
        return step.prev_sample


class FlowSampler:
    """A `base.Sampler` for flow models, with sigmas from `first_sigma` to 0, shifted as the schedule requires.

    Args:
        name: A key of `FLOW_SCHEDULERS`.
        schedule: The configuration of a `UniPCMultistepScheduler` (`flow_schedule`).
        num_inference_steps: The number of steps of the full schedule.
        last: The number of steps to keep at the clean end; None keeps all.
        first_sigma: The first sigma before the shift.
    """

    def __init__(
        self,
        name: str,
        schedule: Mapping[str, Any],
        num_inference_steps: int,
        last: int | None = None,
        first_sigma: float = 1.0,
    ):
        # All solvers use UniPC's spacing. In the code of Wan's authors, they have almost the same spacing.
        unipc: Any = UniPCMultistepScheduler.from_config(dict(schedule))  # the annotation also allows a pair
        cleanest = 1 / unipc.config["num_train_timesteps"]
        unipc.set_timesteps(sigmas=np.linspace(first_sigma, cleanest, num_inference_steps + 1)[:-1])
        self._scheduler = unipc
        if name != "unipc":
            self._scheduler = FLOW_SCHEDULERS[name].from_config(dict(schedule))
            self._scheduler.set_timesteps(num_inference_steps)
            self._scheduler.sigmas, self._scheduler.timesteps = unipc.sigmas, unipc.timesteps
        first = 0 if last is None else num_inference_steps - last
        self._scheduler.set_begin_index(first)
        steps = zip(unipc.timesteps.tolist(), unipc.sigmas.double().tolist()[:-1], strict=True)
        self.levels: Sequence[NoiseLevel] = [NoiseLevel.of_flow(t, sigma) for t, sigma in steps][first:]

    def step(self, prediction: Prediction, generators: list[torch.Generator]) -> Tensor:
        return self._scheduler.step(prediction.output, prediction.level.timestep, prediction.noisy).prev_sample


def flow_schedule(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts the scheduler configuration of a flow model, of any diffusers class, to one for UniPC."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    if config.get("_class_name") == "UniPCMultistepScheduler":
        scheduler: Any = UniPCMultistepScheduler.from_config(dict(config), **flow)  # also annotated as a pair
        return scheduler.config
    flow["flow_shift"] = config.get("flow_shift", config.get("shift", 1.0))
    flow["num_train_timesteps"] = config.get("num_train_timesteps", 1000)
    return UniPCMultistepScheduler(**flow).config


def noise_levels(scheduler: Any) -> list[NoiseLevel]:
    """Returns the noise levels of a diffusers scheduler by timestep."""
    # Convert to Python numbers, because reading from a GPU tensor waits for all queued work.
    alphas_cumprod = scheduler.alphas_cumprod.double().tolist()
    return [NoiseLevel.of_alpha_bar(t, alpha_bar) for t, alpha_bar in enumerate(alphas_cumprod)]
