"""Recognises the model family of a weights file by the names and shapes of its tensors.

For LoRAs, the metadata is used as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any

from diffusers.loaders.single_file_utils import infer_diffusers_model_type

from i4vgen.weights.files import Header

Shapes = Mapping[str, tuple[int, ...]]

STABLE_DIFFUSION = "Stable Diffusion 1.5"
MOTION_MODULE = "an AnimateDiff motion module"
WAN = "Wan"
VAE = "a VAE"
MOTION_LORA = "AnimateDiff's motion modules"

UNET = "model.diffusion_model."
"""The prefix of the UNet's weights in a Stable Diffusion checkpoint."""

FIRST_STAGE = "first_stage_model."
"""The prefix of the VAE's weights in a Stable Diffusion checkpoint. Standalone VAE files may have it, too."""

# Families by the prefix of the type that diffusers infers. Its fallback, Stable Diffusion 1, is left out.
_INFERRED = {
    "v2": "Stable Diffusion 2",
    "inpainting_v2": "Stable Diffusion 2",
    "xl": "SDXL",
    "playground": "SDXL",
    "sd3": "Stable Diffusion 3",
    "flux": "FLUX",
    "chroma": "Chroma",
    "hunyuan": "HunyuanVideo",
    "ltx": "LTX-Video",
    "mochi": "Mochi",
    "cosmos": "Cosmos",
    "qwen": "Qwen-Image",
    "z-image": "Z-Image",
    "hidream": "HiDream",
    "lumina": "Lumina",
    "sana": "Sana",
    "auraflow": "AuraFlow",
    "stable_cascade": "Stable Cascade",
    "upscale": "Stable Diffusion's upscaler",
}

# Families by patterns in a LoRA's metadata (ss_base_model_version, modelspec.architecture).
_NAMED = (
    ("pony|illustrious|sdxl|stable-diffusion-xl", "SDXL"),
    ("stable-diffusion-v2|sd_v2|sd_2", "Stable Diffusion 2"),
    ("stable-diffusion-v1|sd_v1|sd_1", STABLE_DIFFUSION),
    ("stable-diffusion-3|sd3", "Stable Diffusion 3"),
    ("flux", "FLUX"),
    ("hunyuan", "HunyuanVideo"),
    ("wan", WAN),
    ("qwen", "Qwen-Image"),
    ("z-?image", "Z-Image"),
    ("ltx", "LTX-Video"),
    ("lumina", "Lumina"),
)

_TEXT_WIDTHS = {768: STABLE_DIFFUSION, 1024: "Stable Diffusion 2", 2048: "SDXL"}
"""Families by the width of the text embeddings in the UNet's cross-attention."""

_WAN_LAYER = (
    r"^(base_model_model_)?(model_diffusion_model_|diffusion_model_|lora_unet_|lora_transformer_|transformer_)?"
    r"blocks_\d+_(self_attn|cross_attn|attn1|attn2|ffn|diff_m)"
)

_WAN_WIDTHS = {1536: "Wan 1.3B", 3072: "Wan 2.2 5B", 5120: "Wan 14B"}


def describe_checkpoint(shapes: Shapes) -> str | None:
    """Describes a file that cannot be loaded as a model, such as "an SDXL checkpoint" or "a LoRA".

    Returns:
        The description; None for files that can be loaded (Stable Diffusion 1.5, motion modules, VAEs, Wan
        transformers) and unknown ones.
    """

    def any_starts(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in shapes)

    has_motion = any("motion_modules." in name for name in shapes)
    if any(name.endswith((".absmax", ".quant_map")) or ".quant_state." in name for name in shapes):
        return "quantised with bitsandbytes, which is not supported"
    if is_lora(shapes):
        family = lora_family(Header(shapes))
        return f"a LoRA for {family}" if family else "a LoRA"
    has_level_3 = any_starts("down_blocks.3.", "module.down_blocks.3.")
    if has_motion and not has_level_3 and _motion_width(shapes) == 320:
        return "a motion module for SDXL"
    if any_starts("control_model.", "controlnet_cond_embedding."):
        return "a ControlNet"
    if any_starts("emb_params", "string_to_param", "clip_l"):
        return "a textual inversion"
    first = shapes.get(f"{UNET}input_blocks.0.0.weight", (0, 4))
    if len(first) > 1 and first[1] != 4:
        return {9: "an inpainting checkpoint", 8: "an InstructPix2Pix checkpoint"}.get(
            first[1], f"a checkpoint of {first[1]} channels"
        )
    if any_starts("conditioner.embedders.", f"{UNET}label_emb."):
        return "an SDXL checkpoint"
    if any_starts("cond_stage_model.model."):
        return "a Stable Diffusion 2 checkpoint"
    if (family := _infer(shapes)) is not None:
        return f"a {family} checkpoint"
    if f"{UNET}input_blocks.0.0.weight" in shapes or "head.modulation" in shapes:
        return None
    if any_starts("down_blocks.", "transformer_blocks.") and not has_motion:
        return "one network of a model in the diffusers layout"
    if any_starts("text_model.", "encoder.block.", "cond_stage_model."):
        return "a text encoder alone"
    if any_starts("encoder.", "decoder.", FIRST_STAGE):
        return _describe_vae(shapes)
    return None


def is_vae(shapes: Shapes) -> bool:
    """Returns whether the weights include the first layer of an image VAE's encoder or decoder, by name."""
    names = {name.removeprefix(FIRST_STAGE) for name in shapes}
    return bool(names & {"encoder.conv_in.weight", "decoder.conv_in.weight"})


def _describe_vae(shapes: Shapes) -> str | None:
    """Describes a VAE that does not fit Stable Diffusion; None for one that fits."""
    if any(len(shape) == 5 for shape in shapes.values()):
        return "a VAE for videos"
    if not is_vae(shapes):
        return "a VAE of an unknown kind"
    first = shapes.get("decoder.conv_in.weight") or shapes.get(f"{FIRST_STAGE}decoder.conv_in.weight") or ()
    return f"a VAE with {first[1]} latent channels" if len(first) > 1 and first[1] != 4 else None


def is_lora(names: Collection[str]) -> bool:
    """Returns whether any of the names is that of a weight of a LoRA, LoHa or LoKr."""
    marks = (".lora_", "_lora.", ".lora.", "lora_unet_", "lora_te", "lora_linear_layer", ".hada_w", ".lokr_w")
    return any(mark in name for name in names for mark in marks)


def lora_family(header: Header) -> str | None:
    """Returns the model family that a LoRA was apparently made for, such as "SDXL"; None if unknown."""
    fields = (header.metadata.get(name, "") for name in ("ss_base_model_version", "modelspec.architecture"))
    metadata = " ".join(fields).lower()
    family = next((family for pattern, family in _NAMED if re.search(pattern, metadata)), None)
    if family not in (None, WAN):
        return family
    return _family_by_names(header.shapes) or family


def _family_by_names(shapes: Shapes) -> str | None:
    joined = [name.replace(".", "_") for name in shapes]

    def any_has(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in joined)

    if any_has("motion_modules|temporal_transformer"):
        return MOTION_LORA
    if any_has("single_transformer_blocks|double_blocks|single_blocks"):
        return (
            "HunyuanVideo" if any_has("individual_token_refiner|img_attn_qkv") and any_has("txt_in") else "FLUX"
        )
    if any_has("joint_blocks|context_block|attn_add_q_proj") and not any_has("img_mod|txt_mlp"):
        return "Stable Diffusion 3"
    if any_has("transformer_blocks_.*(img_mod|txt_mod|img_mlp|txt_mlp)"):
        return "Qwen-Image"
    if any_has(_WAN_LAYER):
        image = " image-to-video" if any_has("_k_img|_v_img|img_emb|add_k_proj") else ""
        return _WAN_WIDTHS.get(_width(shapes, r"(self_attn[._]q|attn1[._]to_q)"), WAN) + image
    if any_has("lora_te2_|text_encoder_2_|input_blocks_[78]_1_transformer_blocks_1_|add_embedding|label_emb"):
        return "SDXL"
    if any_has("attentions_0_transformer_blocks_[2-9]_"):
        return "SDXL"
    if any_has("(down|up)_blocks_|input_blocks_|output_blocks_|mid(dle)?_block_"):
        return _TEXT_WIDTHS.get(_width(shapes, r"attn2[._]to_[kv]"))
    if any_has("^(diffusion_model_|transformer_)?transformer_blocks_.*attn1"):
        return "LTX-Video"
    return None


def _width(shapes: Shapes, layer: str) -> int:
    """Returns the input width of the first LoRA layer whose name matches; 0 if none does."""
    down = re.compile(layer + r"[._].*(lora_down|lora_A|lora\.down|_lora\.down|hada_w1_b|hada_w2_b)")
    return next((shape[-1] for name, shape in shapes.items() if down.search(name) and len(shape) > 1), 0)


def _motion_width(shapes: Shapes) -> int:
    pattern = re.compile(r"down_blocks\.0\.motion_modules\.0\..*norm\.weight$")
    return next((shape[0] for name, shape in shapes.items() if pattern.search(name)), 0)


def _infer(shapes: Shapes) -> str | None:
    """Returns the family that diffusers infers; None for Stable Diffusion 1, Wan and unknown families."""
    stand_ins: dict[str, Any] = {name: SimpleNamespace(shape=shape) for name, shape in shapes.items()}
    try:
        kind = infer_diffusers_model_type(stand_ins)
    except (AttributeError, LookupError, TypeError):
        return None
    return next((family for prefix, family in _INFERRED.items() if kind.startswith(prefix)), None)
