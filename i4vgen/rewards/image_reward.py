"""ImageReward (Xu et al. 2023, arXiv 2304.05977): a BLIP that was trained on people's choices between images.

The package `image-reward` 1.5 needs a transformers of 2023, so its checkpoint runs here on transformers' own
BLIP: a ViT reads the image, a BERT reads the prompt and looks at the image by cross-attention, and a small
head turns BERT's first token into the score.
"""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
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

from i4vgen import hub
from i4vgen.errors import ModelError

MODEL = "zai-org/ImageReward"
TOKENIZER = "google-bert/bert-base-uncased"
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
        _file(model, "med_config.json")
        config: Any = hub.read_json(model, "med_config.json")  # not None, then
        file = _file(model, "ImageReward.pt")
        vocabulary = _file(model if Path(model, "vocab.txt").is_file() else tokenizer, "vocab.txt")

        weights = {_rename(k): v for k, v in _read_weights(file).items() if not UNUSED.fullmatch(k)}
        try:
            with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
                network = ImageRewardNetwork(_vision_config(config, weights), _text_config(config), weights)
        except (
            LookupError,
            ValueError,
            TypeError,
            RuntimeError,
            ArithmeticError,
            StrictDataclassError,
        ) as error:
            reason = " ".join(str(error).split())
            raise ModelError(
                f"{file} and med_config.json do not fit together ({reason}): download both again"
            ) from error
        _check_shapes(network, weights, file)
        # assign=True: on the CPU the weights stay where they are, in the file that is mapped into memory.
        dtype = dtype or torch.float32
        network.load_state_dict(
            {k: v.to(device, torch.float32 if k.startswith("head.") else dtype) for k, v in weights.items()},
            assign=True,
        )
        embeddings: Any = network.text_encoder.embeddings
        embeddings.position_ids = torch.arange(embeddings.position_ids.shape[1], device=device)[None]
        return cls(network.requires_grad_(False).eval(), _read_tokenizer(vocabulary, network))

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


def _rename(key: str) -> str:
    for pattern, name in RENAMED:
        key = re.sub(f"^{pattern}", name, key)
    return key


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


def _check_shapes(network: nn.Module, weights: dict[str, torch.Tensor], file: Path) -> None:
    """Raises `ModelError` unless the network and the file have the same weights."""
    wanted = {key: tuple(weight.shape) for key, weight in network.state_dict().items()}
    given = {key: tuple(weight.shape) for key, weight in weights.items()}
    if wrong := sorted(key for key in wanted | given if wanted.get(key) != given.get(key)):
        key = wrong[0]
        what = "not there" if key not in given else "unknown" if key not in wanted else f"of shape {given[key]}"
        raise ModelError(
            f"{file} is not an ImageReward that fits its med_config.json ({len(wrong)} weights differ, such"
            f" as {key}: {what}): download both again"
        )


def _file(model: str, name: str) -> Path:
    """One file of a model. Raises `ModelError` if the model does not have it."""
    file = hub.file(model, name)
    if file is None:
        raise ModelError(f"{model} has no {name}: download it again")
    return file


def _read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors. Raises `ModelError` for damaged files and for anything but tensors."""
    try:
        # weights_only: no code in the file is ever run. Only torch's zip format can be mapped into memory.
        weights = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError) as error:
        raise ModelError(
            f"cannot read {file}: it is damaged, or holds more than tensors; download it again from {MODEL}"
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(weight, torch.Tensor) for key, weight in weights.items()
    ):
        raise ModelError(f"{file} is not a table of tensors: download it again from {MODEL}")
    return weights


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
