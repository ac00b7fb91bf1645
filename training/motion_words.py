"""Stage 2b: the text encoder learns the words of motion.

    python -m training.motion_words --minutes 8

A single frame cannot tell rising from falling: nothing in stage 2 keeps the text encoder from reading the two
words alike, and then no motion module can tell them apart. AnimateDiff's text encoder knew words before; ours
learns these here. Two things are asked of it: that the UNet, which is frozen, draws what it drew before, and
that the motion can be named, by one linear map, from the features that the motion modules will be given.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from training.config import Preset
from training.data import LatentClips
from training.loop import parse_arguments, train
from training.text_to_image import make_scheduler, tokenize, velocity_error
from training.vae import load_or_fit_pca
from training.world import MOTIONS, tells

PROBE_PACE = 30.0  # how much faster than the text encoder the probe learns
NAMING = 0.03  # weight of the naming against the squared change of what is drawn


class MotionProbe(nn.Module):
    """Names the motion from the features that the motion modules will be given, by one linear map."""

    def __init__(self, unet: UNet2DConditionModel, motions: int):
        super().__init__()
        blocks = [*unet.down_blocks, *unet.up_blocks]
        self.features: list[Tensor] = []
        for layer in (layer for block in blocks for layer in getattr(block, "attentions", block.resnets)):
            layer.register_forward_hook(self._keep)
        width = sum(resnet.out_channels for block in blocks for resnet in block.resnets)
        self.name = nn.Linear(width, motions)
        nn.init.zeros_(self.name.weight)

    def _keep(self, layer: nn.Module, inputs: tuple, output: Tensor | tuple[Tensor]) -> None:
        features = output[0] if isinstance(output, tuple) else output
        self.features.append(features.float().mean((2, 3)))

    def forward(self) -> Tensor:
        """Logits [B, motions] of the UNet's last forward pass."""
        seen = torch.cat([F.layer_norm(f, f.shape[1:]) for f in self.features], dim=1)
        return PROBE_PACE * self.name(seen)


def told_motions(preset: Preset, captions: list[str], shown: list[str]) -> Tensor:
    """The motion that each caption tells of; -100, which cross-entropy ignores, if it tells of none."""
    pairs = list(zip(captions, shown, strict=True))
    told = [tells(text, MOTIONS[motion]) for text, motion in pairs]
    numbers = [preset.motions.index(motion) for motion in shown]
    return torch.tensor([number if is_told else -100 for number, is_told in zip(numbers, told, strict=True)])


def main() -> None:
    run = parse_arguments("motion_words", __doc__)
    preset, device = run.preset, run.device
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(run.folder / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(run.folder / "text_encoder").float().to(device)
    teacher = copy.deepcopy(text_encoder).requires_grad_(False)
    unet = UNet2DConditionModel.from_pretrained(run.folder / "unet").to(device).requires_grad_(False)
    probe = MotionProbe(unet, len(preset.motions)).to(device)
    scheduler = make_scheduler()
    clips = LatentClips.load_or_draw(run.folder / "latents.pt", preset, load_or_fit_pca(run))

    def loss(step: int, generator: torch.Generator) -> Tensor:
        batch = preset.batch_images // 2
        index = torch.randint(len(clips), (batch,), generator=generator)
        frame = torch.randint(preset.num_frames, (batch,), generator=generator)
        latents = clips.latents[index, frame].float().to(device)
        captions = clips.captions(np.random.default_rng(step), index)
        timesteps = torch.randint(1000, (batch,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        ids = tokenize(tokenizer, captions).to(device)
        with run.autocast():
            with torch.no_grad():
                before = unet(noisy, timesteps.to(device), teacher(ids).last_hidden_state).sample
            probe.features.clear()
            after = unet(noisy, timesteps.to(device), text_encoder(ids).last_hidden_state).sample
        motions = told_motions(preset, captions, [clips.labels[i][2] for i in index.tolist()])
        naming = F.cross_entropy(probe(), motions.to(device))
        change = velocity_error(after, before, timesteps.to(device), scheduler).mean()
        return change + NAMING * naming

    train(run, nn.ModuleList([text_encoder, probe]), loss, learning_rate=3e-4, ema_decay=0.99)
    text_encoder.save_pretrained(run.folder / "text_encoder")


if __name__ == "__main__":
    main()
