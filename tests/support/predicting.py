"""What a model takes for noise, and where its samplers look, by timestep."""

from __future__ import annotations

import torch

from i4vgen.backbones.base import EncodedPrompt, Sampler
from i4vgen.backbones.stable_diffusion import StableDiffusionBackbone


def predict_noise(
    backbone: StableDiffusionBackbone,
    latents: torch.Tensor,
    t: int,
    prompt_embeds: EncodedPrompt,
    guidance_scale: float,
) -> torch.Tensor:
    """The noise predicted in latents [B, C, F, h, w] at timestep t."""
    return backbone.predict(latents, backbone.level(t), prompt_embeds, guidance_scale).noise


def timesteps(sampler: Sampler) -> list[float]:
    """The timesteps of a sampler, from noisy to clean."""
    return [level.timestep for level in sampler.levels]
