"""Loads single-file models: Stable Diffusion 1.5 checkpoints, motion modules, VAEs, Wan transformers.

The weights have the authors' names, as on Civitai and in ComfyUI; those of a VAE may have diffusers' names. A
single file is read like a folder in the diffusers layout: `read_config` derives the configurations from the
tensor shapes and the settings that all models of the kind share, and `load` returns the networks. diffusers'
converters rename the weights. The hub is never accessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, ModelMixin, MotionAdapter, UNet2DConditionModel, WanTransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_animatediff_checkpoint_to_diffusers,
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_wan_transformer_to_diffusers,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from i4vgen.bounds import SHORT_NAME, short_name
from i4vgen.errors import ModelError
from i4vgen.weights import families, files
from i4vgen.weights.families import FIRST_STAGE, MOTION_MODULE, STABLE_DIFFUSION, UNET, VAE, WAN

Shapes = Mapping[str, tuple[int, ...]]
Weights = dict[str, Tensor]

TEXT = "cond_stage_model.transformer."

# The settings that all models of a kind share. Sizes are read from the file if possible.
UNET_CONFIG = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
}
VAE_CONFIG = {
    "_class_name": "AutoencoderKL",
    "sample_size": 512,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "scaling_factor": 0.18215,
}
TEXT_CONFIG = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
    "bos_token_id": 0,  # wrong, but the same as in the released configuration
    "eos_token_id": 2,
    "pad_token_id": 1,
}
MOTION_CONFIG = {
    "_class_name": "MotionAdapter",
    "block_out_channels": [320, 640, 1280, 1280],
    "motion_layers_per_block": 2,
    "motion_num_attention_heads": 8,
    "motion_mid_block_layers_per_block": 1,
    "motion_max_seq_length": 32,
    "use_motion_mid_block": False,
}
WAN_CONFIG = {
    "_class_name": "WanTransformer3DModel",
    "patch_size": [1, 2, 2],
    "attention_head_dim": 128,
    "freq_dim": 256,
    "text_dim": 4096,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "rope_max_seq_len": 1024,
}


@dataclass(frozen=True)
class Network:
    """A network in a single file.

    Attributes:
        title: The network's name in messages.
        build: Builds the network from a configuration.
        configure: Derives the configuration from the shapes in the file.
        convert: Renames the weights of the file, given the configuration.
    """

    title: str
    build: Callable[[dict[str, Any]], nn.Module]
    configure: Callable[[Shapes], dict[str, Any]]
    convert: Callable[[Weights, dict[str, Any]], Mapping[str, Tensor]]


def kind_of(model: str) -> str:
    """Returns the kind of a single file: `STABLE_DIFFUSION`, `MOTION_MODULE`, `VAE` or `WAN`.

    Raises:
        ModelError: The file is missing, damaged, or of an unsupported kind, which the message names.
    """
    file = Path(model)
    if not file.is_file():
        folder = str(file.parent)
        folder = folder if len(folder) <= SHORT_NAME else f"...{folder[-SHORT_NAME:]}"
        raise ModelError(f"there is no file {short_name(file)} in {folder}: check its path")
    status = file.stat()
    return _kind_of(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _kind_of(file: Path, _modified: int, _size: int) -> str:
    shapes = files.read_header(file).shapes
    if not shapes:
        raise ModelError(f"{short_name(file)} holds no weights: download it again")
    if (other := families.describe_checkpoint(shapes)) is not None:
        raise ModelError(f"{short_name(file)} is {other}: {_remedy(other)}")
    if any("motion_modules." in name for name in shapes) and not any(name.startswith(UNET) for name in shapes):
        return MOTION_MODULE
    if any(name.startswith((UNET + "input_blocks.", UNET + "output_blocks.")) for name in shapes):
        return STABLE_DIFFUSION
    if _wan_shapes(shapes):
        return WAN
    if families.is_vae(shapes):
        return VAE
    raise ModelError(
        f"{short_name(file)} holds no model that is known here: use a Stable Diffusion 1.5 checkpoint, a"
        " motion module, a VAE or a Wan transformer"
    )


def describe(file: Path) -> str | None:
    """Describes a weights file, such as "an SDXL checkpoint"; None if it is not recognised.

    Raises:
        ModelError: The file cannot be read or is damaged.
    """
    if (other := families.describe_checkpoint(files.read_header(file).shapes)) is not None:
        return other
    try:
        return with_article(kind_of(str(file)))
    except ModelError:
        return None


def _remedy(other: str) -> str:
    if other.startswith("a LoRA"):
        return "give it as a LoRA, on top of a model"
    if "network of a model" in other:
        return "give the folder of the whole model"
    if other.startswith("a VAE"):
        return f"use a VAE for {STABLE_DIFFUSION}"
    return "use a Stable Diffusion 1.5 checkpoint, a motion module for it or a Wan transformer"


def read_config(model: str, path: str) -> dict[str, Any] | None:
    """Returns what a JSON file would contain if a single file were a folder in the diffusers layout.

    Args:
        model: The single file.
        path: The path within the folder, such as unet/config.json; config.json for a motion module or a VAE.

    Returns:
        The contents of model_index.json or of a network's configuration; None for other paths.

    Raises:
        ModelError: The single file is missing, damaged, or of an unsupported kind.
    """
    kind = kind_of(model)
    folder, _, name = path.rpartition("/")
    if path == "model_index.json":
        return {"_class_name": {WAN: "WanPipeline"}.get(kind, "StableDiffusionPipeline")}
    network = _NETWORKS.get((kind, folder)) if name == "config.json" else None
    return network.configure(files.read_header(Path(model)).shapes) if network else None


def load(model: str, subfolder: str, dtype: torch.dtype) -> nn.Module:
    """Loads a network of a single file, frozen and in evaluation mode.

    Args:
        model: The single file.
        subfolder: The network's folder in the diffusers layout: unet, vae, text_encoder or transformer; empty
            for a motion module or a VAE.
        dtype: The dtype of the weights, except in modules that diffusers keeps in float32.

    Raises:
        ModelError: The file is missing, damaged, incomplete or of an unsupported kind, or has no such network.
    """
    kind, name = kind_of(model), short_name(model)
    network = _NETWORKS.get((kind, subfolder))
    if network is None:
        raise ModelError(f"{name} is {with_article(kind)}, which holds no {subfolder}/: use another file")
    config = network.configure(files.read_header(Path(model)).shapes)
    with init_empty_weights():
        built = network.build(config)
    weights = _without(files.dequantize(files.read(Path(model)), dtype), "module.")
    converted = {key: value for key, value in network.convert(weights, config).items() if value is not None}
    wanted = {key: weight for key, weight in built.state_dict().items() if not key.endswith("pos_embed.pe")}
    wrong = [key for key in wanted if key not in converted or converted[key].shape != wanted[key].shape]
    if not converted.keys() & wanted.keys():
        raise ModelError(f"{name} is {with_article(kind)} without {network.title}: use one that has it")
    if wrong:
        raise ModelError(
            f"{name} is {with_article(kind)}, but incomplete: {len(wrong)} of {len(wanted)} weights of"
            f" {network.title} are missing or of another size; download it again"
        )
    # Like `from_pretrained`, keep some modules in float32.
    precise = set(getattr(built, "_keep_in_fp32_modules", None) or ())
    plain = {
        key: converted[key].to(torch.float32 if precise & set(key.split(".")) else dtype) for key in wanted
    }
    built.load_state_dict(plain, strict=False, assign=True)
    return built.requires_grad_(False).eval()


def with_article(kind: str) -> str:
    """Returns a kind of file with its article, for messages."""
    return kind if kind.startswith(("a ", "an ")) else f"a {kind} checkpoint"


# Configurations from the shapes in a file


def _under(shapes: Shapes, *prefixes: str) -> Shapes:
    """Keeps the shapes under a prefix and strips it, for each prefix in order. Absent prefixes are skipped."""
    for prefix in prefixes:
        shapes = {k.removeprefix(prefix): v for k, v in shapes.items() if k.startswith(prefix)} or shapes
    return shapes


def _without(weights: Weights, prefix: str) -> Weights:
    """Removes a prefix from the names of all weights."""
    return {key.removeprefix(prefix): weight for key, weight in weights.items()}


def _size(shapes: Shapes, name: str, axis: int, otherwise: int) -> int:
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else otherwise


def _count(shapes: Shapes, pattern: str) -> int:
    """Counts the distinct values of the pattern's group in the tensor names."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})


def _groups(channels: list[int]) -> int:
    """Returns the number of norm groups: 32, as in all released models, or the largest divisor that fits."""
    return math.gcd(32, *channels)


def _unet_config(shapes: Shapes) -> dict[str, Any]:
    shapes = _under(shapes, UNET)
    ops = sorted(int(m[1]) for name in shapes if (m := re.match(r"input_blocks\.(\d+)\.0\.op\.weight", name)))
    whole = _count(shapes, r"input_blocks\.(\d+)\.")
    per_level = ops[0] if ops else whole or 3  # input blocks per level: its layers and its downsampler
    levels = len(ops) + 1 if ops else 4
    blocks = [f"input_blocks.{1 + per_level * level}" for level in range(levels)]
    if all(f"{block}.0.out_layers.3.weight" in shapes for block in blocks):
        widths = [shapes[f"{block}.0.out_layers.3.weight"][0] for block in blocks]
        attends = [any(name.startswith(f"{block}.1.") for name in shapes) for block in blocks]
    else:
        widths, attends = UNET_CONFIG["block_out_channels"], [True, True, True, False]
        per_level = 3
    context = next((s[1] for name, s in shapes.items() if name.endswith("attn2.to_k.weight")), None)
    down = ["CrossAttnDownBlock2D" if attend else "DownBlock2D" for attend in attends]
    up = ["CrossAttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)]
    return UNET_CONFIG | {
        "block_out_channels": widths,
        "layers_per_block": per_level - 1,
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": context or UNET_CONFIG["cross_attention_dim"],
        "norm_num_groups": _groups(widths),
        "use_linear_projection": any(
            name.endswith(".proj_in.weight") and len(s) == 2 for name, s in shapes.items()
        ),
    }


def _vae_config(shapes: Shapes) -> dict[str, Any]:
    shapes = _under(shapes, FIRST_STAGE)
    down, layer = ("down_blocks", "resnets") if _is_diffusers_vae(shapes) else ("down", "block")
    levels = _count(shapes, rf"encoder\.{down}\.(\d+)\.")
    firsts = [f"encoder.{down}.{level}.{layer}.0.conv1.weight" for level in range(levels)]
    widths = [shapes[name][0] for name in firsts if name in shapes]
    if not levels or len(widths) < levels:
        widths = VAE_CONFIG["block_out_channels"]
    return VAE_CONFIG | {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": _count(shapes, rf"encoder\.{down}\.0\.{layer}\.(\d+)\.")
        or VAE_CONFIG["layers_per_block"],
        "norm_num_groups": _groups(widths),
    }


def _is_diffusers_vae(names: Iterable[str]) -> bool:
    """Returns whether a VAE's weights have diffusers' names."""
    return any(re.match(r"encoder\.down_blocks\.|decoder\.up_blocks\.", name) for name in names)


def _text_config(shapes: Shapes) -> dict[str, Any]:
    shapes = _under(shapes, TEXT, "text_model.")
    width = _size(shapes, "embeddings.token_embedding.weight", 1, TEXT_CONFIG["hidden_size"])
    return TEXT_CONFIG | {
        "hidden_size": width,
        "projection_dim": width,
        "num_attention_heads": max(1, width // 64),
        "vocab_size": _size(shapes, "embeddings.token_embedding.weight", 0, TEXT_CONFIG["vocab_size"]),
        "max_position_embeddings": _size(shapes, "embeddings.position_embedding.weight", 0, 77),
        "num_hidden_layers": _count(shapes, r"encoder\.layers\.(\d+)\.") or TEXT_CONFIG["num_hidden_layers"],
        "intermediate_size": _size(
            shapes, "encoder.layers.0.mlp.fc1.weight", 0, TEXT_CONFIG["intermediate_size"]
        ),
    }


def _motion_config(shapes: Shapes) -> dict[str, Any]:
    shapes = {name.removeprefix("module."): shape for name, shape in shapes.items()}
    levels = _count(shapes, r"down_blocks\.(\d+)\.")
    widths = [
        shape[0]
        for level in range(levels)
        for name, shape in shapes.items()
        if re.fullmatch(
            rf"down_blocks\.{level}\.motion_modules\.0\.(temporal_transformer\.)?norm\.weight", name
        )
    ]
    if len(widths) < max(levels, 1):
        widths = MOTION_CONFIG["block_out_channels"]
    frames = [shape[1] for name, shape in shapes.items() if name.endswith(".pe") and len(shape) == 3]
    return MOTION_CONFIG | {
        "block_out_channels": widths,
        "motion_layers_per_block": _count(shapes, r"down_blocks\.0\.motion_modules\.(\d+)\.")
        or MOTION_CONFIG["motion_layers_per_block"],
        "motion_norm_num_groups": _groups(widths),
        "motion_max_seq_length": max(frames, default=MOTION_CONFIG["motion_max_seq_length"]),
        "use_motion_mid_block": any(name.startswith("mid_block.") for name in shapes),
    }


def _wan_shapes(shapes: Shapes) -> Shapes:
    """Returns the shapes of a Wan transformer by its authors' names; empty for other models."""
    shapes = _under(shapes, UNET, "diffusion_model.")
    return shapes if "patch_embedding.weight" in shapes and "head.head.weight" in shapes else {}


def _wan_config(shapes: Shapes) -> dict[str, Any]:
    shapes = _wan_shapes(shapes)
    width, channels, *patch = shapes["patch_embedding.weight"]
    if any("k_img." in name or name.startswith("img_emb.") for name in shapes):
        raise ModelError(
            "this Wan transformer is image-to-video with CLIP: use a text-to-video one, or TI2V-5B"
        )
    return WAN_CONFIG | {
        "patch_size": patch,
        "num_attention_heads": max(1, width // WAN_CONFIG["attention_head_dim"]),
        "in_channels": channels,
        "out_channels": shapes["head.head.weight"][0] // math.prod(patch),
        "text_dim": _size(shapes, "text_embedding.0.weight", 1, WAN_CONFIG["text_dim"]),
        "freq_dim": _size(shapes, "time_embedding.0.weight", 1, WAN_CONFIG["freq_dim"]),
        "ffn_dim": _size(shapes, "blocks.0.ffn.0.weight", 0, 4 * width),
        "num_layers": _count(shapes, r"blocks\.(\d+)\."),
    }


# Conversions to the weight names of diffusers and transformers


def _text_weights(weights: Weights, _: dict[str, Any]) -> Weights:
    return {
        key.removeprefix("text_model."): weight for key, weight in convert_ldm_clip_checkpoint(weights).items()
    }


def _vae_weights(weights: Weights, config: dict[str, Any]) -> Weights:
    if not _is_diffusers_vae(weights):
        return convert_ldm_vae_checkpoint(weights, config)
    old = re.compile(r"(mid_block\.attentions\.0)\.(query|key|value|proj_attn)\.")  # up to diffusers 0.17
    new = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    return {old.sub(lambda m: f"{m[1]}.{new[m[2]]}.", name): weight for name, weight in weights.items()}


def _motion_weights(weights: Weights, _: dict[str, Any]) -> Weights:
    return convert_animatediff_checkpoint_to_diffusers(
        {key: weight for key, weight in weights.items() if "motion_modules." in key}
    )


def _wan_weights(weights: Weights, _: dict[str, Any]) -> Weights:
    return convert_wan_transformer_to_diffusers(_without(weights, "diffusion_model."))


def _of(cls: type[ModelMixin]) -> Callable[[dict[str, Any]], nn.Module]:
    build: Any = cls  # `from_config` may also return a pair, according to its annotation
    return build.from_config


_NETWORKS = {
    (STABLE_DIFFUSION, "unet"): Network(
        "the UNet", _of(UNet2DConditionModel), _unet_config, convert_ldm_unet_checkpoint
    ),
    (STABLE_DIFFUSION, "vae"): Network("the VAE", _of(AutoencoderKL), _vae_config, convert_ldm_vae_checkpoint),
    (VAE, ""): Network("the VAE", _of(AutoencoderKL), _vae_config, _vae_weights),
    (STABLE_DIFFUSION, "text_encoder"): Network(
        "the text encoder",
        lambda config: CLIPTextModel(CLIPTextConfig(**config)),
        _text_config,
        _text_weights,
    ),
    (MOTION_MODULE, ""): Network("the motion modules", _of(MotionAdapter), _motion_config, _motion_weights),
    (WAN, "transformer"): Network("the transformer", _of(WanTransformer3DModel), _wan_config, _wan_weights),
}
