"""Writes a small random LaVie in the layout that the hub has it in."""

from __future__ import annotations

import math
from pathlib import Path

import torch

# Two levels, of which the finer one has transformers. One head, as rotary positions take 32 channels of each.
# Text of 16 channels, as the tests' tiny Stable Diffusion writes it.
LATENT, CHANNELS, TEXT, HEADS, ROTARY = 4, (32, 64), 16, 1, 32


def write_lavie(folder: Path) -> None:
    """Vchitect/LaVie: lavie_base.pt, a state dict under the key "ema"."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"ema": lavie_weights()}, folder / "lavie_base.pt")


def lavie_weights() -> dict[str, torch.Tensor]:
    """The state dict of the authors' network. All layers share the frequencies of their rotary positions."""
    random = torch.Generator().manual_seed(0)
    frequencies = 10000 ** -(torch.arange(0, ROTARY, 2) / ROTARY)
    weights: dict[str, torch.Tensor] = {}

    def matrix(key: str, *shape: int) -> None:
        fan_in = math.prod(shape[1:])
        weights[f"{key}.weight"] = torch.randn(*shape, generator=random) / fan_in**0.5

    def layer(key: str, *shape: int) -> None:
        matrix(key, *shape)
        weights[f"{key}.bias"] = torch.randn(shape[0], generator=random) * 0.1

    def norm(key: str, width: int) -> None:
        weights[f"{key}.weight"] = 1 + torch.randn(width, generator=random) * 0.1
        weights[f"{key}.bias"] = torch.randn(width, generator=random) * 0.1

    def resnet(key: str, before: int, after: int) -> None:
        norm(f"{key}.norm1", before)
        layer(f"{key}.conv1", after, before, 3, 3)
        layer(f"{key}.time_emb_proj", after, 4 * CHANNELS[0])
        norm(f"{key}.norm2", after)
        layer(f"{key}.conv2", after, after, 3, 3)
        if before != after:
            layer(f"{key}.conv_shortcut", after, before, 1, 1)

    def transformer(key: str, width: int) -> None:
        norm(f"{key}.norm", width)
        layer(f"{key}.proj_in", width, width, 1, 1)
        block = f"{key}.transformer_blocks.0"
        for attention, source in (("attn1", width), ("attn2", TEXT), ("attn_temp", width)):
            matrix(f"{block}.{attention}.to_q", width, width)
            matrix(f"{block}.{attention}.to_k", width, source)
            matrix(f"{block}.{attention}.to_v", width, source)
            layer(f"{block}.{attention}.to_out.0", width, width)
        weights[f"{block}.attn_temp.rotary_emb.freqs"] = frequencies
        matrix(f"{block}.attn_temp.time_rel_pos_bias.relative_attention_bias", 32, HEADS)
        for name in ("norm1", "norm2", "norm_temp", "norm3"):
            norm(f"{block}.{name}", width)
        layer(f"{block}.ff.net.0.proj", 8 * width, width)
        layer(f"{block}.ff.net.2", width, 4 * width)
        layer(f"{key}.proj_out", width, width, 1, 1)

    fine, coarse = CHANNELS
    layer("conv_in", fine, LATENT, 3, 3)
    layer("time_embedding.linear_1", 4 * fine, fine)
    layer("time_embedding.linear_2", 4 * fine, 4 * fine)
    resnet("down_blocks.0.resnets.0", fine, fine)
    transformer("down_blocks.0.attentions.0", fine)
    layer("down_blocks.0.downsamplers.0.conv", fine, fine, 3, 3)
    resnet("down_blocks.1.resnets.0", fine, coarse)
    resnet("mid_block.resnets.0", coarse, coarse)
    transformer("mid_block.attentions.0", coarse)
    resnet("mid_block.resnets.1", coarse, coarse)
    resnet("up_blocks.0.resnets.0", coarse + coarse, coarse)
    resnet("up_blocks.0.resnets.1", coarse + fine, coarse)
    layer("up_blocks.0.upsamplers.0.conv", coarse, coarse, 3, 3)
    resnet("up_blocks.1.resnets.0", coarse + fine, fine)
    resnet("up_blocks.1.resnets.1", fine + fine, fine)
    transformer("up_blocks.1.attentions.0", fine)
    transformer("up_blocks.1.attentions.1", fine)
    norm("conv_norm_out", fine)
    layer("conv_out", LATENT, fine, 3, 3)
    return weights
