"""Writes small random reward models in the layouts that the hub has them in."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import BertTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

IMAGE_REWARD_WORDS = ["a", "red", "blue", "rocket", "car", "rising", "over", "night", ",", "."]
SHA = "0123456789abcdef0123456789abcdef01234567"

# BERT and ViT with heads of 8 channels, images of 16 x 16 in patches of 8.
VIT, BERT, PATCH, PATCHES, DEPTH, TOKENS = 24, 16, 8, 4, 2, 40

# What CLIP's tokens are merged to, and what the released configurations say of its marks, wrong as it is.
CLIP_MERGES = ["r e", "re d</w>", "r o", "c k", "ro ck", "e t</w>", "rock et</w>", "i n", "in g</w>"]
MARKS = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
CLIP_TOKENS = 12

# HPSv2.1: the widths of its towers and of what they have in common.
HPS_TEXT, HPS_VIT, HPS_JOINT = 12, 16, 8


def write_image_reward(folder: Path) -> None:
    """zai-org/ImageReward: ImageReward.pt under the package's names, and med_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = len(bert_vocabulary()) + 2  # [DEC] and [ENC], which BLIP adds
    med_config = {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": BERT,
        "initializer_range": 0.02,
        "intermediate_size": 32,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": TOKENS,
        "model_type": "bert",
        "num_attention_heads": 2,
        "num_hidden_layers": DEPTH,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
        "encoder_width": VIT,
        "add_cross_attention": True,
    }
    (folder / "med_config.json").write_text(json.dumps(med_config, indent=2))
    torch.save(image_reward_weights(vocabulary), folder / "ImageReward.pt")


def image_reward_weights(vocabulary: int) -> dict[str, torch.Tensor]:
    """The state dict of the package's model, in its order, with the buffer and the projections that scoring
    does not use.
    """
    random = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def add(key: str, *shape: int) -> None:
        weights[key] = torch.randn(*shape, generator=random) * 0.3

    def linear(key: str, before: int, after: int) -> None:
        add(f"{key}.weight", after, before)
        add(f"{key}.bias", after)

    def norm(key: str, width: int) -> None:
        add(f"{key}.weight", width)
        add(f"{key}.bias", width)

    vit, text = "blip.visual_encoder", "blip.text_encoder"
    add(f"{vit}.cls_token", 1, 1, VIT)
    add(f"{vit}.pos_embed", 1, PATCHES + 1, VIT)
    add(f"{vit}.patch_embed.proj.weight", VIT, 3, PATCH, PATCH)
    add(f"{vit}.patch_embed.proj.bias", VIT)
    for i in range(DEPTH):
        block = f"{vit}.blocks.{i}"
        norm(f"{block}.norm1", VIT)
        linear(f"{block}.attn.qkv", VIT, 3 * VIT)
        linear(f"{block}.attn.proj", VIT, VIT)
        norm(f"{block}.norm2", VIT)
        linear(f"{block}.mlp.fc1", VIT, 4 * VIT)
        linear(f"{block}.mlp.fc2", 4 * VIT, VIT)
    norm(f"{vit}.norm", VIT)
    weights[f"{text}.embeddings.position_ids"] = torch.arange(TOKENS)[None]
    add(f"{text}.embeddings.word_embeddings.weight", vocabulary, BERT)
    add(f"{text}.embeddings.position_embeddings.weight", TOKENS, BERT)
    norm(f"{text}.embeddings.LayerNorm", BERT)
    for i in range(DEPTH):
        layer = f"{text}.encoder.layer.{i}"
        for attention, source in (("attention", BERT), ("crossattention", VIT)):
            linear(f"{layer}.{attention}.self.query", BERT, BERT)
            linear(f"{layer}.{attention}.self.key", source, BERT)
            linear(f"{layer}.{attention}.self.value", source, BERT)
            linear(f"{layer}.{attention}.output.dense", BERT, BERT)
            norm(f"{layer}.{attention}.output.LayerNorm", BERT)
        linear(f"{layer}.intermediate.dense", BERT, 32)
        linear(f"{layer}.output.dense", 32, BERT)
        norm(f"{layer}.output.LayerNorm", BERT)
    linear("blip.vision_proj", VIT, 8)
    linear("blip.text_proj", BERT, 8)
    for number, before, after in ((0, BERT, 32), (2, 32, 16), (4, 16, 8), (6, 8, 4), (7, 4, 1)):
        linear(f"mlp.layers.{number}", before, after)
    return weights


def bert_vocabulary() -> list[str]:
    letters = list(string.ascii_lowercase)
    pieces = letters + [f"##{letter}" for letter in letters]
    words = [word for word in IMAGE_REWARD_WORDS if word not in pieces]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *words]


def write_bert_tokenizer(folder: Path) -> None:
    """google-bert/bert-base-uncased, without its weights: vocab.txt, tokenizer.json, tokenizer_config.json,
    config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = bert_vocabulary()
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}')
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(vocabulary)}))


def write_pick_score(folder: Path) -> None:
    """yuvalkirstain/PickScore_v1: config.json and model.safetensors. The tokenizer and the preprocessing are
    those of `write_open_clip`.
    """
    clip_model(seed=1).save_pretrained(folder)


def write_clip(folder: Path) -> None:
    """openai/clip-vit-large-patch14: the model and its own tokenizer and preprocessing."""
    clip_model(seed=2).save_pretrained(folder)
    write_clip_processor(folder)


def write_open_clip(folder: Path) -> None:
    """laion/CLIP-ViT-H-14-laion2B-s32B-b79K without its weights, with the sizes of `hpsv2_weights`."""
    write_clip_processor(folder)
    tower = {"num_hidden_layers": DEPTH, "hidden_act": "gelu"}
    text = tower | {"hidden_size": HPS_TEXT, "intermediate_size": 4 * HPS_TEXT, "num_attention_heads": 3}
    vision = tower | {"hidden_size": HPS_VIT, "intermediate_size": 4 * HPS_VIT, "num_attention_heads": 2}
    text |= {"max_position_embeddings": CLIP_TOKENS, "vocab_size": len(clip_tokenizer())} | MARKS
    vision |= {"image_size": 2 * PATCH, "patch_size": PATCH}
    CLIPConfig(text_config=text, vision_config=vision, projection_dim=HPS_JOINT).save_pretrained(folder)


def write_hpsv2(folder: Path) -> None:
    """xswu/HPSv2: HPS_v2.1_compressed.pt, in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: tensor.half() for key, tensor in hpsv2_weights().items()}
    torch.save({"state_dict": weights}, folder / "HPS_v2.1_compressed.pt")


def hpsv2_weights() -> dict[str, torch.Tensor]:
    """The state dict of OpenCLIP's model, in its order."""
    random = torch.Generator().manual_seed(5)
    weights: dict[str, torch.Tensor] = {}

    def add(key: str, *shape: int) -> None:
        weights[key] = torch.randn(*shape, generator=random) * 0.3

    def norm(key: str, width: int) -> None:
        add(f"{key}.weight", width)
        add(f"{key}.bias", width)

    def blocks(key: str, width: int) -> None:
        for i in range(DEPTH):
            block = f"{key}.resblocks.{i}"
            norm(f"{block}.ln_1", width)
            add(f"{block}.attn.in_proj_weight", 3 * width, width)
            add(f"{block}.attn.in_proj_bias", 3 * width)
            add(f"{block}.attn.out_proj.weight", width, width)
            add(f"{block}.attn.out_proj.bias", width)
            norm(f"{block}.ln_2", width)
            add(f"{block}.mlp.c_fc.weight", 4 * width, width)
            add(f"{block}.mlp.c_fc.bias", 4 * width)
            add(f"{block}.mlp.c_proj.weight", width, 4 * width)
            add(f"{block}.mlp.c_proj.bias", width)

    add("positional_embedding", CLIP_TOKENS, HPS_TEXT)
    add("text_projection", HPS_TEXT, HPS_JOINT)
    weights["logit_scale"] = torch.tensor(100.0).log()
    add("visual.class_embedding", HPS_VIT)
    add("visual.positional_embedding", PATCHES + 1, HPS_VIT)
    add("visual.proj", HPS_VIT, HPS_JOINT)
    add("visual.conv1.weight", HPS_VIT, 3, PATCH, PATCH)
    norm("visual.ln_pre", HPS_VIT)
    blocks("visual.transformer", HPS_VIT)
    norm("visual.ln_post", HPS_VIT)
    blocks("transformer", HPS_TEXT)
    add("token_embedding.weight", len(clip_tokenizer()), HPS_TEXT)
    norm("ln_final", HPS_TEXT)
    return weights


def write_clip_processor(folder: Path) -> None:
    """preprocessor_config.json and tokenizer.json, vocab.json, merges.txt, tokenizer_config.json."""
    tokenizer = clip_tokenizer()
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *CLIP_MERGES, ""]))
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        folder
    )


def clip_tokenizer() -> CLIPTokenizer:
    """In the order of the released vocabulary: bytes, bytes that end a word, merges and the two marks."""
    pieces = [f"{byte}{end}" for end in ("", "</w>") for byte in bytes_to_unicode().values()]
    pieces += [merge.replace(" ", "") for merge in CLIP_MERGES] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [tuple(merge.split()) for merge in CLIP_MERGES]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CLIP_TOKENS)


def clip_model(seed: int) -> CLIPModel:
    torch.manual_seed(seed)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = tower | MARKS | {"vocab_size": len(clip_tokenizer()), "max_position_embeddings": CLIP_TOKENS}
    vision = tower | {"image_size": 16, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))


def write_hub_cache(cache: Path, repository: str, write: Callable[[Path], None]) -> None:
    """A model in huggingface_hub's cache, as if it had been downloaded.

    repository: OWNER/NAME, or OWNER/NAME@COMMIT for a pinned one, which leaves no trace of a branch.
    """
    repository, _, commit = repository.partition("@")
    home = cache / f"models--{repository.replace('/', '--')}"
    if not commit:
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(SHA)
    snapshot = home / "snapshots" / (commit or SHA)
    snapshot.mkdir(parents=True)
    write(snapshot)
