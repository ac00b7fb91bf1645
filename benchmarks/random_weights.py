"""Makes the catalogue's models at full size with random weights, to measure time and memory without downloads.

The sizes are those of the released configurations. Random embeddings replace the text encoder, whose single
call per run takes negligible time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    DDIMScheduler,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
    UNetMotionModel,
    WanTransformer3DModel,
)
from torch import nn

from i4vgen.backbones import wan
from i4vgen.backbones.animatediff import SCHEDULE, STEP_SIZES, AnimateDiffBackbone, adopt_motion_modules
from i4vgen.backbones.base import Backbone
from i4vgen.backbones.guidance import PromptEmbeds
from i4vgen.backbones.lavie import backbone as lavie
from i4vgen.backbones.lavie.backbone import LaVieBackbone
from i4vgen.backbones.lavie.network import LaVieUNet
from i4vgen.backbones.samplers import flow_schedule
from i4vgen.backbones.sparsectrl import SparseCtrlBackbone
from i4vgen.backbones.wan import WanBackbone
from i4vgen.config import Defaults
from i4vgen.models.catalog import WAN_SIZES
from i4vgen.weights.hub import default_dtype, quiet

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

WAN = {
    "wan": {
        "transformer": WAN_SIZES["wan"],
        "vae": {},
        "schedule": {"flow_shift": 3.0},
        "defaults": replace(wan.DEFAULTS, size_multiple=16),
    },
    "wan-5b": {
        "transformer": {**WAN_SIZES["wan-5b"], "in_channels": 48, "out_channels": 48},
        "vae": {
            "base_dim": 160,
            "decoder_base_dim": 256,
            "z_dim": 48,
            "latents_mean": [0.0] * 48,
            "latents_std": [1.0] * 48,
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 16,
        },
        "schedule": {"flow_shift": 5.0},
        "defaults": replace(wan.DEFAULTS, size_multiple=32, **wan.LARGER),
    },
}

DEFAULTS = {
    "animatediff": Defaults(),
    "sparsectrl": Defaults(),
    "lavie": lavie.DEFAULTS,
    **{name: sizes["defaults"] for name, sizes in WAN.items()},
}


def backbone(model: str, device: str) -> Backbone:
    """Makes a model of the catalogue. Raises `KeyError` for one that `MAKERS` does not list.

    device: On "meta", without weights and memory, FLOPs can be counted.
    """
    torch.manual_seed(0)
    make = MAKERS[model]
    if model in WAN:
        made = make(device, default_dtype(device, WanBackbone.half))
        texts, shape = 3, (wan.TOKENS, made.transformer.config["text_dim"])
    else:
        made = make(device, default_dtype(device))
        texts, shape = 2, (TOKENS, TEXT_WIDTH)
    made.encode_prompt = lambda *_: PromptEmbeds(
        *torch.randn(texts, 1, *shape, device=device, dtype=made.dtype).unbind()
    )
    return made


def _vae(device: str, dtype: torch.dtype) -> AutoencoderKL:
    with torch.device(device):
        return _ready(AutoencoderKL(**VAE), dtype)


def _motion_unet(device: str, dtype: torch.dtype, mid_block: bool) -> UNetMotionModel:
    with torch.device(device):
        adapter = MotionAdapter(**MOTION, use_motion_mid_block=mid_block)
        with quiet():
            unet = UNetMotionModel.from_unet2d(UNet2DConditionModel(**UNET), adapter)
        return _ready(adopt_motion_modules(unet), dtype)


def _ready(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    with quiet():  # diffusers warns of every cast
        return network.to(dtype).requires_grad_(False).eval()


def _animatediff(device: str, dtype: torch.dtype) -> AnimateDiffBackbone:
    return AnimateDiffBackbone(
        _motion_unet(device, dtype, mid_block=True),
        DDIMScheduler(**SCHEDULE),
        DEFAULTS["animatediff"],
        _vae(device, dtype),
        step_sizes=STEP_SIZES,
        device=device,
    )


def _sparsectrl(device: str, dtype: torch.dtype) -> SparseCtrlBackbone:
    with torch.device(device):
        controlnet = adopt_motion_modules(_ready(SparseControlNetModel(**CONTROLNET), dtype))
    return SparseCtrlBackbone(
        controlnet,
        unet=_motion_unet(device, dtype, mid_block=False),
        scheduler=DDIMScheduler(**SCHEDULE),
        defaults=DEFAULTS["sparsectrl"],
        vae=_vae(device, dtype),
        step_sizes=STEP_SIZES,
        device=device,
    )


def _lavie(device: str, dtype: torch.dtype) -> LaVieBackbone:
    with torch.device(device):
        unet = _ready(LaVieUNet(), dtype)
    scheduler = DDIMScheduler(**lavie.SCHEDULE)
    return LaVieBackbone(unet, scheduler, DEFAULTS["lavie"], _vae(device, dtype), device=device)


def _wan(model: str, device: str, dtype: torch.dtype) -> WanBackbone:
    sizes = WAN[model]
    with torch.device(device):
        transformer = WanTransformer3DModel(**sizes["transformer"]).requires_grad_(False).eval()
        vae = AutoencoderKLWan(**sizes["vae"]).requires_grad_(False).eval()
    for name, weight in transformer.named_parameters():  # as they are loaded: some stay in float32
        if not any(kept in name for kept in transformer._keep_in_fp32_modules):
            weight.data = weight.data.to(dtype)
    return WanBackbone(
        transformer,
        flow_schedule(sizes["schedule"]),
        vae,
        sizes["defaults"],
        expand_timesteps=model == "wan-5b",
        device=device,
    )


MAKERS: dict[str, Callable[[str, torch.dtype], Backbone]] = {
    "animatediff": _animatediff,
    "sparsectrl": _sparsectrl,
    "lavie": _lavie,
    **{name: partial(_wan, name) for name in WAN},
}
