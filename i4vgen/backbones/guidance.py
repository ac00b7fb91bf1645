"""Classifier-free guidance (arXiv 2207.12598)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptEmbeds:
    """An encoded prompt and negative prompt.

    Attributes:
        prompt: The prompt, [1, tokens, D].
        negative: The negative prompt, [1, tokens, D].
        image_negative: The negative prompt for single images; None if it is the same.
        anchor: The first frame for an image-to-video model, latents [1, C, 1, h, w]; None for other models
            and before `Backbone.condition`.
    """

    prompt: Tensor
    negative: Tensor
    image_negative: Tensor | None = None
    anchor: Tensor | None = None

    def negative_of(self, is_image: bool) -> Tensor:
        """Returns the negative prompt for images or videos."""
        return self.image_negative if is_image and self.image_negative is not None else self.negative


def guide(
    network: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    prompt: Tensor,
    negative: Tensor,
    guidance_scale: float,
    batch_size: int | None = None,
) -> Tensor:
    """Computes a network's output with classifier-free guidance.

    Args:
        network: A function of latents [b, C, F, h, w] and embeddings [b, tokens, D].
        latents: The noisy latents, [B, C, F, h, w], in the dtype of the network.
        prompt: The encoded prompt, [1, tokens, D].
        negative: The encoded negative prompt, [1, tokens, D].
        guidance_scale: The guidance scale. Values up to 1 turn guidance off and ignore the negative prompt.
        batch_size: The maximum of b; None means no limit.

    Returns:
        The guided output, float32 [B, C, F, h, w].
    """
    guided = guidance_scale > 1
    embeds = [negative, prompt] if guided else [prompt]
    embeds = torch.cat([each.expand(len(latents), -1, -1) for each in embeds])
    inputs = torch.cat([latents] * (1 + guided))
    batch_size = batch_size or len(inputs)
    batches = zip(inputs.split(batch_size), embeds.split(batch_size), strict=True)
    output = torch.cat([network(*batch) for batch in batches]).float()
    if not guided:
        return output
    unconditional, conditional = output.chunk(2)
    return unconditional + guidance_scale * (conditional - unconditional)
