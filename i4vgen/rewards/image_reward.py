"""ImageReward (Xu et al. 2023, arXiv 2304.05977): a BLIP trained on human preferences.

The package `image-reward` 1.5 requires a version of transformers from 2023, so this module runs the
checkpoint on the BLIP of current transformers: a ViT encodes the image, a BERT encodes the prompt with
cross-attention to the image, and a small head maps BERT's first token to the score.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertTokenizer,
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
)

from i4vgen.errors import ModelError
from i4vgen.rewards.clip import batches, normalized, rgb_pixels
from i4vgen.weights import checkpoints, hub

MODEL = "zai-org/ImageReward"
TOKENIZER = "google-bert/bert-base-uncased"
CONFIG = "med_config.json"
MAX_TOKENS = 35

# The mean and standard deviation by which the package normalises scores.
SCORE_MEAN, SCORE_STD = 0.16717362830052426, 1.0333394966054072

# The indices of the head's linear layers in the checkpoint, which also counts dropout layers.
HEAD_LAYERS = (0, 2, 4, 6, 7)

# Heads by width of the package's ViTs, "base" and "large". The files do not contain these numbers.
VIT_HEADS = {768: 12, 1024: 16}

# Replacements from the checkpoint's names to transformers'.
RENAMED = (
    (r"blip\.", ""),
    (r"visual_encoder\.cls_token$", "visual_encoder.embeddings.class_embedding"),
    (r"visual_encoder\.pos_embed$", "visual_encoder.embeddings.position_embedding"),
    (r"visual_encoder\.patch_embed\.proj\.", "visual_encoder.embeddings.patch_embedding."),
    (r"visual_encoder\.norm\.", "visual_encoder.post_layernorm."),
    (r"visual_encoder\.blocks\.(\d+)\.", r"visual_encoder.encoder.layers.\1."),
    (r"(visual_encoder\..*)\.norm([12])\.", r"\1.layer_norm\2."),
    (r"(visual_encoder\..*)\.attn\.qkv\.", r"\1.self_attn.qkv."),
    (r"(visual_encoder\..*)\.attn\.proj\.", r"\1.self_attn.projection."),
    *((rf"mlp\.layers\.{number}\.", f"head.{i}.") for i, number in enumerate(HEAD_LAYERS)),
)
# Weights that scoring does not use: a table of 0, 1, 2, ... and BLIP's pretraining heads.
UNUSED = re.compile(r"blip\.(text_encoder\.embeddings\.position_ids|(vision|text)_proj\.(weight|bias))")


class ImageReward:
    """Scores images by predicted human preference, given a prompt."""

    name = "ImageReward"

    def __init__(self, network: ImageRewardNetwork, tokenizer: BertTokenizer):
        self.network = network
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(
        cls,
        model: str = MODEL,
        tokenizer: str = TOKENIZER,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> ImageReward:
        """Loads the authors' checkpoint.

        Args:
            model: A folder or hub id with ImageReward.pt and med_config.json.
            tokenizer: A folder or hub id with vocab.txt; a vocab.txt in the model's folder is preferred.
            device: The device to run on.
            dtype: The dtype of BLIP; None means float32, as in the package. The head is always float32.

        Raises:
            ModelError: A part is missing or damaged, or the parts do not fit together.
        """
        hub.required_file(model, CONFIG)
        config: Any = hub.read_json(model, CONFIG)
        file = hub.required_file(model, "ImageReward.pt")
        vocabulary = hub.required_file(model if Path(model, "vocab.txt").is_file() else tokenizer, "vocab.txt")

        read = checkpoints.read(file, f"download it again from {MODEL}")
        used = {key: weight for key, weight in read.items() if not UNUSED.fullmatch(key)}
        weights = {checkpoints.renamed(key, RENAMED): weight for key, weight in used.items()}
        with checkpoints.building(file, CONFIG):
            network = ImageRewardNetwork(_vision_config(config, weights), _text_config(config), weights)
        dtype = dtype or torch.float32
        weights = {
            key: weight.to(device, torch.float32 if key.startswith("head.") else dtype)
            for key, weight in weights.items()
        }
        checkpoints.load_into(network, weights, file, CONFIG)
        return cls(network, _read_tokenizer(vocabulary, network))

    @torch.inference_mode()
    def score(self, prompt: str, images: list[Image.Image]) -> list[float]:
        """Returns one score per image of any size and mode. Higher is better.

        Scores are normalised to about mean 0 and standard deviation 1.
        """
        device = self.network.device
        tokens = self.tokenizer(
            [prompt], padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        ).to(device)
        scores = []
        for batch in batches(images):
            pixels = torch.stack(list(map(self._pixels, batch)))
            output = self.network(pixels.to(device), tokens.input_ids, tokens.attention_mask)
            scores += ((output - SCORE_MEAN) / SCORE_STD).tolist()
        return scores

    @torch.inference_mode()
    def image_features(self, images: list[Image.Image]) -> np.ndarray:
        """Returns the ViT's class token of each image, float32 [N, D] with rows of norm 1."""
        features = []
        for batch in batches(images):
            pixels = torch.stack(list(map(self._pixels, batch)))
            encoded = self.network.visual_encoder(pixel_values=pixels.to(self.network.device))
            features.append(F.normalize(encoded.last_hidden_state[:, 0].float(), dim=-1))
        return torch.cat(features).cpu().numpy()

    def _pixels(self, image: Image.Image) -> Tensor:
        """Scales an image's short side to the model's size S and crops the centre to [3, S, S].

        Sizes are rounded as in torchvision. The image is converted to RGB only after scaling, as in the
        package, which affects transparent images.
        """
        size = self.network.image_size
        width, height = image.size
        short = min(width, height)
        image = image.resize((size * width // short, size * height // short), Image.Resampling.BICUBIC)
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        return normalized(rgb_pixels(image.crop((left, top, left + size, top + size))))


class ImageRewardNetwork(nn.Module):
    """The networks of ImageReward.

    Args:
        vision: The configuration of the ViT.
        text: The configuration of BERT.
        weights: The renamed weights, which determine the widths of the head's layers.
    """

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig, weights: dict[str, Tensor]):
        super().__init__()
        self.visual_encoder = BlipVisionModel(vision)
        text.encoder_hidden_size = vision.hidden_size
        self.text_encoder = BlipTextModel(text, add_pooling_layer=False)
        widths = [text.hidden_size] + [len(weights[f"head.{i}.bias"]) for i in range(len(HEAD_LAYERS))]
        self.head = nn.Sequential(*(nn.Linear(before, after) for before, after in pairwise(widths)))

    @property
    def device(self) -> torch.device:
        return next(self.head.parameters()).device

    @property
    def image_size(self) -> int:
        size: Any = self.visual_encoder.config.image_size  # the annotation also allows a pair
        return size

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Computes unnormalised scores [B] from pixels [B, 3, S, S] and a tokenized prompt [1, T]."""
        image = self.visual_encoder(pixel_values=pixels).last_hidden_state  # [B, patches + 1, width]
        text = self.text_encoder(
            input_ids=input_ids.expand(len(pixels), -1),
            attention_mask=attention_mask.expand(len(pixels), -1),
            encoder_hidden_states=image,
        )
        return self.head(text.last_hidden_state[:, 0].float())[:, 0]


def _vision_config(config: dict, weights: dict[str, Tensor]) -> BlipVisionConfig:
    """Reads the ViT's sizes from the weights.

    Raises:
        KeyError: Weights are missing.
    """
    prefix = "visual_encoder.embeddings."
    width, _, patch, _ = weights[f"{prefix}patch_embedding.weight"].shape
    positions = weights[f"{prefix}position_embedding"].shape[1]
    bert = BertConfig(**config)
    # For other widths, assume heads as wide as BERT's, as in both ViTs of the package.
    heads = VIT_HEADS.get(width, width // (bert.hidden_size // bert.num_attention_heads))
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=len(weights["visual_encoder.encoder.layers.0.mlp.fc1.bias"]),
        num_hidden_layers=len({k.split(".")[3] for k in weights if k.startswith("visual_encoder.encoder.")}),
        num_attention_heads=heads,
        image_size=patch * math.isqrt(positions - 1),
        patch_size=patch,
        layer_norm_eps=1e-6,
    )


def _text_config(config: dict) -> BlipTextConfig:
    """Converts the contents of med_config.json to the configuration of BERT with cross-attention."""
    bert = BertConfig(**config)
    same = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
        "hidden_act",
        "layer_norm_eps",
        "pad_token_id",
    )
    # is_decoder adds cross-attention; self-attention stays bidirectional. The start and end tokens are
    # unused without text generation.
    unused: dict[str, Any] = {"bos_token_id": None, "sep_token_id": None}
    return BlipTextConfig(**{name: getattr(bert, name) for name in same}, **unused, is_decoder=True)


def _read_tokenizer(vocabulary: Path, network: ImageRewardNetwork) -> BertTokenizer:
    """Reads BERT's tokenizer and adds the two tokens of BLIP.

    Raises:
        ModelError: The vocabulary is damaged or does not fit the network.
    """
    try:
        tokenizer = BertTokenizer(
            vocab=str(vocabulary), bos_token="[DEC]", extra_special_tokens=["[ENC]"], do_lower_case=True
        )
    except Exception as error:  # tokenizers raises bare Exception for damaged files
        raise ModelError(f"cannot read {vocabulary}: download it again") from error
    vocab_size = network.text_encoder.config.vocab_size
    if len(tokenizer) != vocab_size:
        raise ModelError(
            f"{vocabulary} gives {len(tokenizer)} tokens, the model knows {vocab_size}: download vocab.txt"
            f" again from {TOKENIZER}"
        )
    return tokenizer
