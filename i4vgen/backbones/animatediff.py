"""AnimateDiff: a Stable Diffusion UNet with motion modules, based on diffusers.

The same weights generate videos and, without the motion modules, images. `MotionModule` contains all
differences from diffusers' `UNetMotionModel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen.backbones import own_settings
from i4vgen.backbones.lora import fuse_loras
from i4vgen.backbones.memory import Memory
from i4vgen.backbones.own_settings import read_config, read_vae_config, vae_place
from i4vgen.backbones.stable_diffusion import StableDiffusionBackbone
from i4vgen.bounds import short_name, shown
from i4vgen.config import Defaults
from i4vgen.errors import ModelError
from i4vgen.weights import hub
from i4vgen.weights.families import STABLE_DIFFUSION
from i4vgen.weights.vocabulary import Vocabulary

Network = TypeVar("Network", bound=nn.Module)

# The schedule that AnimateDiff's motion modules were trained with, which differs from Stable Diffusion's.
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "steps_offset": 1,
}

STEP_SIZES = (10.0, 10.0, 10.0, 1.0)  # step sizes of NI-VSDS; the last one also applies to all further steps


class MotionModule(nn.Module):
    """A motion module that computes what the code of AnimateDiff's and I4VGen's authors computes.

    This module has the same layers, with the same names, as diffusers' module, and differs in two ways:
    - Single frames skip the module, so that the UNet then equals the text-to-image UNet it was built from.
    - The group norm normalises each frame separately. diffusers normalises all frames together, which changes
      the output of the UNet by up to a tenth of its range.

    Args:
        module: The diffusers module whose layers are reused.
        norm_num_groups: The number of groups of the norm; None keeps the module's.
    """

    def __init__(self, module: AnimateDiffTransformer3D, norm_num_groups: int | None = None):
        super().__init__()
        self.norm = module.norm
        self.norm.num_groups = norm_num_groups or module.norm.num_groups
        self.proj_in = module.proj_in
        self.transformer_blocks = module.transformer_blocks
        self.proj_out = module.proj_out
        self.train(module.training)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: None = None,
        timestep: None = None,
        class_labels: None = None,
        num_frames: int = 1,
        cross_attention_kwargs: None = None,
    ) -> Tensor:
        """Computes features [B * F, C, h, w]. The UNet passes unused arguments as None, some by position."""
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
    """Replaces every motion module of a UNet or controlnet with a `MotionModule`.

    Args:
        network: The UNet or controlnet, changed in place.
        norm_num_groups: The number of groups of the modules' norms; None keeps the modules' own. diffusers
            ignores the motion adapter's number and uses the UNet's.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, AnimateDiffTransformer3D):
            network.set_submodule(name, MotionModule(module, norm_num_groups))
    return network


class AnimateDiffBackbone(StableDiffusionBackbone):
    """Stable Diffusion with motion modules. `unet` must come from `adopt_motion_modules`."""

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
        variant: str | None = None,
        vae: str | None = None,
    ) -> AnimateDiffBackbone:
        """Loads a model in the diffusers layout.

        Args:
            model: A folder, hub id or single file (`weights/single_file.py`). Its unet/ is a text-to-image
                UNet or contains motion modules.
            motion_adapter: A folder, hub id or file; None uses the motion modules in the model's UNet or
                motion_adapter/.
            device: The device to run on.
            dtype: The dtype of the networks; None means float16 on CUDA and float32 elsewhere.
            memory: The memory mode; None chooses one by the device's free memory.
            loras: The image and motion LoRAs to fuse into the networks (`fuse_loras`).
            variant: The preferred variant of the weights (`hub.load`).
            vae: A folder, hub id or file; None uses the model's vae/.

        Raises:
            ModelError: A part is missing, damaged or unsupported, or the parts do not fit together.
        """
        defaults = cls.read_defaults(model, motion_adapter, vae)
        dtype = dtype or hub.default_dtype(device)
        parts = load_parts(model, motion_adapter, dtype, loras, variant, vae)
        return cls(**parts, defaults=defaults, device=device, memory=memory)

    @staticmethod
    def read_defaults(model: str, motion_adapter: str | None = None, vae: str | None = None) -> Defaults:
        """Reads the defaults from i4vgen.json and the networks' configurations."""
        unet = read_config(model, "unet")
        vae_config = read_vae_config(model, vae, unet.get("in_channels", 4))
        max_frames = (_motion_config(model, motion_adapter) or unet)["motion_max_seq_length"]
        multiple = 2 ** (len(vae_config["block_out_channels"]) - 1)
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

    def call_unet(self, latents: Tensor, timestep: Tensor, embeds: Tensor, anchor: Tensor | None) -> Tensor:
        # The UNet folds frames into its batch and needs one embedding per frame.
        embeds = embeds.repeat_interleave(latents.shape[2], dim=0)
        return self.unet(latents, timestep, encoder_hidden_states=embeds).sample


def load_parts(
    model: str,
    motion_adapter: str | None,
    dtype: torch.dtype,
    loras: Sequence[str],
    variant: str | None = None,
    vae: str | None = None,
) -> dict[str, Any]:
    """Loads the parts of a model as keyword arguments for `AnimateDiffBackbone`."""
    vae, subfolder = vae_place(model, vae)
    parts = {
        "scheduler": _load_scheduler(model, motion_adapter),
        "unet": _load_unet(model, motion_adapter, dtype, variant),
        "vae": hub.load_vae(vae, dtype, variant, subfolder),
        "text_encoder": hub.load(CLIPTextModel, model, "text_encoder", dtype, variant),
        "tokenizer": AnimateDiffBackbone.read_tokenizer(model),
        "reads_to_the_end": AnimateDiffBackbone.reads_long_prompts(model=model),
        # Step sizes depend on the schedule, which a separate motion adapter replaces (`_load_scheduler`).
        "step_sizes": (None if motion_adapter else own_settings.step_sizes(model)) or STEP_SIZES,
    }
    return parts | {"lora_fits": fuse_loras(loras, parts["unet"], parts["text_encoder"])}


def _has_motion(unet_config: dict) -> bool:
    """Returns whether a UNet contains motion modules, as in a saved AnimateDiff pipeline."""
    return unet_config.get("_class_name") == "UNetMotionModel"


def _motion_place(model: str, motion_adapter: str | None) -> tuple[str, str]:
    """Returns the folder, hub id or file and the subfolder of the motion adapter."""
    if motion_adapter is None:
        return model, "motion_adapter"
    if Path(motion_adapter, "motion_adapter").is_dir():
        return motion_adapter, "motion_adapter"
    return motion_adapter, ""


def _motion_config(model: str, motion_adapter: str | None) -> dict | None:
    """Reads the motion adapter's configuration.

    Returns None if there is no adapter because the UNet contains the motion modules.

    Raises:
        ModelError: The chosen adapter has no configuration, the model has no motion modules, or the network is
            no motion adapter.
    """
    repo_or_path, subfolder = _motion_place(model, motion_adapter)
    config = hub.read_json(repo_or_path, f"{subfolder}/config.json".lstrip("/"))
    if config is None and motion_adapter is not None:
        raise ModelError(
            f"{motion_adapter} has no config.json: it is not a motion adapter in the diffusers layout"
        )
    if config is None and not _has_motion(read_config(model, "unet")):
        raise ModelError(f"{model} has no motion_adapter/: add one to the model's name, as in BASE+ADAPTER")
    if config is not None and (kind := config.get("_class_name")) != "MotionAdapter":
        raise ModelError(
            f"{short_name(f'{repo_or_path}/{subfolder}')} is {shown(kind)}, not a MotionAdapter: use a motion"
            f" module for {STABLE_DIFFUSION}"
        )
    return config


def _load_unet(
    model: str, motion_adapter: str | None, dtype: torch.dtype, variant: str | None
) -> UNetMotionModel:
    motion_config = _motion_config(model, motion_adapter)
    norm_num_groups = (motion_config or {}).get("motion_norm_num_groups")
    if _has_motion(read_config(model, "unet")) and motion_adapter is None:
        return adopt_motion_modules(hub.load(UNetMotionModel, model, "unet", dtype, variant), norm_num_groups)
    repo_or_path, subfolder = _motion_place(model, motion_adapter)
    adapter = hub.load(MotionAdapter, repo_or_path, subfolder, dtype, variant)
    unet = hub.load(UNet2DConditionModel, model, "unet", dtype, variant)
    try:
        with hub.quiet():
            network: Any = UNetMotionModel.from_unet2d(unet, adapter)  # the annotation also allows a pair
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"the motion adapter {repo_or_path} does not fit the UNet of {model}") from error
    return adopt_motion_modules(network.requires_grad_(False).eval(), norm_num_groups)


def _load_scheduler(model: str, motion_adapter: str | None) -> DDIMScheduler:
    """Loads the model's schedule, or AnimateDiff's if there is none or the motion adapter is separate.

    Raises:
        ModelError: The model predicts neither the noise nor v.
    """
    config = hub.read_json(model, "scheduler/scheduler_config.json")
    target = (config or {}).get("prediction_type", "epsilon")
    if target not in ("epsilon", "v_prediction"):
        raise ModelError(f"{model} predicts {target}: only epsilon and v_prediction are supported")
    if motion_adapter is not None or config is None:
        config = SCHEDULE | {"prediction_type": target}
    scheduler: Any = DDIMScheduler.from_config(config)  # the annotation also allows a pair
    return scheduler
