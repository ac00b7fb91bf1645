"""Writes small random models as their authors name the weights: checkpoints of Stable Diffusion 1.5 in one
file, as on Civitai, AnimateDiff's motion modules and LoRAs, and transformers of Wan, as ComfyUI keeps them.

All blocks of the released models are there, with few channels. Beside each file the same weights can be written
in the diffusers layout, from `networks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel, WanTransformer3DModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.original_names import (
    LAYERS,
    TEXT,
    UNET,
    VAE,
    motion_name,
    unet_name,
    vae_name,
    wan_name,
)
from i4vgen.weights.clip import load_tokenizer

WIDTHS, TEXT_WIDTH = (32, 64, 96, 96), 64
"""The released models have 320, 640, 1280 and 1280 channels, and 768 for the text."""

HEADS = 8

Weights = dict[str, torch.Tensor]


def unet() -> UNet2DConditionModel:
    torch.manual_seed(10)
    return _liven(
        UNet2DConditionModel(
            sample_size=64,
            block_out_channels=WIDTHS,
            layers_per_block=LAYERS,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=HEADS,
        )
    )


def vae(seed: int = 11, **sizes: int) -> AutoencoderKL:
    torch.manual_seed(seed)
    config = {"latent_channels": 4, "scaling_factor": 0.18215} | sizes
    return AutoencoderKL(
        sample_size=512,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=WIDTHS,
        layers_per_block=LAYERS,
        **config,
    )


def text_encoder() -> CLIPTextModel:
    torch.manual_seed(12)
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=TEXT_WIDTH,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    return CLIPTextModel(config)


def motion_adapter(version: str = "v2") -> MotionAdapter:
    """version: v1 has 24 frames and no middle block, v2 has both, v3 has 32 frames and no middle block."""
    torch.manual_seed(13)
    return _liven(
        MotionAdapter(
            block_out_channels=WIDTHS,
            motion_layers_per_block=LAYERS,
            motion_num_attention_heads=HEADS,
            motion_max_seq_length=24 if version == "v1" else 32,
            use_motion_mid_block=version == "v2",
        )
    )


def write_folder(folder: Path) -> Path:
    """The same model in the diffusers layout."""
    unet().save_pretrained(folder / "unet")
    vae().save_pretrained(folder / "vae")
    text_encoder().save_pretrained(folder / "text_encoder")
    load_tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def checkpoint() -> Weights:
    """The weights of a checkpoint of Stable Diffusion 1.5, under its authors' names."""
    weights = {f"{UNET}{unet_name(name)}": w for name, w in unet().state_dict().items()}
    weights |= vae_weights(vae(), VAE)
    weights |= {
        f"{TEXT}text_model.{name.removeprefix('text_model.')}": w
        for name, w in text_encoder().state_dict().items()
    }
    weights[f"{TEXT}text_model.embeddings.position_ids"] = torch.arange(77)[None]
    weights["alphas_cumprod"] = torch.linspace(0.99, 0.005, 1000)
    return _own(weights)


def vae_weights(network: nn.Module, prefix: str = "") -> Weights:
    """The weights of vae-ft-mse-840000-ema-pruned.safetensors. prefix: as checkpoints have it."""
    return _own({f"{prefix}{vae_name(name)}": _as_conv(name, w) for name, w in network.state_dict().items()})


def motion_module(version: str = "v2") -> Weights:
    """The weights of mm_sd_v15.ckpt, mm_sd_v15_v2.ckpt or v3_sd15_mm.ckpt."""
    return _own({motion_name(name): w for name, w in motion_adapter(version).state_dict().items()})


def write(file: Path, weights: Mapping[str, torch.Tensor], **beside: object) -> Path:
    """Writes a file in the format that its ending says. beside: what a training's checkpoint also holds; the
    weights are then under "state_dict".
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".safetensors":
        save_file(dict(weights), file)
    else:
        torch.save({"state_dict": dict(weights), **beside} if beside else dict(weights), file)
    return file


def wan_transformer(**sizes: int) -> WanTransformer3DModel:
    """A transformer of text-to-video, with the number of channels of a head that all released ones have."""
    torch.manual_seed(14)
    config = {"num_attention_heads": 1, "attention_head_dim": 128, "in_channels": 4, "out_channels": 4}
    config |= {"text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2}
    return _liven(WanTransformer3DModel(**config | sizes))


def wan_weights(network: nn.Module) -> Weights:
    """The weights of a transformer of Wan under its authors' names."""
    return _own({wan_name(name): w for name, w in network.state_dict().items()})


def _as_conv(name: str, weight: torch.Tensor) -> torch.Tensor:
    """The VAE's attention is made of convolutions in the original."""
    is_projection = re.search(r"attentions\.0\.to_(q|k|v|out\.0)\.weight", name)
    return weight[:, :, None, None] if is_projection else weight


def _own(weights: Mapping[str, torch.Tensor]) -> Weights:
    return {name: weight.detach().clone().contiguous() for name, weight in weights.items()}


def _liven(network: nn.Module) -> nn.Module:
    """Zero weights, from which training begins, would hide that a layer is missing."""
    for weight in network.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.05)
    return network
