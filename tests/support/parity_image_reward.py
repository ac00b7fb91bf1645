"""Compares ImageReward with a recorded run of the package image-reward 1.5.

The folder holds a checkpoint in the package's layout (ImageReward.pt, med_config.json), vocab.txt, the images
image_0.png, image_1.png, ... and expected.json: per prompt what the package's `inference_rank` gave.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from i4vgen.rewards.image_reward import ImageReward


def compare(folder: str | Path) -> dict[str, float]:
    """Per prompt: the scores as max |ours - theirs| / max |theirs|, and 0 where the ranks are equal, else
    infinity.
    """
    folder = Path(folder)
    reward = ImageReward.from_pretrained(str(folder))
    files = sorted(folder.glob("image_*"), key=lambda file: int(re.search(r"\d+", file.stem)[0]))
    images = [Image.open(file) for file in files]
    errors = {}
    for i, (prompt, theirs) in enumerate(json.loads((folder / "expected.json").read_text("utf-8")).items()):
        ranks, scores = reward.inference_rank(prompt, images)
        # Of a single image the package gives bare numbers.
        wanted, wanted_ranks = np.atleast_1d(theirs["score"]), np.atleast_1d(theirs["rank"])
        same_length = len(scores) == len(wanted)
        difference = np.abs(np.array(scores) - wanted).max() if same_length else np.inf
        errors[f"scores of prompt {i}"] = float(difference / np.abs(wanted).max())
        errors[f"ranks of prompt {i}"] = 0.0 if ranks == wanted_ranks.tolist() else float("inf")
    return errors
