"""Finds LoRAs and fuses them into a model's weights.

Image LoRAs change the style, and motion LoRAs the camera motion. Both are loaded the same way, because the
names of the weights identify the layers. LoRAs are fused once, at loading, and do not slow down generation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import UNetMotionModel, WanTransformer3DModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from i4vgen.bounds import short_name
from i4vgen.errors import ModelError
from i4vgen.events import LoraFit
from i4vgen.weights import families, hub
from i4vgen.weights.lora_file import PEFT_CONFIG, PEFT_WEIGHTS, LoraFile, read_lora
from i4vgen.weights.names import HUB_FILE, MODEL_ID, SUFFIXES, is_single_file, split_weight

# The file names of LoRAs in the diffusers layout, of guoyww's motion LoRAs and of peft.
FILES = ("pytorch_lora_weights.safetensors", "diffusion_pytorch_model.safetensors", PEFT_WEIGHTS)

# Replacements from diffusers' layer names to those of AnimateDiff's authors and of early diffusers.
_MOTION = (
    (r"(motion_modules\.\d+)", r"\1.temporal_transformer"),
    (r"attn(\d)", lambda m: f"attention_blocks.{int(m[1]) - 1}"),
)
_OLD_OUTPUT = ("to_out.0", "to_out")

# Replacements from diffusers' layer names to those of Stable Diffusion's authors: in a ResNet, and elsewhere.
_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "norm1": "in_layers.0",
    "norm2": "out_layers.0",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}

# Replacements from diffusers' layer names to those of Wan's authors.
_WAN = (
    (r"^condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"^condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"^condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"^condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"^condition_embedder\.time_proj", "time_projection.1"),
    (r"^proj_out", "head.head"),
    (r"\.attn1", ".self_attn"),
    (r"\.attn2", ".cross_attn"),
    (r"\.norm([23])$", lambda m: f".norm{5 - int(m[1])}"),  # diffusers swaps the names of these two
    (r"\.to_out\.0", ".o"),
    (r"\.to_([qkv])$", r".\1"),
    (r"\.ffn\.net\.0\.proj", ".ffn.0"),
    (r"\.ffn\.net\.2", ".ffn.2"),
)

Modules = Mapping[str, nn.Module]
"""Modules of a network by their names in all formats, with underscores instead of dots."""


def fuse_loras(loras: Sequence[str], unet: UNetMotionModel, text_encoder: CLIPTextModel) -> tuple[LoraFit, ...]:
    """Adds LoRAs to the weights of a model in place.

    Layers that the model lacks are left out, so that a motion LoRA also works with a motion adapter without a
    middle block.

    Args:
        loras: The LoRAs. Each is a file, a folder or hub id with one of `FILES`, a folder with a single
            weights file, or OWNER/NAME/FILE, optionally followed by @WEIGHT.
        unet: The denoising network.
        text_encoder: The text encoder.

    Returns:
        How well each LoRA fits.

    Raises:
        ModelError: A LoRA is missing, ambiguous, damaged, unsupported or made for another model, or its weight
            is not finite.
    """
    if not loras:
        return ()
    return _fuse_all(loras, _unet_modules(unet), _text_modules(text_encoder), families.STABLE_DIFFUSION)


def fuse_wan_loras(loras: Sequence[str], transformer: WanTransformer3DModel) -> tuple[LoraFit, ...]:
    """Adds LoRAs to the weights of a Wan transformer in place, like `fuse_loras`."""
    if not loras:
        return ()
    return _fuse_all(loras, _wan_modules(transformer), {}, families.WAN)


def parse(lora: str) -> tuple[str, float]:
    """Splits PLACE@WEIGHT; the weight defaults to 1.

    An @ that is not followed by a number, or belongs to an existing path, is part of PLACE.

    Raises:
        ModelError: The weight is not finite.
    """
    place, suffix = split_weight(lora)
    weight = float(suffix.removeprefix("@") or 1)
    if not math.isfinite(weight):
        raise ModelError(f"the weight of a LoRA must be a number such as 0.8, not {suffix[1:]}, as in {lora}")
    return place, weight


def source(repo_or_path: str) -> tuple[str, tuple[str, ...]]:
    """Returns the folder or hub id of a LoRA and the possible names of its file.

    Raises:
        ModelError: There is no such file or folder, and the name is not a hub id.
    """
    path = Path(repo_or_path)
    if path.is_file():
        return str(path.parent), (path.name,)
    if match := HUB_FILE.fullmatch(repo_or_path):
        return match[1], (match["file"],)
    if (repo_or_path and path.is_dir()) or (
        MODEL_ID.fullmatch(repo_or_path) and not is_single_file(repo_or_path)
    ):
        return repo_or_path, FILES
    raise ModelError(
        f"there is no LoRA {short_name(repo_or_path)!r}: use a .safetensors file, a folder, or a hub id"
        " such as OWNER/NAME"
    )


def find(repo_or_path: str) -> Path:
    """Returns the file of a LoRA. It is downloaded if necessary, together with peft's configuration.

    Raises:
        ModelError: The LoRA is missing or cannot be downloaded, or its file is ambiguous.
    """
    model, names = source(repo_or_path)
    for name in names:
        if (found := hub.file(model, name)) is not None:
            if found.name == PEFT_WEIGHTS:  # `read_lora` reads the scale from the configuration
                hub.file(model, name.removesuffix(PEFT_WEIGHTS) + PEFT_CONFIG)
            return found
    candidates = [file for end in SUFFIXES for file in sorted(Path(repo_or_path).glob(f"*{end}"))]
    if len(candidates) == 1:
        return candidates[0]
    if names != FILES:
        raise ModelError(f"the LoRA {model} has no {names[0]}: check its name")
    raise ModelError(
        f"the LoRA {short_name(model)} has {len(candidates) or 'none of the usual'} files: name one, as in"
        f" {short_name(model)}/FILE.safetensors"
    )


def _fuse_all(loras: Sequence[str], main: Modules, text: Modules, family: str) -> tuple[LoraFit, ...]:
    """Adds LoRAs to the modules of a denoising network (`main`) and of a text encoder (`text`)."""
    fits = []
    for given in loras:
        repo_or_path, weight = parse(given)
        file = find(repo_or_path)
        lora, name = read_lora(file), short_name(file)
        try:
            applied = _fuse(lora, weight, main, text, family)
        except _IncompatibleError as error:
            remedy = ". Download it again" if error.is_damaged else f". Use one made for {family}"
            raise ModelError(f"the LoRA {name} cannot be used with this model: {error}{remedy}") from error
        fits.append(LoraFit(name, applied, len(lora.layers), lora.family or ""))
    return tuple(fits)


class _IncompatibleError(Exception):
    """The LoRA cannot be used with the model."""

    def __init__(self, reason: str, is_damaged: bool = False):
        super().__init__(reason)
        self.is_damaged = is_damaged


@torch.no_grad()
def _fuse(lora: LoraFile, weight: float, main: Modules, text: Modules, family: str) -> int:
    """Adds a LoRA to the weights and returns the number of its layers that were applied.

    Raises:
        _IncompatibleError: The LoRA is damaged or does not fit. No weights were changed.
    """
    planned, applied, applied_to_main = [], 0, 0
    for layer in lora.layers:
        module = (text if layer.is_text else main).get(layer.key)
        if module is None:
            continue
        try:
            targets = [(_parameter(module, kind), added) for kind, added in layer.additions()]
        except (LookupError, RuntimeError) as error:
            raise _IncompatibleError("it lacks some of its weights", is_damaged=True) from error
        targets = [(target, added) for target, added in targets if target is not None]
        if not all(_fits(added, target) for target, added in targets):
            other = lora.family if lora.family not in (None, family) else "layers of other sizes"
            raise _IncompatibleError(f"it was made for {other}")
        applied += bool(targets)
        applied_to_main += bool(targets) and not layer.is_text
        planned += targets
    # SDXL and FLUX share the text encoder of Stable Diffusion 1.5, so the denoising network must fit, too.
    if not applied or (lora.family not in (None, families.STABLE_DIFFUSION) and not applied_to_main):
        none_fit = f"none of its {len(lora.layers)} layers fit"
        raise _IncompatibleError(f"it was made for {lora.family}" if lora.family else none_fit)
    if not all(added.isfinite().all() for _, added in planned):
        raise _IncompatibleError("it holds values that are no numbers", is_damaged=True)
    for target, added in planned:
        target.copy_(target.float() + weight * added.reshape(target.shape).to(target.device))
    return applied


def _parameter(module: nn.Module, kind: str) -> Tensor | None:
    parameter = getattr(module, "scale_shift_table" if kind == "modulation" else kind, None)
    return parameter if isinstance(parameter, Tensor) else None


def _fits(added: Tensor, target: Tensor) -> bool:
    """Returns whether an addition has the size of its target. A 1 x 1 kernel may be stored as a matrix."""
    same_outputs = len(added) == len(target) or target.ndim == 1 or len(target) == 1
    return added.numel() == target.numel() and same_outputs


# Layer names


def _unet_modules(unet: UNetMotionModel) -> Modules:
    """Returns a UNet's modules by their names in diffusers and in the code of the models' authors."""
    modules = {}
    layers_per_block = unet.config["layers_per_block"]
    blocks_per_level = (layers_per_block if isinstance(layers_per_block, int) else layers_per_block[0]) + 1
    for name, module in unet.named_modules():
        names = {name, name.replace(*_OLD_OUTPUT), _original_unet_name(name, blocks_per_level)}
        if "motion_modules" in name:
            for pattern, new in _MOTION:
                names |= {re.sub(pattern, new, one) for one in set(names)}
        modules |= {one.replace(".", "_"): module for one in names}
    return modules


def _original_unet_name(name: str, blocks_per_level: int) -> str:
    """Returns the name of a UNet's layer in the code of Stable Diffusion's authors.

    Args:
        name: The name in diffusers.
        blocks_per_level: The number of layers per level, plus 1 for the down- or upsampler.
    """
    if name in _UNET_ENDS:
        return _UNET_ENDS[name]
    if ".resnets." in name:
        stem, _, last = name.rpartition(".")
        name = f"{stem}.{_RESNET.get(last, last)}"
    name = re.sub(r"^mid_block\.attentions\.0", "middle_block.1", name)
    name = re.sub(r"^mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}", name)
    name = re.sub(
        r"^down_blocks\.(\d)\.downsamplers\.0\.conv",
        lambda m: f"input_blocks.{(int(m[1]) + 1) * blocks_per_level}.0.op",
        name,
    )
    name = re.sub(
        r"^up_blocks\.(\d)\.upsamplers\.0\.conv",
        lambda m: f"output_blocks.{(int(m[1]) + 1) * blocks_per_level - 1}.{1 if m[1] == '0' else 2}.conv",
        name,
    )
    for side, first, blocks in (("down", 1, "input"), ("up", 0, "output")):
        for kind, place in (("resnets", 0), ("attentions", 1)):

            def place_of(m: re.Match[str], first: int = first, blocks: str = blocks, place: int = place) -> str:
                return f"{blocks}_blocks.{first + int(m[1]) * blocks_per_level + int(m[2])}.{place}"

            name = re.sub(rf"^{side}_blocks\.(\d)\.{kind}\.(\d+)", place_of, name)
    return name


def _text_modules(text_encoder: CLIPTextModel) -> Modules:
    """Returns the text encoder's modules by the names of transformers and of early diffusers LoRAs."""
    modules = {}
    for name, module in text_encoder.named_modules():
        name = name.removeprefix("text_model.")
        old = re.sub(r"self_attn\.([qkv])_proj", r"self_attn.to_\1", name).replace("out_proj", "to_out")
        modules |= {one.replace(".", "_"): module for one in (name, old)}
    return modules


def _wan_modules(transformer: WanTransformer3DModel) -> Modules:
    """Returns the transformer's modules by name.

    The names are those of diffusers and of Wan's authors, which take precedence.
    """
    own, original = {}, {"head": transformer}
    for name, module in transformer.named_modules():
        own[name.replace(".", "_")] = module
        for pattern, new in _WAN:
            name = re.sub(pattern, new, name)
        original[name.replace(".", "_")] = module
    return own | original
