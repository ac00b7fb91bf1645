"""Puts the trained parts into a model folder in the diffusers layout, in fp16, and scales the reward.

python -m training.export                                    # runs/cpu -> assets/pocket
python -m training.export --out runs/other --model runs/other/model
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from diffusers import __version__ as diffusers_version
from PIL import Image
from torch import nn
from transformers import CLIPModel, CLIPTextModel

from i4vgen.backbones.animatediff import AnimateDiffBackbone
from i4vgen.config import GenerationConfig
from i4vgen.events import Candidate
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.rewards.pocket import PocketReward
from pocket.judge import FOLDER as JUDGE
from pocket.presets import POCKET, Preset
from training.evaluate import evaluation_prompts
from training.loop import Run, parse_arguments, write_json

NETWORKS = {
    "vae": AutoencoderKL,
    "unet": UNet2DConditionModel,
    "motion_adapter": MotionAdapter,
    "text_encoder": CLIPTextModel,
    "reward": CLIPModel,
}
GUIDANCE_SCALE = 4.0
STEP_SIZES = (0.8,)  # of NI-VSDS, under this schedule
P_RE = 1.0
BITS = 6  # of a weight, after the first: the UNet's prediction moves by 0.5 %
CALIBRATION_SEED = 10_000  # far from the seeds that evaluate.py measures


def assemble(run: Run, folder: Path) -> None:
    """Writes everything but the card and the calibration."""
    for name, kind in NETWORKS.items():
        network = kind.from_pretrained(run.folder / name)
        shorten(network)
        network.half().save_pretrained(folder / name)
        forget_origin(folder / name / "config.json")
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(run.folder / name, folder / name, dirs_exist_ok=True)
    for file in (run.folder / "reward").glob("tokenizer*"):
        shutil.copy(file, folder / "reward" / file.name)
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "AnimateDiffPipeline",
            "_diffusers_version": diffusers_version,
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "motion_adapter": ["diffusers", "MotionAdapter"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
        },
    )
    own = {"guidance_scale": GUIDANCE_SCALE, "p_re": P_RE, "ni_vsds_step_sizes": STEP_SIZES}
    write_json(folder / "i4vgen.json", run.preset.described | own)


@torch.no_grad()
def shorten(network: nn.Module) -> None:
    """Rounds all parameters to `BITS` bits after the first: it looks the same, and packs better."""
    scale = 2 ** (BITS + 1)
    for parameter in network.parameters():
        mantissa, exponent = torch.frexp(parameter)
        parameter.copy_(torch.ldexp((mantissa * scale).round() / scale, exponent))


def forget_origin(path: Path) -> None:
    """Takes the path that a network was loaded from out of its configuration: a folder of this machine."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    write_json(path, config)


def calibrate(folder: Path, preset: Preset, device: str) -> dict[str, float]:
    """Mean and deviation of the reward over candidates that the model draws itself."""
    path = folder / "reward" / "calibration.json"
    write_json(path, {"mean": 0.0, "std": 1.0})
    reward = PocketReward.from_pretrained(str(folder), device=device)
    backbone = AnimateDiffBackbone.from_pretrained(str(folder), device=device)
    pipeline = I4VGenPipeline(backbone)
    scores = []
    for i, (prompt, _) in enumerate(evaluation_prompts(preset)):
        request = GenerationConfig.for_model(
            backbone.defaults, prompt=prompt, seed=CALIBRATION_SEED + i, num_candidates=8
        )
        images = [Image.fromarray(e.image) for e in pipeline.candidates(request) if isinstance(e, Candidate)]
        scores += reward.score(prompt, images)
    std, mean = torch.std_mean(torch.tensor(scores))
    calibration = {"mean": round(mean.item(), 4), "std": round(std.item(), 4)}
    write_json(path, calibration)
    return calibration


def main() -> None:
    run = parse_arguments("export", __doc__)
    assemble(run, run.model)
    if run.model == POCKET:
        shutil.copytree(run.folder / "judge", JUDGE, dirs_exist_ok=True)
    run.record("calibration", **calibrate(run.model, run.preset, str(run.device)))
    size = sum(file.stat().st_size for file in run.model.rglob("*") if file.is_file()) / 1e6
    run.record("export", megabytes=round(size, 1))


if __name__ == "__main__":
    main()
