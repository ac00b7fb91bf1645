"""What all links of one run share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from i4vgen.backbones.base import PromptEmbeds
from i4vgen.generation_config import GenerationConfig
from i4vgen.noise import Noise, video_noise


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run, made once by `I4VGenPipeline.prepare` and passed from link to link.

    Attributes:
        config: The run's configuration, checked against the limits of the backbone.
        prompt_embeds: The encoded prompt. From the moment there is an anchor, conditioned on it
            (`Backbone.condition`).
        noise: The run's random numbers.
        latent_frames: F, how many frames of latents its videos have.
    """

    config: GenerationConfig
    prompt_embeds: PromptEmbeds
    noise: Noise
    latent_frames: int

    @property
    def initial_noise(self) -> torch.Tensor:
        """The run's video noise, [1, C, F, h, w], on the CPU: where videos without I4VGen start."""
        return video_noise(self.noise, self.latent_frames)

    def fresh_noise(self, name: str) -> torch.Tensor:
        """Independent noise for the stage `name`, [1, C, F, h, w], on the CPU."""
        return self.noise.fresh(name, self.latent_frames)
