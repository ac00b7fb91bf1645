"""Times the authors' implementation of I4VGen on AnimateDiff, for `benchmarks.speed --authors`.

A script for its own process. It imports the authors' code from a checkout of their repository
(xiefan-guo/i4vgen), whose package is also called i4vgen and needs other versions of the dependencies. An
environment for it, with Python 3.10 or 3.11 and any torch:

    pip install torch diffusers==0.11.1 transformers==4.25.1 huggingface-hub==0.25.2 einops
    pip install xformers    # on a GPU: the authors' own script does not run without it

Reads the request from standard input and writes the measurements to standard output, both as one JSON object
(see `speed.time_authors`). As there, weights and text are random, and no reward model runs.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import diffusers
import torch
import yaml
from diffusers import AutoencoderKL, DDIMScheduler
from diffusers.utils.import_utils import is_xformers_available


class FirstIsBest:
    """Replaces the reward model: the first image is the best."""

    def score(self, prompt: list[str], images: list) -> list[float]:
        return [-float(index) for index in range(len(images))]


def build(spec: dict[str, Any]):
    """Builds their pipeline on the device. `spec` overrides their configuration file."""
    # Their motion modules import torchvision without using it. Not earlier, because diffusers looks for it too.
    sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))
    sys.path.insert(0, spec["checkout"])
    from i4vgen.animatediff.models.unet import UNet3DConditionModel
    from i4vgen.animatediff.pipelines.pipeline_animation import AnimationPipeline

    file = Path(spec["checkout"], "configs/animatediff_configs/inference/inference-v2.yaml")
    motion = yaml.safe_load(file.read_text())["unet_additional_kwargs"]
    unet = UNet3DConditionModel(**spec["unet"], **motion)
    vae = AutoencoderKL.from_config(spec["vae"])  # ignores settings that this diffusers does not know
    pipeline = AnimationPipeline(
        image_reward_model=FirstIsBest(),
        vae=vae.eval(),
        text_encoder=vae,  # never called, but asked for its dtype
        tokenizer=None,
        unet=unet.eval(),
        scheduler=DDIMScheduler(**spec["schedule"]),
    ).to(spec["device"])
    dtype = torch.float16 if spec["half"] else torch.float32
    text = torch.randn(2, *spec["text"], device=spec["device"], dtype=dtype)
    pipeline._encode_prompt = lambda *_: text
    if on_xformers(spec):
        unet.enable_xformers_memory_efficient_attention()
    return pipeline


def on_xformers(spec: dict[str, Any]) -> bool:
    return is_xformers_available() and spec["device"].startswith("cuda")


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measures one run from end to end, after `warm_up` others."""
    torch.manual_seed(0)
    torch.set_num_threads(spec["threads"])
    pipeline = build(spec)
    for _ in range(spec["warm_up"] + 1):
        start = time.perf_counter()
        pipeline(**spec["call"], use_fp16=spec["half"])  # returns with its pictures in the CPU's memory
        seconds = time.perf_counter() - start
    cuda = spec["device"].startswith("cuda")
    return {
        "seconds": seconds,
        "gpu_memory": torch.cuda.max_memory_allocated() if cuda else None,
        "xformers": on_xformers(spec),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def main() -> None:
    spec = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # their code prints
        found = measure(spec)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
