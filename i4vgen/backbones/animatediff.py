"""AnimateDiff: a Stable Diffusion UNet with motion modules between its layers, on diffusers.

One set of weights draws images (the motion modules are skipped) and videos. What differs from diffusers' own
`UNetMotionModel` is all in `MotionModule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen import hub
from i4vgen.backbones import own_settings
from i4vgen.backbones.lora import fuse_loras
from i4vgen.backbones.memory import Memory
from i4vgen.backbones.own_settings import read_config
from i4vgen.backbones.stable_diffusion import StableDiffusionBackbone
from i4vgen.errors import ModelError
from i4vgen.generation_config import Defaults
from i4vgen.vocabulary import Vocabulary

Network = TypeVar("Network", bound=nn.Module)

# The schedule that AnimateDiff's motion modules were trained under. Stable Diffusion, its base, has another.
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "steps_offset": 1,
}

STEP_SIZES = (10.0, 10.0, 10.0, 1.0)  # of NI-VSDS; the last one from there on


class MotionModule(AnimateDiffTransformer3D):
    """A motion module as the authors of AnimateDiff and I4VGen compute it.

    It differs from diffusers' module, whose class it takes over in place, so that weights and their names
    stay:
    - for a single frame it does nothing, which makes the UNet the text-to-image UNet that it was built on;
    - its group norm sees each frame by itself. diffusers normalises over all frames together, which moves the
      output of a UNet by up to a tenth of its range.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        timestep: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
        num_frames: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """hidden_states: [B * F, C, h, w], as is the result. The UNet leaves the other arguments empty, but
        passes some of them by position.
        """
        if num_frames == 1:
            return hidden_states
        frames, channels, height, width = hidden_states.shape
        batch = frames // num_frames
        x = self.norm(hidden_states)
        x = x.reshape(batch, num_frames, channels, height * width)
        x = x.permute(0, 3, 1, 2).reshape(batch * height * width, num_frames, channels)
        x = self.proj_in(x)
        for block in self.transformer_blocks:
            x = block(x)
        x = self.proj_out(x)
        x = x.reshape(batch, height * width, num_frames, channels).permute(0, 2, 3, 1)
        return hidden_states + x.reshape(hidden_states.shape)


def adopt_motion_modules(network: Network, norm_num_groups: int | None = None) -> Network:
    """Turns the motion modules of a UNet or a controlnet into `MotionModule`s, in place.

    norm_num_groups: groups of their norms. diffusers takes the UNet's number even if the motion adapter has
    its own.
    """
    for module in network.modules():
        if isinstance(module, AnimateDiffTransformer3D):
            module.__class__ = MotionModule
            module.norm.num_groups = norm_num_groups or module.norm.num_groups
    return network


class AnimateDiffBackbone(StableDiffusionBackbone):
    """Stable Diffusion with motion modules. `unet` must have them adopted (`adopt_motion_modules`)."""

    unet: UNetMotionModel

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        motion_adapter: str | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        memory: Memory | None = None,
        loras: Sequence[str] = (),
    ) -> AnimateDiffBackbone:
        """Loads a model in the diffusers layout.

        model: a folder or hub id. Its unet/ may be a plain text-to-image UNet (with motion_adapter/ beside
        it, or with `motion_adapter`, a folder or hub id of its own) or one that holds its motion modules
        already.
        dtype: by default float16 on CUDA and float32 elsewhere, whatever the files hold.
        memory: None decides by what is free on the device. loras: image and motion LoRAs, see `fuse_loras`.
        Raises `ModelError` if anything is missing or damaged.
        """
        defaults = cls.read_defaults(model, motion_adapter)
        dtype = dtype or hub.default_dtype(device)
        parts = load_parts(model, motion_adapter, dtype, loras)
        return cls(**parts, defaults=defaults, device=device, memory=memory)

    @staticmethod
    def read_defaults(model: str, motion_adapter: str | None = None) -> Defaults:
        """The model's defaults, from its i4vgen.json and its networks' configurations. Reads no weights."""
        unet, vae = read_config(model, "unet"), read_config(model, "vae")
        max_frames = (_motion_config(model, motion_adapter) or unet)["motion_max_seq_length"]
        multiple = 2 ** (len(vae["block_out_channels"]) - 1)
        side = unet.get("sample_size")
        values = {"max_frames": max_frames, "size_multiple": multiple}
        if isinstance(side, int):
            values |= {"height": side * multiple, "width": side * multiple}
        values["num_frames"] = min(Defaults.num_frames, max_frames)
        return own_settings.override(Defaults(**values), model)

    @staticmethod
    def read_vocabulary(model: str, **_: str) -> Vocabulary | None:
        return own_settings.vocabulary(model)

    @staticmethod
    def read_tokenizer(model: str, **_: str) -> CLIPTokenizer:
        return hub.load_tokenizer(CLIPTokenizer, model, "tokenizer")

    def call_unet(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        embeds: torch.Tensor,
        anchor: torch.Tensor | None,
    ) -> torch.Tensor:
        # The UNet folds frames into its batch and wants one embedding for each.
        embeds = embeds.repeat_interleave(latents.shape[2], dim=0)
        return self.unet(latents, timestep, encoder_hidden_states=embeds).sample


def load_parts(
    model: str, motion_adapter: str | None, dtype: torch.dtype, loras: Sequence[str]
) -> dict[str, Any]:
    """What `AnimateDiffBackbone` is made of, by the names of its arguments."""
    parts = {
        "scheduler": _load_scheduler(model, motion_adapter),
        "unet": _load_unet(model, motion_adapter, dtype),
        "vae": hub.load_vae(model, dtype),
        "text_encoder": hub.load(CLIPTextModel, model, "text_encoder", dtype),
        "tokenizer": AnimateDiffBackbone.read_tokenizer(model),
        # They belong to a schedule: a motion adapter of its own brings AnimateDiff's (`_load_scheduler`).
        "step_sizes": (None if motion_adapter else own_settings.step_sizes(model)) or STEP_SIZES,
    }
    fuse_loras(loras, parts["unet"], parts["text_encoder"])
    return parts


def _has_motion(unet_config: dict) -> bool:
    """Whether the UNet in a model's unet/ holds its motion modules already (a saved AnimateDiff pipeline)."""
    return unet_config.get("_class_name") == "UNetMotionModel"


def _motion_place(model: str, motion_adapter: str | None) -> tuple[str, str]:
    """The model and the subfolder that a motion adapter lies in: an adapter of its own lies in the root."""
    if motion_adapter is None:
        return model, "motion_adapter"
    if Path(motion_adapter, "motion_adapter").is_dir():
        return motion_adapter, "motion_adapter"
    return motion_adapter, ""


def _motion_config(model: str, motion_adapter: str | None) -> dict | None:
    """The motion adapter's configuration; None if the model's UNet needs no adapter and has none."""
    repo_or_path, subfolder = _motion_place(model, motion_adapter)
    config = hub.read_json(repo_or_path, f"{subfolder}/config.json".lstrip("/"))
    if config is None and motion_adapter is not None:
        raise ModelError(
            f"{motion_adapter} has no config.json: it is not a motion adapter in the diffusers layout"
        )
    if config is None and not _has_motion(read_config(model, "unet")):
        raise ModelError(f"{model} has no motion_adapter/: add one to the model's name, as in BASE+ADAPTER")
    return config


def _load_unet(model: str, motion_adapter: str | None, dtype: torch.dtype) -> UNetMotionModel:
    motion_config = _motion_config(model, motion_adapter)
    norm_num_groups = (motion_config or {}).get("motion_norm_num_groups")
    if _has_motion(read_config(model, "unet")) and motion_adapter is None:
        return adopt_motion_modules(hub.load(UNetMotionModel, model, "unet", dtype), norm_num_groups)
    repo_or_path, subfolder = _motion_place(model, motion_adapter)
    adapter = hub.load(MotionAdapter, repo_or_path, subfolder, dtype)
    unet = hub.load(UNet2DConditionModel, model, "unet", dtype)
    try:
        with hub.quiet():
            # Any: by its annotations it could also be a pair.
            network: Any = UNetMotionModel.from_unet2d(unet, adapter)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"the motion adapter {repo_or_path} does not fit the UNet of {model}") from error
    return adopt_motion_modules(network.requires_grad_(False).eval(), norm_num_groups)


def _load_scheduler(model: str, motion_adapter: str | None) -> DDIMScheduler:
    """The model's own schedule, or AnimateDiff's where the motion modules come on top of a text-to-image
    model.
    """
    config = hub.read_json(model, "scheduler/scheduler_config.json")
    if motion_adapter is not None or config is None:
        config = SCHEDULE
    if (target := config.get("prediction_type", "epsilon")) not in ("epsilon", "v_prediction"):
        raise ModelError(f"{model} predicts {target}: only epsilon and v_prediction are supported")
    scheduler: Any = DDIMScheduler.from_config(config)  # a pair only if asked for one
    return scheduler
