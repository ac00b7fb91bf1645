"""Runs what `flow.py` trains: the package's Wan, on the pocket model's latents and text encoder.

The package itself knows nothing of it; `register` makes such a model one that a `Runtime` runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from diffusers import AutoencoderKL, WanTransformer3DModel
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKLOutput
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen.backbones import own_settings, wan
from i4vgen.backbones.base import Backbone
from i4vgen.backbones.memory import Memory
from i4vgen.backbones.samplers import flow_schedule
from i4vgen.config import Defaults
from i4vgen.models import catalog
from i4vgen.weights import hub
from training.flow import PIPELINE
from training.text_to_image import tokenize


def register() -> None:
    """Lets the catalogue find who runs a folder that `flow.py` wrote."""
    catalog.FAMILIES[PIPELINE] = f"{__name__}:{PocketFlowBackbone.__name__}"


class FrameVAE(AutoencoderKL):
    """A VAE of images as Wan's are called, with videos [B, 3, F, H, W]: every frame is coded by itself."""

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput:
        parameters = super().encode(_as_images(x)).latent_dist.parameters
        return AutoencoderKLOutput(DiagonalGaussianDistribution(_as_videos(parameters, len(x))))

    def decode(self, z: Tensor, return_dict: bool = True, generator: object = None) -> DecoderOutput:
        return DecoderOutput(_as_videos(super().decode(_as_images(z)).sample, len(z)))


class PocketFlowBackbone(wan.WanBackbone):
    half = torch.float16

    @classmethod
    def from_pretrained(
        cls, model: str, device: str = "cpu", dtype: torch.dtype | None = None, memory: Memory | None = None
    ) -> PocketFlowBackbone:
        dtype = dtype or hub.default_dtype(device, cls.half)
        return cls(
            hub.load(WanTransformer3DModel, model, "transformer", dtype),
            flow_schedule(hub.read_json(model, "scheduler/scheduler_config.json") or {}),
            hub.load(FrameVAE, model, "vae", torch.float32),
            cls.read_defaults(model),
            hub.load(CLIPTextModel, model, "text_encoder", dtype),
            cls.read_tokenizer(model),
            step_sizes=own_settings.step_sizes(model),
            device=device,
            memory=memory,
        )

    @staticmethod
    def read_defaults(model: str) -> Defaults:
        vae = own_settings.read_config(model, "vae")
        patch = own_settings.read_config(model, "transformer")["patch_size"][1]
        multiple = patch * 2 ** (len(vae["block_out_channels"]) - 1)
        given = {"frames_per_latent": 1, "size_multiple": multiple, "num_inference_steps": 25}
        given |= {"candidate_batch_size": 16, "negative_prompt": ""}
        return own_settings.override(replace(wan.DEFAULTS, **given), model)

    @staticmethod
    def read_tokenizer(model: str) -> CLIPTokenizer:
        return hub.load_tokenizer(CLIPTokenizer, model, "tokenizer")

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        compression = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        return self.transformer.config["in_channels"], height // compression, width // compression

    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        encoder = self.text_encoder.to(self.device)
        return encoder(tokenize(self.tokenizer, list(texts)).to(self.device)).last_hidden_state

    still_video = Backbone.still_video  # no frame's latents depend on another frame


def _as_images(videos: Tensor) -> Tensor:
    return videos.transpose(1, 2).flatten(0, 1)


def _as_videos(images: Tensor, count: int) -> Tensor:
    return images.unflatten(0, (count, -1)).transpose(1, 2)
