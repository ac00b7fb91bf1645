"""Stage 2: text-to-image latent diffusion on single frames, UNet and text encoder together.

    python -m training.text_to_image --minutes 60

Two things are asked of it beyond the noise of single frames. What it begins to draw where there is noise alone,
as every sampler begins: see `means.py`. And that the features that the motion modules will be given tell which
motion the caption names: a single frame hardly tells rising from falling, so nothing else keeps the text
encoder from reading the two words alike, and then no motion module could tell them apart. AnimateDiff's text
encoder knew words before.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pocket.presets import Preset
from pocket.world import MOTIONS, Shown, tells
from training.data import LatentClips
from training.loop import parse_arguments, train
from training.means import MeanClips
from training.tokenizer import begin_reading, load_or_make_tokenizer
from training.vae import load_or_fit_pca

BLIND_SHARE = 8  # one picture in so many is to be begun from noise alone
PROBE_PACE = 30.0  # how much faster than the networks the probe learns
NAMING = 0.03  # weight of the naming of motions
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


def make_scheduler(preset: Preset) -> DDIMScheduler:
    """AnimateDiff's schedule, but for where it ends: shifted with the resolution (arXiv 2301.11093)."""
    return DDIMScheduler(
        num_train_timesteps=preset.timesteps,
        beta_start=0.00085,
        beta_end=preset.beta_end,
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


def blind_error(predicted: Tensor, noise: Tensor, mean: Tensor, timesteps: Tensor, scheduler) -> Tensor:
    """Error of the velocity where the latents are noise alone and the clean ones are expected to be `mean`;
    whatever the shape, `timesteps` belong to its first dimension.
    """
    alpha = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    alpha = alpha.view(-1, *[1] * (predicted.dim() - 1))
    wanted = (noise - alpha.sqrt() * mean) / (1 - alpha).sqrt()
    return (predicted.float() - wanted) / alpha.sqrt()


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
        self.features.clear()
        return PROBE_PACE * self.name(seen)


def told_motions(preset: Preset, captions: list[str], shown: list[Shown]) -> Tensor:
    """The motion that each caption tells of; -100, which cross-entropy ignores, if it tells of none."""
    pairs = list(zip(captions, (names.motion for names in shown), strict=True))
    return torch.tensor(
        [preset.motions.index(motion) if tells(text, MOTIONS[motion]) else -100 for text, motion in pairs]
    )


def main() -> None:
    run = parse_arguments("text_to_image", __doc__)
    preset, device = run.preset, run.device
    torch.manual_seed(0)
    tokenizer = load_or_make_tokenizer(run)
    text_encoder = begin_reading(run, make_text_encoder(preset, tokenizer), "text_encoder", tokenizer)
    unet = run.begin(make_unet(preset), "unet")
    probe = MotionProbe(unet, len(preset.motions))
    model = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder, "probe": probe}).to(device).train()
    run.compile(unet)
    scheduler = make_scheduler(preset)
    pca = load_or_fit_pca(run)
    clips = LatentClips.load_or_draw(run.folder / "latents.pt", preset, pca, device)
    means = MeanClips.load_or_draw(run.folder / "means.pt", preset, pca, device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        batch = preset.batch_images
        index = torch.randint(len(clips), (batch,), generator=generator)
        frame = torch.randint(preset.num_frames, (batch,), generator=generator)
        latents = clips.latents[index, frame].float()
        shown = [clips.shown[i] for i in index.tolist()]
        captions = dropped(clips.captions(np.random.default_rng(step), index), generator)
        timesteps = torch.randint(preset.timesteps, (batch,), generator=generator)
        blind = batch // BLIND_SHARE
        timesteps[:blind] = torch.randint(preset.blind_from, preset.timesteps, (blind,), generator=generator)
        timesteps = timesteps.to(device)
        noise = torch.randn_like(latents)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        noisy[:blind] = noise[:blind]
        mean = [means.of(names, text).mean(0) for names, text in zip(shown[:blind], captions, strict=False)]

        with run.autocast():
            prompt_embeds = text_encoder(tokenize(tokenizer, captions).to(device)).last_hidden_state
            predicted = unet(noisy, timesteps, prompt_embeds).sample
        seen = noise_loss(predicted[blind:], noise[blind:], timesteps[blind:], scheduler)
        unseen = blind_error(predicted[:blind], noise[:blind], torch.stack(mean), timesteps[:blind], scheduler)
        naming = F.cross_entropy(probe(), told_motions(preset, captions, shown).to(device))
        return seen + unseen.square().mean() / BLIND_SHARE + NAMING * naming

    train(run, model, loss, learning_rate=8e-4, ema_decay=0.9985)
    run.save(unet, "unet")
    run.save(text_encoder, "text_encoder")
    scheduler.save_pretrained(run.folder / "scheduler")


if __name__ == "__main__":
    main()
