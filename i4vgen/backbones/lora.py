"""LoRAs: low-rank additions to a model's weights. Image LoRAs change the style, motion LoRAs the camera's
move; the names of their weights tell where they belong, so both are loaded in one way.

They are added to the weights once, when a model is loaded, so drawing with them takes no longer.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetMotionModel, WanTransformer3DModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextModel

from i4vgen import hub
from i4vgen.errors import ModelError

# The names of the one file of a LoRA in the diffusers layout, and of guoyww's motion LoRAs.
FILES = ("pytorch_lora_weights.safetensors", "diffusion_pytorch_model.safetensors")

# A file of a hub id, which may name a revision.
HUB_FILE = re.compile(rf"({hub.MODEL_ID.pattern})/(?P<file>.+\.safetensors)")

# What the names of weights begin with in diffusers' format, and in kohya's.
DIFFUSERS, KOHYA = ("unet.", "text_encoder."), ("lora_unet_", "lora_te")

# From the names in the files of AnimateDiff's authors to diffusers', as in its conversion script.
ORIGINAL = {".temporal_transformer": "", ".attention_blocks.0": ".attn1", ".attention_blocks.1": ".attn2"}

# The layers of Wan's blocks in diffusers' format, in ComfyUI's, in musubi's, and as Wan's authors name them.
WAN_LAYER = re.compile(r"(?P<format>transformer\.|diffusion_model\.|lora_unet_)?blocks[._]\d+[._]")

NOTHING_FITS = "none of its weights has a layer here"

Weights = Mapping[str, torch.Tensor]


def fuse_loras(loras: Sequence[str], unet: UNetMotionModel, text_encoder: CLIPTextModel) -> None:
    """Adds LoRAs to the weights of a model, in place.

    loras: each a .safetensors file, a folder or a hub id with such a file (one of `FILES`; a folder, also any
    single one), or OWNER/NAME/FILE.safetensors; if its weight is not 1, followed by @ and the weight.
    Weights that this model has no layer for are left out: a motion LoRA then works also with a motion adapter
    that has no middle block. Raises `ModelError` if a LoRA is missing or damaged, or if nothing of it fits.
    """
    _fuse_all(loras, "AnimateDiffPipeline", _unet_names, unet=unet, text_encoder=text_encoder)


def fuse_wan_loras(loras: Sequence[str], transformer: WanTransformer3DModel) -> None:
    """The same for Wan."""
    _fuse_all(loras, "WanPipeline", _wan_names, transformer=transformer)


def parse(lora: str) -> tuple[str, float]:
    """PLACE@WEIGHT as its two parts; the weight is 1 if there is none. An @ without a number behind it is part
    of the place, where a revision may follow it.
    """
    repo_or_path, _, number = lora.rpartition("@")
    if not repo_or_path or Path(lora).exists():
        return lora, 1.0
    try:
        weight = float(number)
    except ValueError:
        return lora, 1.0
    if not math.isfinite(weight):
        raise ModelError(f"the weight of a LoRA must be a number such as 0.8, not {number}, as in {lora}")
    return repo_or_path, weight


def source(repo_or_path: str) -> tuple[str, tuple[str, ...]]:
    """The folder or hub id that a LoRA lies in, and the names that its file may have there."""
    path = Path(repo_or_path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ModelError(f"the LoRA {repo_or_path} is not a .safetensors file: only those are read")
        return str(path.parent), (path.name,)
    if match := HUB_FILE.fullmatch(repo_or_path):
        return match[1], (match["file"],)
    if (repo_or_path and path.is_dir()) or (
        hub.MODEL_ID.fullmatch(repo_or_path) and path.suffix != ".safetensors"
    ):
        return repo_or_path, FILES
    raise ModelError(
        f"there is no LoRA {repo_or_path!r}: use a .safetensors file, a folder, or a hub id such as OWNER/NAME"
    )


def find(repo_or_path: str) -> Path:
    """The file of a LoRA, downloaded if need be."""
    model, files = source(repo_or_path)
    for file in files:
        if (found := hub.file(model, file)) is not None:
            return found
    candidates = list(Path(repo_or_path).glob("*.safetensors"))
    if len(candidates) == 1:
        return candidates[0]
    raise ModelError(
        f"the LoRA {model} has no {' and no '.join(files)}: name its file, as in {model}/FILE.safetensors"
    )


def _fuse_all(
    loras: Sequence[str],
    pipeline: str,
    names: Callable[[Weights], Weights | None],
    **networks: nn.Module,
) -> None:
    """Adds LoRAs to networks by the loader of diffusers' pipeline of this name, which calls them so.

    names: gives the weights of a file the names that the loader knows; None if it reads the file as it is.
    """
    for lora in loras:
        repo_or_path, weight = parse(lora)
        file = find(repo_or_path)
        try:
            # peft warns of layers that a LoRA of an image model does not have: the motion modules'.
            with hub.quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _fuse(file, weight, pipeline, names, networks)
        except (ValueError, RuntimeError, LookupError, TypeError, OSError, SafetensorError) as error:
            raise ModelError(
                f"the LoRA {repo_or_path} cannot be used with this model ({_reason(error)})"
            ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, LookupError):
        return "it lacks some of its weights or has unknown ones"
    if "size mismatch" in str(error):  # which does not stand in the first line
        return "it was made for layers of other sizes"
    return hub.first_line(error)


def _fuse(
    file: Path,
    weight: float,
    pipeline: str,
    names: Callable[[Weights], Weights | None],
    networks: Mapping[str, nn.Module],
) -> None:
    weights = load_file(file)
    if any("dora_scale" in name for name in weights):
        raise ValueError("it is a DoRA, which is not supported")
    # diffusers' loader of LoRAs is a part of its pipelines, whose import is slow and not quiet.
    import diffusers

    cls: Any = getattr(diffusers, pipeline)
    required = [name for name, part in signature(cls).parameters.items() if part.default is part.empty]
    pipe = cls(**dict.fromkeys(required) | dict(networks))
    renamed = names(weights)
    if renamed is None:
        pipe.load_lora_weights(str(file.parent), weight_name=file.name)  # with the scales in its metadata
    else:
        pipe.load_lora_weights(renamed)
    modules = chain.from_iterable(network.modules() for network in networks.values())
    if not any(isinstance(module, BaseTunerLayer) for module in modules):
        raise ValueError(NOTHING_FITS)
    pipe.fuse_lora(list(networks), lora_scale=weight, safe_fusing=True)
    pipe.unload_lora_weights()


def _unet_names(weights: Weights) -> Weights | None:
    if any(name.startswith(DIFFUSERS) for name in weights):
        return None
    if any(name.startswith(KOHYA) for name in weights):
        return _fold_alphas(weights)
    return _rename_original(weights)


def _wan_names(weights: Weights) -> Weights | None:
    layers = [layer for name in weights if (layer := WAN_LAYER.match(name))]
    if not layers:
        raise ValueError(NOTHING_FITS)
    if any(layer["format"] for layer in layers):
        return None
    # peft puts the name of the adapter, which is "default", into the names.
    return {f"diffusion_model.{name.replace('.default.', '.')}": weight for name, weight in weights.items()}


def _fold_alphas(weights: Weights) -> dict[str, torch.Tensor]:
    """Weights in kohya's format without alphas, which scale a layer by alpha / rank. diffusers (0.41) gets
    them wrong where they differ between layers, as they do in LoRAs that were reduced afterwards.
    """
    folded = {name: weight for name, weight in weights.items() if not name.endswith(".alpha")}
    for name in weights.keys() - folded.keys():
        up, down = (name.replace(".alpha", f".lora_{part}.weight") for part in ("up", "down"))
        folded[up] = folded[up] * (weights[name].float() / len(folded[down])).to(folded[up].dtype)
    return folded


def _rename_original(weights: Weights) -> dict[str, torch.Tensor]:
    """Weights in the format of AnimateDiff's authors, by diffusers' names."""
    renamed = {}
    for name, weight in weights.items():
        for old, new in ORIGINAL.items():
            name = name.replace(old, new)
        renamed[f"unet.{name}"] = weight
    return renamed
