"""Compares HPSv2.1 with a recorded run of the packages hpsv2 1.2.0 and open_clip_torch 3.3.0 on the small
checkpoint of `layouts_rewards`.

`python -m tests.support.parity_hpsv2 FILE` makes a recording, where both are installed with torchvision 0.17 or
newer.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from i4vgen.rewards import hpsv2
from tests.support.layouts_rewards import (
    CLIP_MERGES,
    CLIP_TOKENS,
    DEPTH,
    HPS_JOINT,
    HPS_TEXT,
    HPS_VIT,
    PATCH,
    clip_tokenizer,
    write_hpsv2,
    write_open_clip,
)

PROMPTS = ("a red rocket", "", "The  ROCKET's\tre-entry: 3.5!", "ein Schloß am Café 中 🚀", "rocket " * 60)
SIZES = ((16, 16), (64, 64), (19, 16), (16, 23), (50, 31), (9, 12), (200, 40))  # width, height


def pictures() -> list[Image.Image]:
    random = torch.Generator().manual_seed(3)
    pixels = [torch.randint(256, (h, w, 3), generator=random, dtype=torch.uint8) for w, h in SIZES]
    return [Image.fromarray(image.numpy()) for image in pixels]


def compare(file: str | Path) -> dict[str, float]:
    """Per stage max |ours - theirs| / max |theirs|."""
    recorded = load_file(file)
    with tempfile.TemporaryDirectory() as folder:
        write_hpsv2(Path(folder, "model"))
        write_open_clip(Path(folder, "base"))
        reward = hpsv2.load(f"{folder}/model", f"{folder}/base")
    tokens = reward.tokenizer(list(PROMPTS), padding="max_length", truncation=True, return_tensors="pt")
    ours = {
        "tokens": tokens.input_ids * tokens.attention_mask,  # OpenCLIP pads with 0
        "pixels": reward.to_pixels(pictures()),
        "image features": reward.embed_images(pictures()),
        "text features": torch.cat([reward.embed_prompt(prompt) for prompt in PROMPTS]),
        "scores": torch.tensor([reward.score(prompt, pictures()) for prompt in PROMPTS]) / 100,
    }
    assert ours.keys() == recorded.keys()
    return {
        stage: float((ours[stage] - recorded[stage]).abs().max() / recorded[stage].abs().max())
        for stage in ours
    }


def record(file: str | Path) -> None:
    """Runs the packages on the same weights, pictures and prompts."""
    from hpsv2 import img_score
    from hpsv2.src.open_clip import factory, tokenizer
    from open_clip.model import CLIP

    sizes = {
        "embed_dim": HPS_JOINT,
        "vision_cfg": {
            "image_size": 2 * PATCH,
            "layers": DEPTH,
            "width": HPS_VIT,
            "head_width": HPS_VIT // 2,
            "patch_size": PATCH,
        },
        "text_cfg": {
            "context_length": CLIP_TOKENS,
            "vocab_size": len(clip_tokenizer()),
            "width": HPS_TEXT,
            "heads": 3,
            "layers": DEPTH,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        write_hpsv2(Path(folder))
        checkpoint = Path(folder, "HPS_v2.1_compressed.pt")
        merges, config = Path(folder, "merges.gz"), Path(folder, "small.json")
        merges.write_bytes(gzip.compress("\n".join(["", *CLIP_MERGES]).encode()))
        config.write_text(json.dumps(sizes))
        factory.add_model_config(config)
        model, _, preprocess = factory.create_model_and_transforms(
            "small", precision="amp", light_augmentation=True, aug_cfg={}, output_dict=True
        )
        tokenizer._tokenizer = tokenizer.SimpleTokenizer(str(merges))
        img_score.model_dict.update(model=model, preprocess_val=preprocess)
        img_score.get_tokenizer = lambda _: lambda texts: tokenizer.tokenize(texts, CLIP_TOKENS)
        scores = [img_score.score(pictures(), prompt, str(checkpoint)) for prompt in PROMPTS]

        network = CLIP(**sizes).eval()
        network.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    tokens = tokenizer.tokenize(list(PROMPTS), CLIP_TOKENS)
    pixels = torch.stack([preprocess(picture) for picture in pictures()])
    with torch.no_grad():
        recorded = {
            "tokens": tokens,
            "pixels": pixels,
            "image features": network.encode_image(pixels),
            "text features": network.encode_text(tokens),
            "scores": torch.tensor(scores),
        }
    save_file({stage: tensor.contiguous() for stage, tensor in recorded.items()}, file)


if __name__ == "__main__":
    record(sys.argv[1])
