"""Converts diffusers' names of weights to those of the authors of Stable Diffusion 1.5, AnimateDiff and Wan.

This is the inverse of diffusers' converters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
"""Prefixes of the weights of each network in a checkpoint."""

LAYERS = 2
"""Number of layers of each block of the UNet and the VAE."""

# Diffusers' names on the left, those of the authors on the right.
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET_LAYERS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
VAE_LAYERS = {
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
}
WAN_LAYERS = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "attn1": "self_attn",
    "attn2": "cross_attn",
    "to_out.0": "o",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "proj_out": "head.head",
}


def unet_name(name: str) -> str:
    """Returns the authors' name of a weight of the UNet."""
    each = LAYERS + 1

    def down(match: re.Match[str]) -> str:
        return f"input_blocks.{1 + int(match[1]) * each + int(match[3])}.{'01'[match[2] == 'attentions']}"

    def up(match: re.Match[str]) -> str:
        return f"output_blocks.{int(match[1]) * each + int(match[3])}.{'01'[match[2] == 'attentions']}"

    def upsampler(match: re.Match[str]) -> str:
        level = int(match[1])
        return f"output_blocks.{level * each + LAYERS}.{1 if level == 0 else 2}"

    if ".resnets." in name:
        name = _replaced(name, RESNET)
    name = re.sub(r"down_blocks\.(\d)\.(resnets|attentions)\.(\d)", down, name)
    name = re.sub(r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)", up, name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", upsampler, name)
    name = re.sub(
        r"down_blocks\.(\d)\.downsamplers\.0\.conv",
        lambda match: f"input_blocks.{(int(match[1]) + 1) * each}.0.op",
        name,
    )
    return _replaced(name, UNET_LAYERS)


def vae_name(name: str) -> str:
    """Returns the authors' name of a weight of the VAE. They count the decoder's blocks from the other end."""
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
    return _replaced(name, VAE_LAYERS)


def motion_name(name: str) -> str:
    """Returns the authors' name of a weight or a layer of a motion module."""
    name = re.sub(r"(motion_modules\.\d)", r"\1.temporal_transformer", name)
    name = name.replace(".attn1.", ".attention_blocks.0.").replace(".attn2.", ".attention_blocks.1.")
    name = name.replace(".pos_embed.pe", ".attention_blocks.0.pos_encoder.pe")
    return name.replace(".norm1.", ".norms.0.").replace(".norm2.", ".norms.1.").replace(".norm3.", ".ff_norm.")


def wan_name(name: str) -> str:
    """Returns the authors' name of a weight of Wan's transformer."""
    if name == "scale_shift_table":
        return "head.modulation"
    name = name.replace("scale_shift_table", "modulation").replace(".norm2.", ".norm3.")
    return _replaced(name, WAN_LAYERS)


def _replaced(name: str, table: Mapping[str, str]) -> str:
    for new, old in table.items():
        name = re.sub(rf"(?<![\w]){re.escape(new)}(?=\.|$)", old, name)
    return name
