"""Compares ImageReward with a recorded run of the package image-reward 1.5.

The folder holds a small checkpoint in the package's layout (ImageReward.pt, med_config.json), vocab.txt, the
images image_0.png, image_1.png, ... and expected.json: per prompt what the package's `inference_rank` gave.

`python -m tests.support.parity_image_reward FOLDER` runs the package on the prompts of expected.json and writes
its answers there. It needs image-reward 1.5, transformers 4.30, timm 0.6.13, fairscale and torchvision.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image


def compare(folder: str | Path) -> dict[str, float]:
    """Per prompt: the scores as max |ours - theirs| / max |theirs|, and 0 where the ranks are equal, else
    infinity.
    """
    from i4vgen.rewards.image_reward import ImageReward  # on a newer transformers than the package's

    folder = Path(folder)
    reward = ImageReward.from_pretrained(str(folder))
    errors = {}
    for i, (prompt, theirs) in enumerate(json.loads((folder / "expected.json").read_text("utf-8")).items()):
        scores = np.array(reward.score(prompt, pictures(folder)))
        ranks = np.argsort(np.argsort(-scores)) + 1
        # Of a single image the package gives bare numbers.
        wanted, wanted_ranks = np.atleast_1d(theirs["score"]), np.atleast_1d(theirs["rank"])
        same_length = len(scores) == len(wanted)
        difference = np.abs(scores - wanted).max() if same_length else np.inf
        errors[f"scores of prompt {i}"] = float(difference / np.abs(wanted).max())
        errors[f"ranks of prompt {i}"] = 0.0 if ranks.tolist() == wanted_ranks.tolist() else float("inf")
    return errors


def record(folder: str | Path) -> None:
    """Runs the package on the folder's checkpoint, images and prompts."""
    folder = Path(folder)
    file, reward, images = folder / "expected.json", load_package(folder), pictures(folder)
    answers = {}
    for prompt in json.loads(file.read_text("utf-8")):
        ranks, scores = reward.inference_rank(prompt, images)
        answers[prompt] = {"rank": ranks, "score": scores}
    file.write_text(json.dumps(answers, indent=2), "utf-8")


def load_package(folder: Path) -> Any:
    """The package's own model, of the checkpoint's sizes instead of the only ones that it knows by itself."""
    # Its __init__ files import much that scoring does not need, a `clip` that is not on PyPI among it.
    for name in ("ImageReward", "ImageReward.models"):
        empty = ModuleType(name)
        empty.__path__ = list(find_spec(name).submodule_search_locations)
        sys.modules[name] = empty
    package = import_module("ImageReward.ImageReward")
    blip = import_module("ImageReward.models.BLIP.blip")
    pretrain = import_module("ImageReward.models.BLIP.blip_pretrain")

    weights = torch.load(folder / "ImageReward.pt", weights_only=True)
    text = json.loads((folder / "med_config.json").read_text("utf-8"))
    width, _, patch, _ = weights["blip.visual_encoder.patch_embed.proj.weight"].shape
    depth = len({key.split(".")[3] for key in weights if key.startswith("blip.visual_encoder.blocks.")})
    heads = width // (text["hidden_size"] // text["num_attention_heads"])
    large, tokenizer = package.MLP, blip.BertTokenizer

    class LocalTokenizer:
        @staticmethod
        def from_pretrained(_name: str) -> Any:
            return tokenizer(str(folder / "vocab.txt"))

    def create_vit(_vit: str, image_size: int, *_: Any) -> tuple[torch.nn.Module, int]:
        sizes = {"patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads}
        return blip.VisionTransformer(img_size=image_size, **sizes), width

    blip.BertTokenizer, pretrain.create_vit = LocalTokenizer, create_vit
    package.MLP = lambda _width: large(text["hidden_size"])
    reward = package.ImageReward(str(folder / "med_config.json"))
    reward.load_state_dict(weights)
    return reward.eval()


def pictures(folder: Path) -> list[Image.Image]:
    files = sorted(folder.glob("image_*"), key=lambda file: int(re.search(r"\d+", file.stem)[0]))
    return [Image.open(file) for file in files]


if __name__ == "__main__":
    record(sys.argv[1])
