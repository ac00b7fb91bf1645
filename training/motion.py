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
from pocket.presets import Preset
from pocket.world import KINDS, MOVING_TEMPLATES, Shown, caption
from training.data import LatentClips
from training.loop import parse_arguments, train
from training.means import MeanClips
from training.text_to_image import blind_error, dropped, make_scheduler, tokenize, velocity_error
from training.vae import load_or_fit_pca

MOTION_WEIGHT = 20.0  # of what the motion changes in a scene, against what all its motions share


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


def velocity_loss(predicted: Tensor, noise: Tensor, timesteps: Tensor, scheduler: DDIMScheduler) -> Tensor:
    """Error of the velocity, weighted by min(SNR, 5) / SNR as the images' loss is.

    Where something goes is decided while there is almost nothing but noise. Counted in noise, as images are
    learned, a wrong way costs nothing there: it is less than what the noise lets show through by accident, and
    the model follows the accident, not the prompt.
    """
    alpha = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alpha / (1 - alpha)
    return (snr.clamp(max=5) / snr * velocity_error(predicted, noise, timesteps, scheduler)).mean()


def draw_scene(rng: np.random.Generator, preset: Preset, motions: int) -> list[tuple[Shown, str]]:
    """Clips of one scene and their captions, which differ in the motion alone."""
    kind, setting = str(rng.choice(preset.kinds)), str(rng.choice(preset.settings))
    member = str(rng.choice(list(KINDS[kind])))
    wording = rng.integers(2**32)
    scene = [
        Shown(kind, member, setting, str(motion))
        for motion in rng.choice(preset.motions, motions, replace=False)
    ]
    return [(shown, caption(np.random.default_rng(wording), shown, MOVING_TEMPLATES)) for shown in scene]


def blind_loss(
    predicted: Tensor, noise: Tensor, means: Tensor, timesteps: Tensor, scheduler: DDIMScheduler
) -> Tensor:
    """`blind_error` of scenes that begin from noise alone. All [S, M, C, F, h, w]; timesteps [S].

    All motions of a scene begin from the same noise, so that what differs between their answers is due to the
    word; that part of the error counts most.
    """
    error = blind_error(predicted, noise, means, timesteps, scheduler)
    shared = error.mean(1, keepdim=True)
    return (shared.square().mean() + MOTION_WEIGHT * (error - shared).square().mean()) / 2


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
    run.compile(unet)
    scheduler = make_scheduler(preset)
    pca = load_or_fit_pca(run)
    clips = LatentClips.load_or_draw(run.folder / "latents.pt", preset, pca, device)
    means = MeanClips.load_or_draw(run.folder / "means.pt", preset, pca, device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(step)
        index = torch.randint(len(clips), (preset.batch_clips,), generator=generator)
        latents = clips.latents[index].float().movedim(2, 1)  # [B, C, F, h, w]
        captions = dropped(clips.captions(rng, index), generator)
        timesteps = torch.randint(preset.timesteps, (len(latents),), generator=generator).to(device)
        noise = torch.randn_like(latents)
        noisy = scheduler.add_noise(latents, noise, timesteps)

        scenes = [draw_scene(rng, preset, preset.scene_motions) for _ in range(preset.batch_scenes)]
        captions += [text for scene in scenes for _, text in scene]
        mean = torch.stack([torch.stack([means.of(*told) for told in scene]) for scene in scenes])
        mean = mean.movedim(3, 2)  # [S, M, C, F, h, w]
        first = torch.randint(preset.blind_from, preset.timesteps, (len(mean),), generator=generator).to(device)
        blind = torch.randn_like(mean[:, :1]).expand_as(mean)

        with run.autocast():
            with torch.no_grad():
                prompt_embeds = text_encoder(tokenize(tokenizer, captions).to(device)).last_hidden_state
                # The UNet folds frames into its batch and wants the caption once for each.
                prompt_embeds = prompt_embeds.repeat_interleave(preset.num_frames, dim=0)
            at = torch.cat([timesteps, first.repeat_interleave(mean.shape[1])])
            predicted = unet(torch.cat([noisy, blind.flatten(0, 1)]), at, prompt_embeds).sample
        of_clips, of_scenes = predicted.split([len(latents), len(predicted) - len(latents)])
        of_scenes = of_scenes.unflatten(0, mean.shape[:2])
        return velocity_loss(of_clips, noise, timesteps, scheduler) + blind_loss(
            of_scenes, blind, mean, first, scheduler
        )

    train(run, unet, loss, learning_rate=1e-3, ema_decay=0.998)
    unet.to(memory_format=torch.contiguous_format).save_motion_modules(run.folder / "motion_adapter")


if __name__ == "__main__":
    main()
