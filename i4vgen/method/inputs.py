"""The inputs that all steps of a run share."""

from __future__ import annotations

from dataclasses import dataclass

from i4vgen.backbones.base import EncodedPrompt
from i4vgen.config import GenerationConfig
from i4vgen.method.noise import Noise


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run, made by `I4VGenPipeline.prepare`.

    Attributes:
        config: The configuration, checked against the limits of the backbone.
        prompt_embeds: The encoded prompt, conditioned on the anchor once there is one (`Backbone.condition`).
        noise: The run's random numbers.
    """

    config: GenerationConfig
    prompt_embeds: EncodedPrompt
    noise: Noise
