"""Runs `python -m i4vgen --model FILE --motion-module FILE` on full-size files with random weights.

    python -m benchmarks.single_file --folder /tmp/single-files

The files are a Stable Diffusion 1.5 checkpoint and an original motion module, with their authors' key names.
Prints the sizes of the files, and the seconds and the peak memory of the run, whose video is noise.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.original_names import TEXT, UNET, VAE, motion_name, unet_name, vae_name
from benchmarks.random_weights import MOTION
from benchmarks.random_weights import UNET as UNET_SIZES
from benchmarks.random_weights import VAE as VAE_SIZES
from i4vgen.weights.single_file import TEXT_CONFIG

CHECKPOINT, MOTION_MODULE = "v1-5-random.safetensors", "mm_sd_v15_v2-random.ckpt"


def random_weights(network: nn.Module, rename: Callable[[str], str]) -> dict[str, torch.Tensor]:
    """Makes small random weights in half precision for a network on the meta device, under new names."""
    weights = {}
    for name, weight in network.state_dict().items():
        values = torch.randn(weight.shape) * 0.02
        if "norm" in name and name.endswith("weight"):
            values += 1
        weights[rename(name)] = values.half()
    return weights


def write(folder: Path) -> tuple[Path, Path]:
    """Writes the checkpoint and the motion module unless they exist. Returns their paths."""
    checkpoint, module = folder / CHECKPOINT, folder / MOTION_MODULE
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    with init_empty_weights():
        unet, vae = UNet2DConditionModel(**UNET_SIZES), AutoencoderKL(**VAE_SIZES)
        text = CLIPTextModel(CLIPTextConfig(**TEXT_CONFIG, num_attention_heads=12))
        motion = MotionAdapter(**MOTION)
    if not checkpoint.exists():
        weights = random_weights(unet, lambda name: UNET + unet_name(name))
        weights |= random_weights(vae, lambda name: VAE + vae_name(name))
        weights |= random_weights(text, lambda name: f"{TEXT}text_model.{name.removeprefix('text_model.')}")
        save_file(weights, checkpoint)
    if not module.exists():
        torch.save({"state_dict": random_weights(motion, motion_name), "epoch": 1}, module)
    return checkpoint, module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the files go: 3 GB")
    parser.add_argument("--side", default="128", help="height and width of the video in pixels")
    parser.add_argument("--frames", default="4", help="length of the video in frames")
    args = parser.parse_args()
    checkpoint, module = write(args.folder)
    command = [sys.executable, "-m", "i4vgen", "a corgi on a beach", "--model", str(checkpoint)]
    command += ["--motion-module", str(module), "--reward", "none", "--anchor", "0", "--candidates", "1"]
    command += ["--steps", "1", "--p-re", "1", "--frames", args.frames]
    command += ["--height", args.side, "--width", args.side]
    command += ["--out", str(args.folder / "run"), "--overwrite"]
    started = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    sizes = {file.name: round(file.stat().st_size / 1e9, 2) for file in (checkpoint, module)}
    print(
        json.dumps({"gigabytes": sizes, "seconds": round(seconds, 1), "peak_gigabytes": round(peak / 1e9, 2)})
    )


if __name__ == "__main__":
    main()
