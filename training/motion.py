"""Stage 3, AnimateDiff's own: the UNet is frozen, motion modules are inserted and trained on clips.

python -m training.motion --minutes 40
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen.backbones.animatediff import adopt_motion_modules
from training.config import Preset
from training.data import LatentClips
from training.loop import parse_arguments, train
from training.text_to_image import dropped, make_scheduler, tokenize, velocity_error
from training.vae import load_or_fit_pca

BLIND = 0.5  # share of the clips of which nothing is shown
FIRST = 940  # samplers of 16 steps and more begin above this timestep


def make_motion_adapter(preset: Preset) -> MotionAdapter:
    return MotionAdapter(
        block_out_channels=preset.unet_channels,
        motion_layers_per_block=1,
        motion_num_attention_heads=preset.attention_heads,
        motion_norm_num_groups=16,
        motion_max_seq_length=preset.num_frames,
        use_motion_mid_block=False,
    )


def start_as_identity(adapter: MotionAdapter) -> None:
    """Zero output projections: the untrained video model draws exactly the images that it drew before."""
    for name, module in adapter.named_modules():
        if name.endswith("proj_out"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def begin(
    latents: Tensor, noise: Tensor, timesteps: Tensor, blind: Tensor, scheduler: DDIMScheduler
) -> tuple[Tensor, Tensor]:
    """Noisy latents and the noise that is to be seen in them.

    A sampler begins with noise alone, but the schedule leaves a trace of the picture at its noisiest: enough to
    tell which way something goes, so that a model trained on it looks for that trace and does not listen to the
    prompt. Where `blind` is true, the latents are noise alone, and all that is not the picture is the noise.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    alpha = scheduler.alphas_cumprod.to(latents.device)[timesteps].view(-1, 1, 1, 1, 1)
    blind = blind.view(-1, 1, 1, 1, 1).to(latents.device)
    seen = (noise - alpha.sqrt() * latents) / (1 - alpha).sqrt()
    return torch.where(blind, noise, noisy), torch.where(blind, seen, noise)


def velocity_loss(predicted: Tensor, noise: Tensor, timesteps: Tensor, scheduler: DDIMScheduler) -> Tensor:
    """Error of the velocity, weighted by min(SNR, 5) / SNR as the images' loss is.

    Where something goes is decided while there is almost nothing but noise. Counted in noise, as images are
    learned, a wrong way costs nothing there: it is less than what the noise lets show through by accident, and
    the model follows the accident, not the prompt.
    """
    alpha = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alpha / (1 - alpha)
    return (snr.clamp(max=5) / snr * velocity_error(predicted, noise, timesteps, scheduler)).mean()


def main() -> None:
    run = parse_arguments("motion", __doc__)
    preset, device = run.preset, run.device
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(run.folder / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(run.folder / "text_encoder").float().to(device)
    text_encoder.requires_grad_(False)
    adapter = make_motion_adapter(preset)
    start_as_identity(adapter)
    run.begin(adapter, "motion_adapter")
    unet = UNetMotionModel.from_unet2d(UNet2DConditionModel.from_pretrained(run.folder / "unet"), adapter)
    adopt_motion_modules(unet)
    unet.freeze_unet2d_params()
    unet.to(device).train()
    scheduler = make_scheduler()
    clips = LatentClips.load_or_draw(run.folder / "latents.pt", preset, load_or_fit_pca(run))

    def loss(step: int, generator: torch.Generator) -> Tensor:
        batch = preset.batch_clips
        index = torch.randint(len(clips), (batch,), generator=generator)
        latents = clips.latents[index].float().movedim(2, 1).to(device)  # [B, C, F, h, w]
        captions = dropped(clips.captions(np.random.default_rng(step), index), generator)
        timesteps = torch.randint(1000, (batch,), generator=generator)
        blind = torch.rand(batch, generator=generator) < BLIND
        timesteps[blind] = torch.randint(FIRST, 1000, (int(blind.sum()),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        noisy, noise = begin(latents, noise, timesteps, blind, scheduler)
        with run.autocast():
            with torch.no_grad():
                prompt_embeds = text_encoder(tokenize(tokenizer, captions).to(device)).last_hidden_state
                # The UNet folds frames into its batch and wants the caption once for each.
                prompt_embeds = prompt_embeds.repeat_interleave(preset.num_frames, dim=0)
            predicted = unet(noisy, timesteps.to(device), prompt_embeds).sample
        return velocity_loss(predicted, noise, timesteps.to(device), scheduler)

    train(run, unet, loss, learning_rate=1e-3, ema_decay=0.998)
    unet.save_motion_modules(run.folder / "motion_adapter")


if __name__ == "__main__":
    main()
