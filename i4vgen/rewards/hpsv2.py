"""HPSv2.1 (Wu et al. 2023, arXiv 2306.09341): OpenCLIP's ViT-H/14, trained on people's choices between images.

Its checkpoint has OpenCLIP's names. Renamed, with each attention's three projections apart, it is transformers'
CLIPModel. The authors' package (hpsv2 1.2.0) also replaces typographic quotes, ligatures, HTML entities and
broken encodings in a prompt (ftfy); here they stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPConfig, CLIPModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from i4vgen import checkpoints, hub
from i4vgen.rewards.clip import ClipScore, load_part, load_tokenizer

MODEL, CHECKPOINT = "xswu/HPSv2", "HPS_v2.1_compressed.pt"
BASE, CONFIG = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "config.json"

# The checkpoint's names, as far as transformers has others.
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
# Matrices that OpenCLIP multiplies by from the right: those of transformers' linear layers are transposed.
TRANSPOSED = ("visual_projection.weight", "text_projection.weight")
# One matrix or bias for query, key and value.
JOINED = re.compile(r"(.*\.self_attn\.)in_proj_(weight|bias)")


def load(
    model: str = MODEL, base: str = BASE, device: str = "cpu", dtype: torch.dtype | None = None
) -> ClipScore:
    """Loads the authors' file.

    model: a folder or a hub id with HPS_v2.1_compressed.pt. base: one of the CLIPModel that was trained
    further, of which config.json and the tokenizer are used. dtype: None for float32, whatever the file holds.
    Raises `ModelError` if anything is missing, damaged or does not fit together.
    """
    config: Any = load_part(CLIPConfig, base, (CONFIG,))  # whose annotations leave open what its parts are
    file = hub.required_file(model, CHECKPOINT)
    read = checkpoints.read(file, f"download it again from {MODEL}", "state_dict")
    with checkpoints.building(file, CONFIG):
        clip = CLIPModel(config)
    dtype = dtype or torch.float32
    checkpoints.fill(clip, {key: tensor.to(device, dtype) for key, tensor in _renamed(read)}, file, CONFIG)
    tokenizer = load_tokenizer(base, config.text_config.vocab_size, model)

    def to_pixels(images: list[Image.Image]) -> torch.Tensor:
        return torch.stack([_pixels(image, config.vision_config.image_size) for image in images])

    return ClipScore("HPSv2.1", clip, tokenizer, to_pixels, hps)


def hps(cosine: torch.Tensor, _logit_scale: torch.Tensor) -> torch.Tensor:
    """Cosine in hundredths, as in the authors' tables, where models score 14 to 31; their function `score`
    leaves it at 0.14 to 0.31.
    """
    return 100 * cosine


def _renamed(weights: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights under transformers' names, as views. What cannot be renamed keeps its name."""
    for key, tensor in weights.items():
        key = checkpoints.renamed(key, RENAMED)
        if (match := JOINED.fullmatch(key)) and tensor.ndim and len(tensor) % 3 == 0:
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{match[1]}{part}_proj.{match[2]}", third
        else:
            yield key, tensor.transpose(0, -1) if key in TRANSPOSED else tensor


def _pixels(image: Image.Image, size: int) -> torch.Tensor:
    """[3, S, S], where S is `size`: the whole image, its long side scaled to S, in the middle of black.

    As the package does it with torchvision 0.17 or newer, which smooths what it shrinks.
    """
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
    scale = size / max(image.size)
    height, width = (max(1, round(side * scale)) for side in pixels.shape[1:])
    pixels = F.interpolate(pixels[None], size=(height, width), mode="bicubic", antialias=True)[0]
    left, top = (size - width) // 2, (size - height) // 2
    pixels = F.pad(pixels, (left, size - width - left, top, size - height - top))
    return (pixels - torch.tensor(OPENAI_CLIP_MEAN)[:, None, None]) / torch.tensor(OPENAI_CLIP_STD)[
        :, None, None
    ]
