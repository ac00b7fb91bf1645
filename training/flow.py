"""A flow model in small: Wan's transformer (arXiv 2503.20314) on the pocket model's world and latents.

    python -m training.flow --preset flow --minutes 8

Rectified flow: the transformer learns the velocity noise - clean on the straight line between the two, of
single frames and of clips jointly. Words are read by the pocket model's text encoder, which stays as it is.
What a sampler begins with is noise alone: there the answer is the mean of what the caption fits (`means.py`).

Every call goes on from the last one's checkpoint and ends with a model that can be run: RUN/pocket-flow.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UniPCMultistepScheduler, WanTransformer3DModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from pocket.presets import POCKET, Preset
from training.data import LatentClips
from training.loop import Run, parse_arguments, train, write_json
from training.means import MeanClips
from training.text_to_image import dropped, tokenize
from training.vae import load_or_fit_pca

PIPELINE = "PocketFlowPipeline"  # what the model's model_index.json says it is
FLOW_SHIFT = 0.5  # towards less noise, in which 12 x 12 latents drown earlier than 64 x 64
BLIND_SHARE = 8  # one picture or clip in so many is to be begun from noise alone
GUIDANCE_SCALE = 4.0


def make_transformer(preset: Preset) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        num_attention_heads=preset.flow_heads,
        attention_head_dim=preset.flow_head_width,
        in_channels=preset.latent_channels,
        out_channels=preset.latent_channels,
        text_dim=preset.text_width,
        ffn_dim=3 * preset.flow_heads * preset.flow_head_width,
        num_layers=preset.flow_layers,
        rope_max_seq_len=64,
    )


def make_schedule() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT
    )


class Examples:
    """Clean latents with mean 0 and variance 1 in every channel, and their captions.

    mean, std: of the channels, [C].
    """

    def __init__(self, clips: LatentClips, means: MeanClips):
        self.clips = clips
        self.means = means
        some = clips.latents[:: max(1, len(clips) // 500)].float()
        self.std, self.mean = torch.std_mean(some, dim=(0, 1, 3, 4))

    def draw(
        self, count: int, num_frames: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, list[str]]:
        """Latents [B, C, F, h, w], amounts of noise [B] and captions. num_frames: 1, or all.

        No signal is left of the first few, of none at times in a small batch: their latents are the means of
        what their captions fit.
        """
        index = torch.randint(len(self.clips), (count,), generator=generator)
        latents = self.clips.latents[index]
        if num_frames == 1:
            frame = torch.randint(latents.shape[1], (count,), generator=generator)
            latents = latents[torch.arange(count), frame, None]
        latents = latents.float()
        captions = dropped(self.clips.captions(rng, index), generator)
        sigmas = torch.rand(count, generator=generator)
        blind = count / BLIND_SHARE + torch.rand((), generator=generator).item()
        for i in range(int(blind)):
            mean = self.means.of(self.clips.shown[index[i]], captions[i])
            latents[i] = mean.mean(0) if num_frames == 1 else mean
            sigmas[i] = 1
        mean, std = (each.view(-1, 1, 1) for each in (self.mean, self.std))
        return ((latents - mean) / std).movedim(1, 2), sigmas, captions


def export(run: Run, transformer: WanTransformer3DModel, examples: Examples) -> Path:
    """Writes a model that `PocketFlowBackbone` runs: what is not learned here is the pocket model's."""
    folder = run.folder / "pocket-flow"
    for name in ("text_encoder", "tokenizer", "reward"):
        shutil.copytree(POCKET / name, folder / name, dirs_exist_ok=True)
    vae = AutoencoderKL.from_pretrained(POCKET / "vae")
    vae.register_to_config(latents_mean=examples.mean.tolist(), latents_std=examples.std.tolist())
    vae.save_pretrained(folder / "vae")
    make_schedule().save_pretrained(folder / "scheduler")
    half = make_transformer(run.preset)
    half.load_state_dict(transformer.state_dict())
    half.half().save_pretrained(folder / "transformer")
    write_json(folder / "model_index.json", {"_class_name": PIPELINE})
    write_json(folder / "i4vgen.json", run.preset.described | {"guidance_scale": GUIDANCE_SCALE})
    return folder


def main() -> None:
    run = parse_arguments("flow", __doc__)
    preset, device = run.preset, run.device
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(POCKET / "text_encoder").float().to(device)
    text_encoder.requires_grad_(False)
    transformer = make_transformer(preset).to(device).train()
    pca = load_or_fit_pca(replace(run, start_from=POCKET))
    clips = LatentClips.load_or_draw(run.folder / "latents.pt", preset, pca, device)
    examples = Examples(clips, MeanClips.load_or_draw(run.folder / "means.pt", preset, pca, device))
    # Errors count as in the VAE's latents, in which a channel varies as much as it shows of the picture.
    shares = examples.std.square().view(-1, 1, 1, 1)

    def error(clean: Tensor, sigmas: Tensor, captions: list[str]) -> Tensor:
        sigmas = sigmas.to(device)
        noise, amount = torch.randn_like(clean), sigmas.view(-1, 1, 1, 1, 1)
        noisy = (1 - amount) * clean + amount * noise
        with run.autocast():
            with torch.no_grad():
                prompt_embeds = text_encoder(tokenize(tokenizer, captions).to(device)).last_hidden_state
            velocity = transformer(noisy, 1000 * sigmas, prompt_embeds).sample
        return (shares * (velocity.float() - (noise - clean)).square()).mean()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(step)
        images = error(*examples.draw(preset.batch_images, 1, rng, generator))
        if step < preset.images_first:
            return images
        return images + error(*examples.draw(preset.batch_clips, preset.num_frames, rng, generator))

    train(run, transformer, loss, learning_rate=1e-3, ema_decay=0.998)
    print(f"wrote {export(run, transformer, examples)}")


if __name__ == "__main__":
    main()
