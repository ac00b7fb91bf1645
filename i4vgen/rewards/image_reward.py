"""ImageReward (Xu et al. 2023, arXiv 2304.05977): a BLIP that was trained on people's choices between images.

The package `image-reward` 1.5 needs a transformers of 2023, so its checkpoint runs here on transformers' own
BLIP: a ViT reads the image, a BERT reads the prompt and looks at the image by cross-attention, and a small
head turns BERT's first token into the score.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import (
    BertConfig,
    BertTokenizer,
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
)

from i4vgen import checkpoints, hub
from i4vgen.errors import ModelError

MODEL = "zai-org/ImageReward"
TOKENIZER = "google-bert/bert-base-uncased"
CONFIG = "med_config.json"
MAX_TOKENS = 35
BATCH = 16  # images per forward pass: bounds the memory, whatever the number of candidates

# The package's scale of scores, and CLIP's of colours.
SCORE_MEAN, SCORE_STD = 0.16717362830052426, 1.0333394966054072
PIXEL_MEAN, PIXEL_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# The head is linear layers with dropout after the first three. Inference does without, but the names of the
# weights count the dropouts.
HEAD_LAYERS = (0, 2, 4, 6, 7)

# The package's two sizes of ViT, "base" and "large". Nothing in the files says how many heads there are.
VIT_HEADS = {768: 12, 1024: 16}

# The checkpoint's names, as far as transformers has others.
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
# What the checkpoint has and scoring does not use: a table of 0, 1, 2, ... and what BLIP was pretrained with.
UNUSED = re.compile(r"blip\.(text_encoder\.embeddings\.position_ids|(vision|text)_proj\.(weight|bias))")


class ImageReward:
    """Scores images by how well people would like them for a prompt."""

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
        """Loads the package's own files.

        model: a folder or a hub id with ImageReward.pt and med_config.json. tokenizer: one with vocab.txt; a
        model folder that has a vocab.txt itself goes by that. dtype: of BLIP, None for float32 as in the
        package; the head always runs in float32.
        Raises `ModelError` if anything is missing, damaged or does not fit together.
        """
        hub.required_file(model, CONFIG)
        config: Any = hub.read_json(model, CONFIG)  # not None, then
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
        checkpoints.fill(network, weights, file, CONFIG)
        return cls(network, _read_tokenizer(vocabulary, network))

    @torch.inference_mode()
    def score(self, prompt: str, images: list[Image.Image]) -> list[float]:
        """One score per image of any size and mode. Higher is better; about mean 0, deviation 1."""
        device = self.network.device
        # The package pads, and the padding is masked. Prompts are cut after 35 tokens with [CLS] and [SEP].
        tokens = self.tokenizer(
            [prompt], padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        ).to(device)
        scores = []
        for start in range(0, len(images), BATCH):
            pixels = torch.stack([self._pixels(image) for image in images[start : start + BATCH]])
            output = self.network(pixels.to(device), tokens.input_ids, tokens.attention_mask)
            scores += ((output - SCORE_MEAN) / SCORE_STD).tolist()
        return scores

    def inference_rank(self, prompt: str, images: list[Image.Image]) -> tuple[list[int], list[float]]:
        """(ranks, scores), one each per image; rank 1 is the best. Of equal images the earlier is better."""
        scores = self.score(prompt, images)
        best_first = sorted(range(len(scores)), key=lambda i: -scores[i])
        ranks = [0] * len(scores)
        for rank, i in enumerate(best_first, start=1):
            ranks[i] = rank
        return ranks, scores

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        """[3, S, S], where S is the size that the model was trained at: the middle of the image, its short
        side scaled to S.

        In the package's order: colours are made RGB only at the end, which shows on images with transparency.
        Sizes are rounded as torchvision does.
        """
        size = self.network.image_size
        width, height = image.size
        short = min(width, height)
        image = image.resize((size * width // short, size * height // short), Image.Resampling.BICUBIC)
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        image = image.crop((left, top, left + size, top + size)).convert("RGB")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[:, None, None]


class ImageRewardNetwork(nn.Module):
    """The networks of ImageReward: pixels and tokens to unscaled scores."""

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig, weights: dict[str, torch.Tensor]):
        """weights: for the widths of the head's layers."""
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
        size: Any = self.visual_encoder.config.image_size  # one number, as `_vision_config` has it
        return size

    def forward(
        self, pixels: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """pixels [B, 3, S, S], input_ids and attention_mask [1, T] -> scores [B]."""
        image = self.visual_encoder(pixel_values=pixels).last_hidden_state  # [B, patches + 1, width]
        text = self.text_encoder(
            input_ids=input_ids.expand(len(pixels), -1),
            attention_mask=attention_mask.expand(len(pixels), -1),
            encoder_hidden_states=image,
        )
        return self.head(text.last_hidden_state[:, 0].float())[:, 0]


def _vision_config(config: dict, weights: dict[str, torch.Tensor]) -> BlipVisionConfig:
    """The ViT's sizes, from its weights. Raises KeyError for a weight that is not there."""
    prefix = "visual_encoder.embeddings."
    width, _, patch, _ = weights[f"{prefix}patch_embedding.weight"].shape
    positions = weights[f"{prefix}position_embedding"].shape[1]
    bert = BertConfig(**config)
    # A ViT of another size than the package's has heads as wide as BERT's, as these do (64 channels).
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
    """The sizes of BERT with cross-attention, from med_config.json."""
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
    # is_decoder builds the cross-attention; the attention to the prompt stays bidirectional. Nothing is
    # generated, so the tokens that start and end a text play no part.
    unused: dict[str, Any] = {"bos_token_id": None, "sep_token_id": None}
    return BlipTextConfig(**{name: getattr(bert, name) for name in same}, **unused, is_decoder=True)


def _read_tokenizer(vocabulary: Path, network: ImageRewardNetwork) -> BertTokenizer:
    """BERT's tokenizer with the two tokens that BLIP adds after its vocabulary."""
    try:
        tokenizer = BertTokenizer(
            vocab=str(vocabulary), bos_token="[DEC]", extra_special_tokens=["[ENC]"], do_lower_case=True
        )
    except Exception as error:  # tokenizers raises bare Exception for damaged files
        raise ModelError(f"cannot read {vocabulary}: download it again") from error
    words = network.text_encoder.config.vocab_size
    if len(tokenizer) != words:
        raise ModelError(
            f"{vocabulary} gives {len(tokenizer)} tokens, the model knows {words}: download vocab.txt again"
            f" from {TOKENIZER}"
        )
    return tokenizer
