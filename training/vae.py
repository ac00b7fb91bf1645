"""Stage 1: the autoencoder. Its encoder is a patch PCA, written in closed form; its decoder is trained.

    python -m training.vae --minutes 8

The later stages need only the encoder, which is there within a minute (`--minutes 0`), so the decoder may
be trained last.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from pocket.presets import Preset
from training.data import render_all, to_tensor
from training.loop import Run, parse_arguments, train
from training.patch_pca import PatchPCA

PCA_CLIPS = 1_500
DECODER_CLIPS = 2_500
TEST_CLIPS = 100
NOISE = 0.3  # on the decoder's latents, at most: a sampler's latents are never exact


def make_vae(preset: Preset) -> AutoencoderKL:
    levels = len(preset.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=preset.vae_channels,
        layers_per_block=1,
        latent_channels=preset.latent_channels,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
        sample_size=preset.size,
    )


def load_or_fit_pca(run: Run) -> PatchPCA:
    preset = run.preset
    pca = PatchPCA(preset.patch, preset.latent_channels)
    path = run.folder / "pca.pt"
    if path.exists():
        pca.load_state_dict(torch.load(path, weights_only=True))
    elif run.start_from is not None:
        pca.read_from(AutoencoderKL.from_pretrained(run.start_from / "vae").float())
        torch.save(pca.state_dict(), path)
    else:
        pca.fit(images_of(preset, "vae", PCA_CLIPS))
        torch.save(pca.state_dict(), path)
    return pca


def images_of(preset: Preset, split: str, clips: int) -> Tensor:
    """[2 * clips, 3, H, W] in -1..1: two frames of every clip."""
    step = preset.num_frames // 2
    return torch.cat([to_tensor(clip.frames[::step]) for clip in render_all(preset, split, clips)])


def reconstruction_loss(decoded: Tensor, images: Tensor) -> Tensor:
    """Absolute error of the pixels and of their differences: the second keeps edges sharp."""
    loss = F.l1_loss(decoded, images)
    for dim in (-1, -2):
        loss = loss + F.l1_loss(decoded.diff(dim=dim), images.diff(dim=dim))
    return loss


def psnr(decoded: Tensor, images: Tensor) -> float:
    """Decibels, for images in -1..1."""
    error = (decoded.clamp(-1, 1) - images).div(2).square().mean()
    return -10 * error.log10().item()


def main() -> None:
    run = parse_arguments("vae")
    preset = run.preset
    pca = load_or_fit_pca(run).to(run.device)
    vae = run.begin(make_vae(preset), "vae")
    pca.cpu().write_into(vae)
    vae.encoder.requires_grad_(False)
    vae.to(run.device)
    run.compile(vae.decoder)
    images = images_of(preset, "vae", DECODER_CLIPS if run.minutes else 1)
    latents = torch.cat([pca.encode(chunk) for chunk in images.split(512)])

    def loss(_step: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(images), (16,), generator=generator)
        seen = latents[index]
        strength = NOISE * torch.rand(len(seen), 1, 1, 1, generator=generator)
        seen = seen + strength * torch.randn(seen.shape, generator=generator)
        with run.autocast():
            decoded = vae.decode(seen.to(run.device)).sample
        return reconstruction_loss(decoded.float(), images[index].to(run.device))

    train(run, vae.decoder, loss, learning_rate=1e-3, ema_decay=0.995)
    run.save(vae, "vae")
    test = images_of(preset, "vae-test", TEST_CLIPS).to(run.device)
    with torch.no_grad():
        code = pca.to(run.device).encode(test)
        decoded = torch.cat([vae.decode(part).sample for part in code.split(50)])
    run.record("vae", psnr_db=psnr(decoded, test), patch_pca_psnr_db=psnr(pca.decode(code), test))


if __name__ == "__main__":
    main()
