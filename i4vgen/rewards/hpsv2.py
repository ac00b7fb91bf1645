"""HPSv2.1 (Wu et al. 2023, arXiv 2306.09341): OpenCLIP's ViT-H/14, trained on human preferences.

The network is transformers' CLIPModel. OpenCLIP's weights are renamed, and the joint query, key and value
projection of each attention layer is split. Unlike in the authors' package (hpsv2 1.2.0), prompts are not
cleaned by ftfy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from i4vgen.rewards.clip import ClipScore, load_part, load_tokenizer, normalized, rgb_pixels
from i4vgen.weights import checkpoints, hub

MODEL, CHECKPOINT = "xswu/HPSv2", "HPS_v2.1_compressed.pt"
BASE, CONFIG = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "config.json"

# Replacements from the checkpoint's names to transformers'.
RENAMED = (
    (r"visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"visual\.proj$", "visual_projection.weight"),
    (r"visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"ln_final\.", "text_model.final_layer_norm."),
    (r"text_projection$", "text_projection.weight"),
    (r"transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"(.*\.layers\.\d+)\.ln_([12])\.", r"\1.layer_norm\2."),
    (r"(.*\.layers\.\d+)\.mlp\.c_fc\.", r"\1.mlp.fc1."),
    (r"(.*\.layers\.\d+)\.mlp\.c_proj\.", r"\1.mlp.fc2."),
    (r"(.*\.layers\.\d+)\.attn\.(in|out)_proj", r"\1.self_attn.\2_proj"),
)
# OpenCLIP stores these matrices transposed.
TRANSPOSED = ("visual_projection.weight", "text_projection.weight")
# OpenCLIP stores the projections of query, key and value as one tensor.
JOINED = re.compile(r"(.*\.self_attn\.)in_proj_(weight|bias)")


def load(
    model: str = MODEL, base: str = BASE, device: str = "cpu", dtype: torch.dtype | None = None
) -> ClipScore:
    """Loads the authors' checkpoint.

    Args:
        model: A folder or hub id with HPS_v2.1_compressed.pt.
        base: A folder or hub id with the matching config.json and tokenizer of a CLIPModel.
        device: The device to run on.
        dtype: The dtype of the network; None means float32.

    Raises:
        ModelError: A part is missing or damaged, or the parts do not fit together.
    """
    config: Any = load_part(CLIPConfig, base, (CONFIG,))  # transformers' annotations are incomplete
    file = hub.required_file(model, CHECKPOINT)
    read = checkpoints.read(file, f"download it again from {MODEL}", "state_dict")
    with checkpoints.building(file, CONFIG):
        clip = CLIPModel(config)
    dtype = dtype or torch.float32
    checkpoints.load_into(clip, {key: tensor.to(device, dtype) for key, tensor in _renamed(read)}, file, CONFIG)
    tokenizer = load_tokenizer(base, config.text_config.vocab_size, model)

    def to_pixels(images: list[Image.Image]) -> Tensor:
        return torch.stack([_pixels(image, config.vision_config.image_size) for image in images])

    return ClipScore("HPSv2.1", clip, tokenizer, to_pixels, hps)


def hps(cosine: Tensor, _logit_scale: Tensor) -> Tensor:
    """Returns the cosine times 100, the scale of the authors' tables, in which models score 14 to 31."""
    return 100 * cosine


def _renamed(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yields the weights with transformers' names, as views. Unknown names are kept."""
    for key, tensor in weights.items():
        key = checkpoints.renamed(key, RENAMED)
        if (match := JOINED.fullmatch(key)) and tensor.ndim and len(tensor) % 3 == 0:
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{match[1]}{part}_proj.{match[2]}", third
        else:
            yield key, tensor.transpose(0, -1) if key in TRANSPOSED else tensor


def _pixels(image: Image.Image, size: int) -> Tensor:
    """Scales an image to fit [3, size, size], pads it with black and normalises it.

    Scaling is antialiased, as in the authors' package with torchvision 0.17 or newer.
    """
    pixels = rgb_pixels(image)
    scale = size / max(image.size)
    height, width = (max(1, round(side * scale)) for side in pixels.shape[1:])
    pixels = F.interpolate(pixels[None], size=(height, width), mode="bicubic", antialias=True)[0]
    left, top = (size - width) // 2, (size - height) // 2
    return normalized(F.pad(pixels, (left, size - width - left, top, size - height - top)))
