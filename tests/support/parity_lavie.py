"""The LaVie side of `tests.parity`: the backbone of a recorded run of the authors' implementation."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import DDIMScheduler

from i4vgen.backbones.lavie.backbone import LaVieBackbone
from i4vgen.backbones.lavie.network import FURTHEST, LaVieUNet
from i4vgen.config import Defaults
from i4vgen.errors import ModelError


def is_lavie(weights: dict[str, torch.Tensor]) -> bool:
    """Whether these are a LaVie network's weights: its temporal attention has names of its own."""
    return any(".attn_temp." in key for key in weights)


def build_backbone(
    weights: dict[str, torch.Tensor], config: dict[str, Any], num_frames: int, size_multiple: int
) -> LaVieBackbone:
    """The product's backbone around a recording's network, which comes without text encoder and VAE.

    weights: under the authors' key names. config: the recording's metadata.
    Raises `ModelError` for what the product does not run.
    """
    try:
        unet = LaVieUNet.from_weights(weights, norm_num_groups=config.get("norm_num_groups", 32))
    except ValueError as error:
        raise ModelError(f"its network is not LaVie's ({error})") from error
    heads = unet.config.num_attention_heads
    if config.get("attention_heads", heads) != heads:
        raise ModelError(f"its network has {heads} heads, its metadata say {config['attention_heads']}")
    defaults = Defaults(max_frames=max(FURTHEST, num_frames), size_multiple=size_multiple)
    return LaVieBackbone(unet, build_scheduler(config), defaults, step_sizes=step_sizes(config))


def build_scheduler(config: dict[str, Any]) -> DDIMScheduler:
    """The recorded noise schedule; what it leaves open is what the authors load."""
    schedule = {
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        **config.get("scheduler", {}),
    }
    name = schedule.pop("name", "DDIM").removesuffix("Scheduler")
    if name != "DDIM":
        # DDPM draws noise at every step, and a recording has no place for it.
        raise ModelError(f"its scheduler is {name}: only recordings with DDIM can be compared")
    if unknown := sorted(set(schedule) - set(inspect.signature(DDIMScheduler).parameters)):
        raise ModelError(f"its scheduler has the unknown setting {unknown[0]}")
    return DDIMScheduler(**schedule)


def step_sizes(config: dict[str, Any]) -> list[float]:
    """The NI-VSDS step sizes: a list of the first ones, with 1 after them, one number for all, or LaVie's."""
    sizes = config.get("step_sizes", config.get("step_size", 1.0))
    if isinstance(sizes, (int, float)):
        return [float(sizes)]
    return [*map(float, sizes), 1.0]
