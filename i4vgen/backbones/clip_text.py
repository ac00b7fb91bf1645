"""Encodes prompts of any length, with weights, using CLIP's text encoder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen.weights.prompt_syntax import Span, has_weights, weighted_parts, without_weights
from i4vgen.weights.vocabulary import cut_off

if TYPE_CHECKING:
    from compel import EmbeddingsProvider


def encode_texts(
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    texts: Sequence[str],
    device: torch.device,
    to_the_end: bool = True,
) -> Tensor:
    """Encodes prompts to embeddings [B, tokens, D] of equal length.

    If no prompt has weights or is to be read beyond the encoder's context (77 tokens in Stable Diffusion), all
    are encoded as in diffusers. Otherwise, compel encodes all of them: long prompts in several chunks, and
    weighted words by moving away from the empty prompt's embedding (weights above 1) or towards the prompt
    without them (below 1).

    Args:
        tokenizer: The tokenizer of the text encoder.
        text_encoder: CLIP's text encoder, on `device`.
        texts: The B prompts.
        device: The device of the text encoder.
        to_the_end: Whether to read prompts beyond the encoder's context instead of truncating them.
    """
    if not any(has_weights(text) or (to_the_end and cut_off(tokenizer, text)) for text in texts):
        tokens = tokenizer(
            [without_weights(text) for text in texts],
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return text_encoder(tokens.input_ids.to(device))[0]
    return encode_weighted(tokenizer, text_encoder, texts, device, to_the_end)


def encode_weighted(
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    texts: Sequence[str],
    device: torch.device,
    to_the_end: bool = True,
) -> Tensor:
    """Encodes prompts like `encode_texts`, but always with compel."""
    provider = _provider_class()(tokenizer, text_encoder, truncate=not to_the_end, device=str(device))
    encoded = []
    for text in texts:
        parts = weighted_parts(text) or [Span("")]
        encoded.append(
            provider.get_embeddings_for_weighted_prompt_fragments(
                [[part.text for part in parts]], [[part.weight for part in parts]], device=str(device)
            )
        )
    longest = max(each.shape[1] for each in encoded)
    empty = provider.empty_z.to(encoded[0])
    padding = [[empty] * ((longest - each.shape[1]) // empty.shape[1]) for each in encoded]
    return torch.cat([torch.cat([each, *pad], dim=1) for each, pad in zip(encoded, padding, strict=True)])


@cache
def _provider_class() -> type[EmbeddingsProvider]:
    """Imports compel's encoder on first use, because the import takes seconds.

    The import also loads diffusers' pipelines, whose warning about missing torchvision is silenced.
    """
    log = logging.getLogger("transformers")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        from compel import EmbeddingsProvider
    finally:
        log.setLevel(level)
    return EmbeddingsProvider
