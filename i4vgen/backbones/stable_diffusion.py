"""What the video models on top of Stable Diffusion share: its text encoder, its VAE, a table of
noise levels, classifier-free guidance. What they do not share is how their network is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, ModelMixin
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen.backbones.base import Backbone
from i4vgen.backbones.guidance import guide
from i4vgen.backbones.memory import Memory, PlacedNetworks, choose_memory, leaner_when_full
from i4vgen.backbones.prediction import PREDICTIONS, NoiseLevel, Prediction
from i4vgen.backbones.samplers import DiffusersSampler, noise_levels
from i4vgen.generation_config import Defaults

T = TypeVar("T")

# VAE decoding takes a lot of memory per pixel: this many pixels at once (4 frames of 512 x 512).
PIXELS_AT_ONCE = 2**20


@dataclass(frozen=True)
class PromptEmbeds:
    """An encoded prompt and negative prompt, [1, tokens, D] each.

    anchor: latents [1, C, 1, h, w] that an image-to-video model shows first; None elsewhere.
    """

    prompt: torch.Tensor
    negative: torch.Tensor
    anchor: torch.Tensor | None = None


class StableDiffusionBackbone(PlacedNetworks, Backbone):
    """Implements `Backbone`, where the methods are described, but for how it is loaded. A subclass has
    `from_pretrained`, `read_defaults` and `call_unet`.
    """

    memory_format = torch.channels_last  # on a GPU convolutions are faster like that

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: DDIMScheduler,
        defaults: Defaults,
        vae: AutoencoderKL | None = None,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        step_sizes: Sequence[float] = (1.0,),
        device: str | torch.device = "cpu",
        memory: Memory | None = None,
    ):
        """scheduler: of the schedule that the network was trained under. vae, text_encoder, tokenizer: needed
        to encode and decode. step_sizes: of the NI-VSDS steps; the last one holds for all further
        ones. device: where the networks are to run. memory: None decides by what is free there.
        """
        self.unet = unet
        self.schedule = scheduler.config
        self.defaults = defaults
        self.vae = vae
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.step_sizes = tuple(step_sizes)
        self.device = torch.device(device)
        self._prediction = PREDICTIONS[self.schedule.get("prediction_type", "epsilon")]
        self._levels = noise_levels(scheduler)
        self.noisiest = self._levels[-1]
        self.set_memory(memory or choose_memory(self.device, self.networks))

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def networks(self) -> list[nn.Module]:
        return [network for network in (self.text_encoder, self.unet, self.vae) if network is not None]

    def compile(self) -> None:
        """Compiles the network for the shapes that it will see; each takes a while at its first step."""
        self.unet.compile(dynamic=False)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        multiple = self.defaults.size_multiple
        return self.unet.config["in_channels"], height // multiple, width // multiple

    @leaner_when_full
    @torch.inference_mode()
    def encode_prompt(self, prompt: str, negative_prompt: str) -> PromptEmbeds:
        tokenizer, text_encoder = needed(self.tokenizer), needed(self.text_encoder)
        tokens = tokenizer(
            [prompt, negative_prompt],
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        embeds = text_encoder(tokens.input_ids.to(self.device))[0].to(self.dtype)
        return PromptEmbeds(embeds[:1], embeds[1:])

    def level(self, t: int) -> NoiseLevel:
        """The noise level at timestep t."""
        return self._levels[t]

    def sampler(
        self,
        name: str,
        num_inference_steps: int,
        last: int | None = None,
        noised: bool = False,  # or not: every level of the table leaves a trace of a video
    ) -> DiffusersSampler:
        return DiffusersSampler(name, self.schedule, num_inference_steps, last)

    @leaner_when_full
    @torch.inference_mode()
    def predict(
        self, latents: torch.Tensor, level: NoiseLevel, prompt_embeds: PromptEmbeds, guidance_scale: float
    ) -> Prediction:
        # Filled in on the device: a number sent there by a copy would wait for everything queued there.
        timestep = torch.full((), level.timestep, device=self.device)
        output = guide(
            lambda part, embeds: self.call_unet(part, timestep, embeds, prompt_embeds.anchor),
            latents.to(self.dtype),
            prompt_embeds.prompt.to(self.dtype),
            prompt_embeds.negative.to(self.dtype),
            guidance_scale,
            at_once=None if self.memory is Memory.FULL else 1,
        )
        return self._prediction(level, latents, output)

    def call_unet(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        embeds: torch.Tensor,
        anchor: torch.Tensor | None,
    ) -> torch.Tensor:
        """The network's output for latents [B, C, F, h, w] at a timestep (no dimensions, on the device).

        embeds: [B, tokens, D]. anchor: as in `PromptEmbeds`; to be ignored for single images.
        """
        raise NotImplementedError

    def ni_vsds_step_size(self, index: int) -> float:
        return self.step_sizes[min(index, len(self.step_sizes) - 1)]

    @leaner_when_full
    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(self.device)
        vae = self._needed_vae()
        pixels = (pixels.float() / 127.5 - 1).to(vae.dtype)
        latents = vae.encode(pixels).latent_dist.mode().float()
        shift, scale = self._latent_statistics()
        return ((latents - shift) * scale).unsqueeze(2)

    @leaner_when_full
    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        batch, channels, num_frames, height, width = latents.shape
        shift, scale = self._latent_statistics()
        frames = latents.permute(0, 2, 1, 3, 4).reshape(-1, channels, height, width) / scale + shift
        at_once = max(1, PIXELS_AT_ONCE // (height * width * self.defaults.size_multiple**2))
        vae = self._needed_vae()
        pixels = [_to_uint8(vae.decode(f.to(vae.dtype)).sample) for f in frames.split(at_once)]
        pixels = torch.cat(pixels).permute(0, 2, 3, 1)
        return pixels.reshape(batch, num_frames, *pixels.shape[1:]).contiguous().cpu().numpy()

    def _latent_statistics(self) -> tuple[float, float]:
        """The VAE's shift and scale; Stable Diffusion's has no shift."""
        config = self._needed_vae().config
        return getattr(config, "shift_factor", None) or 0.0, config.scaling_factor

    def _needed_vae(self) -> Any:
        """The VAE. Any, as its annotations leave open what it returns."""
        return needed(self.vae)


def needed(part: T | None) -> T:
    """A part without which a backbone can denoise, but neither encode nor decode."""
    if part is None:
        raise TypeError("this backbone was made without its text encoder or its VAE")
    return part


def _to_uint8(pixels: torch.Tensor) -> torch.Tensor:
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
