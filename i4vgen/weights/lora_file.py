"""Reads LoRAs in the common published formats.

Supports LoRA in the formats of diffusers, peft, kohya, ComfyUI and AnimateDiff's authors; LoCon; LyCORIS's
LoHa (arXiv 2108.06098) and LoKr (arXiv 2212.10650), computed as in peft; and full weight differences
(`.diff`). Layers keep their names in the file, without the network's prefix. `backbones/lora.py` maps them to a
model's layers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft.tuners.loha.layer import make_weight, make_weight_cp
from peft.tuners.lokr.layer import make_kron
from peft.tuners.lokr.layer import make_weight_cp as make_kron_cp
from peft.utils.other import get_pattern_key
from torch import Tensor

from i4vgen.bounds import short_name
from i4vgen.errors import ModelError
from i4vgen.weights import families, files, single_file

PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""The weights that peft saves, and the configuration that it saves next to them."""

# The endings of weight names after the layer's name, and the kind of weight that each one means. If the kind is
# empty, it is the ending itself.
_ENDS = (
    (r"\.lora_(?:down|A)(?:\.default)?\.weight", "down"),
    (r"\.lora_(?:up|B)(?:\.default)?\.weight", "up"),
    (r"\.lora_(?:A|B)", "bare"),
    (r"\.lora_B(?:\.default)?\.bias", "up_b"),
    (r"(?:\.lora|_lora|\.lora_linear_layer)\.down\.weight", "down"),
    (r"(?:\.lora|_lora|\.lora_linear_layer)\.up\.weight", "up"),
    (r"\.lora_mid\.weight", "mid"),
    (r"\.(alpha|hada_\w+|lokr_\w+|diff|diff_b|diff_m)", ""),
    (r"\.(?:dora_scale|lora_magnitude_vector\w*(?:\.default)?(?:\.weight)?)", "DoRA"),
    (r"\.(?:oft_\w+|boft_\w+|oft_diag)", "OFT"),
    (r"\.(?:on_input|ia3_l)", "IA3"),
    (r"\.(?:a1|a2|b1|b2)\.weight", "GLoRA"),
)
_END = re.compile("|".join(f"(?P<end{i}>{pattern})$" for i, (pattern, _) in enumerate(_ENDS)))

UNSUPPORTED = ("DoRA", "OFT", "IA3", "GLoRA")

# Prefixes of layer names: those of the text encoder and those of the denoising network.
_TEXT = re.compile(
    r"(?:text_encoders\.clip_l\.(?:transformer\.)?|clip_l\.(?:transformer\.)?|text_encoder\.|lora_te1?_|"
    r"lora_te1?\.|te\.)(?:text_model[._])?"
)
_MAIN = re.compile(
    r"(?:base_model\.model\.)?(?:model\.diffusion_model\.|diffusion_model\.|lora_unet_|lora_unet\.|lora_transformer_"
    r"|lycoris_unet_|lycoris_|transformer\.|unet\.|module\.)?"
)


@dataclass
class Layer:
    """A LoRA's additions to one layer of a model.

    Attributes:
        name: The layer's name in the file, without the prefix of its network.
        is_text: Whether the layer belongs to the text encoder.
        parts: The weights by kind: down, up, up_b, mid, alpha, diff, diff_b, diff_m, and LyCORIS's names.
        scale: The scale from the configuration (`_configured_scale`); None if not configured.
    """

    name: str
    is_text: bool
    parts: dict[str, Tensor] = field(default_factory=dict)
    scale: float | None = None

    @property
    def key(self) -> str:
        """The key for finding the layer in a model: its name with underscores, without ".processor"."""
        return self.name.replace(".processor", "").replace(".", "_")

    def additions(self) -> Iterator[tuple[str, Tensor]]:
        """Computes the additions to the layer's "weight", "bias" and "modulation" in float32.

        Raises:
            LookupError: Weights are missing.
            RuntimeError: The shapes of the weights do not fit together.
        """
        parts = {name: part.float() for name, part in self.parts.items()}
        if "diff" in parts:
            yield "weight", parts["diff"]
        elif "up" in parts or "down" in parts:
            scale = self._scale(parts, len(parts["down"]))
            yield "weight", scale * _lora(parts)
            if "up_b" in parts:
                yield "bias", scale * parts["up_b"]
        elif any(name.startswith("hada_") for name in parts):
            yield "weight", _loha(parts, self._scale(parts, len(parts["hada_w1_b"])))
        elif any(name.startswith("lokr_") for name in parts):
            yield "weight", _lokr(parts, self._scale)
        if "diff_b" in parts:
            yield "bias", parts["diff_b"]
        if "diff_m" in parts:
            yield "modulation", parts["diff_m"]

    def _scale(self, parts: Mapping[str, Tensor], rank: int) -> float:
        if "alpha" in parts:
            return parts["alpha"].item() / rank
        return 1.0 if self.scale is None else self.scale


@dataclass(frozen=True)
class LoraFile:
    """A LoRA's layers, and the model family that it was apparently made for, such as "SDXL", if known."""

    layers: tuple[Layer, ...]
    family: str | None


def read_lora(file: Path) -> LoraFile:
    """Reads a LoRA from a safetensors file or a torch checkpoint.

    Raises:
        ModelError: The file is damaged, not a LoRA, or of an unsupported kind.
    """
    header = files.read_header(file)
    layers: dict[str, Layer] = {}
    for name, weight in files.dequantize(files.read(file)).items():
        if (match := _END.search(name)) is None:
            continue
        index = next(int(group[3:]) for group, text in match.groupdict().items() if text is not None)
        part = _ENDS[index][1] or name[match.start() + 1 :]
        if part == "bare":  # from older versions of peft
            part = "down" if name.endswith("A") else "up"
        if part in UNSUPPORTED:
            raise ModelError(f"{short_name(file)} is of the kind {part}, which is not supported: use a LoRA")
        layer = name[: match.start()]
        if layer not in layers:
            layers[layer] = _layer(layer)
        layers[layer].parts[part] = weight
    if not layers:
        what = single_file.describe(file) or "a file of weights"
        raise ModelError(f"{short_name(file)} is {what}, not a LoRA: use a LoRA in its place")
    _scale_by_configuration(layers, file, header)
    return LoraFile(tuple(layers.values()), families.lora_family(header))


def _layer(name: str) -> Layer:
    """Creates an empty layer from its name in the file."""
    name = name.removeprefix("base_model.model.")
    if text := _TEXT.match(name):
        return Layer(name[text.end() :], True)
    name = _MAIN.sub("", name, count=1)
    return Layer(name.removeprefix("text_model.").removeprefix("text_model_"), False)


def _scale_by_configuration(layers: Mapping[str, Layer], file: Path, header: files.Header) -> None:
    """Sets the layers' scales from the configuration of diffusers or peft, if there is one.

    Raises:
        ModelError: The configuration is damaged.
    """
    beside = file.with_name(PEFT_CONFIG)
    try:
        if LORA_ADAPTER_METADATA_KEY in header.metadata:
            config = json.loads(header.metadata[LORA_ADAPTER_METADATA_KEY])
        elif beside.is_file():
            config = json.loads(files.read_bytes(beside))
        else:
            return
        for name, layer in layers.items():
            if "down" in layer.parts:
                layer.scale = _configured_scale(config, name, len(layer.parts["down"]))
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise ModelError(f"the configuration of {short_name(file)} is damaged: download it again") from error


def _configured_scale(config: Mapping[str, Any], name: str, rank: int) -> float | None:
    """Returns a layer's scale: alpha / rank, or alpha / sqrt(rank) for rsLoRA; None if not configured."""
    network, _, layer = name.partition(".")
    prefix = f"{network}."  # diffusers prefixes every setting with the network
    settings = {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
    settings = settings or config
    patterns = settings.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(list(patterns), layer), settings.get("lora_alpha"))
    if alpha is None:
        return None
    return alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank


def _lora(parts: Mapping[str, Tensor]) -> Tensor:
    """Multiplies a LoRA's factors and returns the product, [outputs, inputs, *kernel]."""
    up, down = parts["up"], parts["down"]
    if "mid" in parts:  # LoCon with a kernel between the factors
        return torch.einsum("ijkl,jp,oi->opkl", parts["mid"], down.flatten(1), up.flatten(1))
    added = up.flatten(1) @ down.flatten(1)
    return added.reshape(len(up), *down.shape[1:])


def _loha(parts: Mapping[str, Tensor], scale: float) -> Tensor:
    w1_a, w1_b, w2_a, w2_b = (parts[f"hada_{name}"] for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    factor: Any = torch.tensor(scale)
    if "hada_t1" in parts:
        return make_weight_cp(parts["hada_t1"], w1_a, w1_b, parts["hada_t2"], w2_a, w2_b, factor)
    return make_weight(w1_a, w1_b, w2_a, w2_b, factor)


def _lokr(parts: Mapping[str, Tensor], scale: Any) -> Tensor:
    """Computes the weight difference of a LoKr. `scale(parts, rank)` applies only if a factor is low-rank."""
    ranks = [len(parts[name]) for name in ("lokr_w1_b", "lokr_w2_b") if name in parts]
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_w2" in parts:
        second = parts["lokr_w2"]
    elif "lokr_t2" in parts:
        second = make_kron_cp(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    else:
        second = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    return make_kron(first, second, scale(parts, ranks[0]) if ranks else 1.0)
