"""Stage 2: text-to-image latent diffusion on single frames, UNet and text encoder together.

python -m training.text_to_image --minutes 60
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.config import Preset
from training.data import LatentClips
from training.loop import parse_arguments, train
from training.tokenizer import load_or_make_tokenizer
from training.vae import load_or_fit_pca

CAPTION_DROPOUT = 0.1  # how often the caption is left empty, for classifier-free guidance


def make_unet(preset: Preset) -> UNet2DConditionModel:
    kinds = [("CrossAttn" if has_text else "") for has_text in preset.cross_attention]
    return UNet2DConditionModel(
        sample_size=preset.size // preset.patch,
        in_channels=preset.latent_channels,
        out_channels=preset.latent_channels,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        block_out_channels=preset.unet_channels,
        layers_per_block=1,
        cross_attention_dim=preset.text_width,
        attention_head_dim=preset.attention_heads,  # diffusers' historic name for the number of heads
        norm_num_groups=16,
    )


def make_text_encoder(preset: Preset, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=preset.text_width,
        intermediate_size=4 * preset.text_width,
        num_hidden_layers=preset.text_layers,
        num_attention_heads=preset.attention_heads,
        max_position_embeddings=preset.max_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def make_scheduler() -> DDIMScheduler:
    """AnimateDiff's schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="leading",
    )


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    return tokenizer(
        captions,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def dropped(captions: list[str], generator: torch.Generator) -> list[str]:
    keep = torch.rand(len(captions), generator=generator) >= CAPTION_DROPOUT
    return [caption if kept else "" for caption, kept in zip(captions, keep.tolist(), strict=True)]


def noise_loss(predicted: Tensor, noise: Tensor, timesteps: Tensor, scheduler: DDIMScheduler) -> Tensor:
    """Squared error weighted by min(SNR, 5) / SNR (Hang et al. 2023): nearly clean samples must not
    dominate.
    """
    alpha = scheduler.alphas_cumprod.to(noise.device)[timesteps]
    snr = alpha / (1 - alpha)
    weight = snr.clamp(max=5) / snr
    error = F.mse_loss(predicted.float(), noise, reduction="none").flatten(1).mean(1)
    return (weight * error).mean()


def velocity_error(predicted: Tensor, noise: Tensor, timesteps: Tensor, scheduler: DDIMScheduler) -> Tensor:
    """Mean squared error of the velocity (Salimans and Ho 2022), [B]: that of the noise, divided by alpha_bar.

    Where almost everything is noise, the whole picture hides in a small error of it; this one sees it.
    """
    alpha = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    return F.mse_loss(predicted.float(), noise.float(), reduction="none").flatten(1).mean(1) / alpha


def main() -> None:
    run = parse_arguments("text_to_image", __doc__)
    preset, device = run.preset, run.device
    torch.manual_seed(0)
    tokenizer = load_or_make_tokenizer(run)
    text_encoder = run.begin(make_text_encoder(preset, tokenizer), "text_encoder")
    unet = run.begin(make_unet(preset), "unet")
    model = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}).to(device).train()
    scheduler = make_scheduler()
    clips = LatentClips.load_or_draw(run.folder / "latents.pt", preset, load_or_fit_pca(run))

    def loss(step: int, generator: torch.Generator) -> Tensor:
        batch = preset.batch_images
        index = torch.randint(len(clips), (batch,), generator=generator)
        frame = torch.randint(preset.num_frames, (batch,), generator=generator)
        latents = clips.latents[index, frame].float().to(device)
        captions = dropped(clips.captions(np.random.default_rng(step), index), generator)
        timesteps = torch.randint(1000, (batch,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with run.autocast():
            prompt_embeds = text_encoder(tokenize(tokenizer, captions).to(device)).last_hidden_state
            predicted = unet(noisy, timesteps.to(device), prompt_embeds).sample
        return noise_loss(predicted, noise, timesteps.to(device), scheduler)

    train(run, model, loss, learning_rate=8e-4, ema_decay=0.9985)
    unet.save_pretrained(run.folder / "unet")
    text_encoder.save_pretrained(run.folder / "text_encoder")
    scheduler.save_pretrained(run.folder / "scheduler")


if __name__ == "__main__":
    main()
