"""The catalogue's models at full size with random weights: what takes time and memory, without a download.

The sizes are those of the released configurations. A random text takes the place of the text encoder, which
runs once per run and takes no time that counts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
    UNetMotionModel,
)
from torch import nn

from i4vgen.backbones import lavie
from i4vgen.backbones.animatediff import SCHEDULE, STEP_SIZES, AnimateDiffBackbone, adopt_motion_modules
from i4vgen.backbones.lavie import LaVieBackbone, LaVieUNet
from i4vgen.backbones.sparsectrl import SparseCtrlBackbone
from i4vgen.backbones.stable_diffusion import PromptEmbeds, StableDiffusionBackbone
from i4vgen.generation_config import Defaults
from i4vgen.hub import default_dtype, quiet

TOKENS, TEXT_WIDTH = 77, 768

UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 8,
}
VAE = {
    "sample_size": 512,  # of the tiles of the leaner memory modes
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "scaling_factor": 0.18215,
}
MOTION = {"motion_max_seq_length": 32}
CONTROLNET = {
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 8,
    "use_simplified_condition_embedding": True,
    "conditioning_channels": 4,
}

DEFAULTS = {"animatediff": Defaults(), "sparsectrl": Defaults(), "lavie": lavie.DEFAULTS}


def backbone(model: str, device: str) -> StableDiffusionBackbone:
    """A model of the catalogue. Raises `KeyError` for one that is not listed in `MAKERS`."""
    torch.manual_seed(0)
    made = MAKERS[model](device, default_dtype(device))
    made.encode_prompt = lambda *_: PromptEmbeds(
        *torch.randn(2, 1, TOKENS, TEXT_WIDTH, device=device, dtype=made.dtype)
    )
    return made


def _vae(dtype: torch.dtype) -> AutoencoderKL:
    return _ready(AutoencoderKL(**VAE), dtype)


def _motion_unet(dtype: torch.dtype, mid_block: bool) -> UNetMotionModel:
    adapter = MotionAdapter(**MOTION, use_motion_mid_block=mid_block)
    with quiet():
        unet = UNetMotionModel.from_unet2d(UNet2DConditionModel(**UNET), adapter)
    return _ready(adopt_motion_modules(unet), dtype)


def _ready(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    with quiet():  # diffusers warns of every cast
        return network.to(dtype).requires_grad_(False).eval()


def _animatediff(device: str, dtype: torch.dtype) -> AnimateDiffBackbone:
    return AnimateDiffBackbone(
        _motion_unet(dtype, mid_block=True),
        DDIMScheduler(**SCHEDULE),
        DEFAULTS["animatediff"],
        _vae(dtype),
        step_sizes=STEP_SIZES,
        device=device,
    )


def _sparsectrl(device: str, dtype: torch.dtype) -> SparseCtrlBackbone:
    controlnet = adopt_motion_modules(_ready(SparseControlNetModel(**CONTROLNET), dtype))
    return SparseCtrlBackbone(
        controlnet,
        unet=_motion_unet(dtype, mid_block=False),
        scheduler=DDIMScheduler(**SCHEDULE),
        defaults=DEFAULTS["sparsectrl"],
        vae=_vae(dtype),
        step_sizes=STEP_SIZES,
        device=device,
    )


def _lavie(device: str, dtype: torch.dtype) -> LaVieBackbone:
    unet, scheduler = _ready(LaVieUNet(), dtype), DDIMScheduler(**lavie.SCHEDULE)
    return LaVieBackbone(unet, scheduler, DEFAULTS["lavie"], _vae(dtype), device=device)


MAKERS: dict[str, Callable[[str, torch.dtype], StableDiffusionBackbone]] = {
    "animatediff": _animatediff,
    "sparsectrl": _sparsectrl,
    "lavie": _lavie,
}
