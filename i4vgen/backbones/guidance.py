"""Classifier-free guidance (arXiv 2207.12598)."""

from __future__ import annotations

from collections.abc import Callable

import torch


def guide(
    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    latents: torch.Tensor,
    prompt: torch.Tensor,
    negative: torch.Tensor,
    guidance_scale: float,
    at_once: int | None = None,
) -> torch.Tensor:
    """A network's output for a prompt, led away from that for a negative prompt.

    Args:
        network: Called with latents [b, C, F, h, w] and as many embeddings [b, tokens, D].
        latents: [B, C, F, h, w], in the precision of the network.
        prompt: [1, tokens, D].
        negative: Likewise.
        guidance_scale: At most 1 means no guidance: then the negative prompt is not looked at.
        at_once: The largest b; None means all that there are.

    Returns:
        float32, [B, C, F, h, w].
    """
    guided = guidance_scale > 1
    embeds = [negative, prompt] if guided else [prompt]
    embeds = torch.cat([each.expand(len(latents), -1, -1) for each in embeds])
    inputs = torch.cat([latents] * (1 + guided))
    at_once = at_once or len(inputs)
    parts = zip(inputs.split(at_once), embeds.split(at_once), strict=True)
    output = torch.cat([network(*part) for part in parts]).float()
    if not guided:
        return output
    unconditional, conditional = output.chunk(2)
    return unconditional + guidance_scale * (conditional - unconditional)
