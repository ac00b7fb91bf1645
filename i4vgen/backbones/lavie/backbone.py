"""The LaVie backbone: LaVie's checkpoint and schedule, with Stable Diffusion's text encoder and VAE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen.backbones import own_settings
from i4vgen.backbones.lavie.network import FURTHEST, LaVieUNet
from i4vgen.backbones.memory import Memory
from i4vgen.backbones.samplers import DiffusersSampler
from i4vgen.backbones.stable_diffusion import StableDiffusionBackbone
from i4vgen.config import Defaults
from i4vgen.errors import ModelError
from i4vgen.weights import checkpoints, hub

MODEL = "Vchitect/LaVie"
BASE = "CompVis/stable-diffusion-v1-4"
CHECKPOINT = "lavie_base.pt"
LATENT_CHANNELS = 4
REMEDY = f"download it (3.64 GB) from https://huggingface.co/{MODEL}"

# LaVie's betas, with the other settings of Stable Diffusion's scheduler.
SCHEDULE = {
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

DEFAULTS = Defaults(
    height=320,
    width=512,
    num_inference_steps=50,
    guidance_scale=7.0,
    p_re=0.8,
    max_frames=FURTHEST,
    sampler="ddpm",
    samplers=("ddpm", "ddim", "dpm++"),
)


class LaVieBackbone(StableDiffusionBackbone):
    """LaVie's base model with the text encoder and VAE of Stable Diffusion 1.4."""

    unet: LaVieUNet

    @classmethod
    def from_pretrained(
        cls,
        model: str = MODEL,
        base: str = BASE,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        memory: Memory | None = None,
        vae: str | None = None,
    ) -> LaVieBackbone:
        """Loads the authors' checkpoint.

        Args:
            model: A folder or hub id with lavie_base.pt.
            base: A folder or hub id with vae/, text_encoder/ and tokenizer/.
            device: The device to run on.
            dtype: The dtype of the networks; None means float16 on CUDA and float32 elsewhere.
            memory: The memory mode; None chooses one by the device's free memory.
            vae: A folder, hub id or file; None uses the vae/ of `base`.

        Raises:
            ModelError: A part is missing or damaged, or the parts do not fit together.
        """
        defaults = cls.read_defaults(model, base, vae)
        dtype = dtype or hub.default_dtype(device)
        text_encoder = hub.load(CLIPTextModel, base, "text_encoder", dtype)
        place, subfolder = own_settings.vae_place(base, vae)
        autoencoder = hub.load_vae(place, dtype, subfolder=subfolder)
        unet = _load_unet(model)
        sizes = unet.config["in_channels"], unet.config["cross_attention_dim"]
        base_sizes = autoencoder.config["latent_channels"], text_encoder.config.hidden_size
        if sizes != base_sizes:
            raise ModelError(
                f"{CHECKPOINT} of {model} needs latents of {sizes[0]} channels and text of {sizes[1]}, but"
                f" {base} has {base_sizes[0]} and {base_sizes[1]}: use {BASE} with it"
            )
        nn.Module.to(unet, dtype)  # diffusers' `to` warns about casts
        return cls(
            unet,
            DDIMScheduler(**SCHEDULE),
            defaults,
            autoencoder,
            text_encoder,
            cls.read_tokenizer(base),
            device=device,
            memory=memory,
        )

    @staticmethod
    def read_defaults(model: str = MODEL, base: str = BASE, vae: str | None = None) -> Defaults:
        """Returns the authors' settings, with the size multiple that the VAE requires."""
        if Path(model).is_dir():
            hub.required_file(model, CHECKPOINT, REMEDY)
        else:
            hub.split(model)  # checks the id; loading downloads the checkpoint
        config = own_settings.read_vae_config(base, vae, LATENT_CHANNELS)
        return replace(DEFAULTS, size_multiple=2 ** (len(config["block_out_channels"]) - 1))

    @staticmethod
    def read_tokenizer(base: str = BASE, **_: str) -> CLIPTokenizer:
        return hub.load_tokenizer(CLIPTokenizer, base, "tokenizer")

    def sampler(
        self, name: str, num_inference_steps: int, last: int | None = None, starts_from_video: bool = False
    ) -> DiffusersSampler:
        schedule = dict(self.schedule)
        if name == "ddpm":
            # The authors' diffusers (0.16) applies the offset only to DDIM. With it, DDPM's last step would
            # add noise.
            schedule["steps_offset"] = 0
        return DiffusersSampler(name, schedule, num_inference_steps, last)

    def call_unet(self, latents: Tensor, timestep: Tensor, embeds: Tensor, anchor: Tensor | None) -> Tensor:
        return self.unet(latents, timestep, embeds)


def _load_unet(model: str) -> LaVieUNet:
    """Loads the network on the CPU, memory-mapped and in the precision of the file.

    Raises:
        ModelError: The checkpoint is missing, damaged or not LaVie's base model.
    """
    file = hub.required_file(model, CHECKPOINT, REMEDY)
    weights = checkpoints.read(file, f"{REMEDY} again", "ema")
    try:
        return LaVieUNet.from_weights(weights)
    except ValueError as error:
        raise ModelError(f"{file} is not LaVie's base model ({error}): {REMEDY} again") from error
