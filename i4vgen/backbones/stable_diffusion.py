"""The base of video models built on Stable Diffusion: text encoder, VAE, schedule and guidance."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, ModelMixin
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen.backbones.base import Backbone, from_uint8, to_uint8
from i4vgen.backbones.clip_text import encode_texts
from i4vgen.backbones.guidance import PromptEmbeds, guide
from i4vgen.backbones.memory import Memory, PlacedNetworks, choose_memory, leaner_when_full
from i4vgen.backbones.prediction import PREDICTIONS, NoiseLevel, Prediction
from i4vgen.backbones.samplers import DiffusersSampler, noise_levels
from i4vgen.config import Defaults
from i4vgen.events import LoraFit

T = TypeVar("T")

# The maximum number of pixels that the VAE decodes in one pass, which bounds its memory (4 frames of 512 x
# 512). A pass decodes at least one frame.
PIXELS_PER_PASS = 2**20


class StableDiffusionBackbone(PlacedNetworks, Backbone):
    """Implements most of `Backbone`; subclasses add `from_pretrained`, `read_defaults` and `call_unet`.

    Args:
        unet: The denoising network.
        scheduler: A scheduler with the schedule that the network was trained with.
        defaults: The default settings and limits.
        vae: The VAE, required to encode and decode.
        text_encoder: The text encoder, required to encode prompts.
        tokenizer: The tokenizer, required to encode prompts.
        step_sizes: The step sizes of the first NI-VSDS steps; the last one also applies to all others.
        device: The device to run on.
        memory: The memory mode; None chooses one by the device's free memory.
        reads_to_the_end: Whether prompts are read beyond the text encoder's context rather than truncated.
        lora_fits: How well each LoRA in the networks fits them.
    """

    reads_weights = True
    memory_format = torch.channels_last  # speeds up convolutions on a GPU

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
        reads_to_the_end: bool = True,
        lora_fits: Sequence[LoraFit] = (),
    ):
        self.unet = unet
        self.schedule = scheduler.config
        self.defaults = defaults
        self.vae = vae
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.step_sizes = tuple(step_sizes)
        self.lora_fits = tuple(lora_fits)
        self.device = torch.device(device)
        self.reads_to_the_end = reads_to_the_end
        self._prediction = PREDICTIONS[self.schedule.get("prediction_type", "epsilon")]
        self._levels = noise_levels(scheduler)
        self.max_noise_level = self._levels[-1]
        self.set_memory(memory or choose_memory(self.device, self.networks))

    @classmethod
    def reads_long_prompts(cls, **sources: str) -> bool:
        """Returns False for models with a vocabulary, which were trained on short prompts only."""
        return cls.read_vocabulary(**sources) is None

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def networks(self) -> list[nn.Module]:
        return [network for network in (self.text_encoder, self.unet, self.vae) if network is not None]

    def compile(self) -> None:
        """Compiles the UNet for static shapes, which makes the first step of each shape slow."""
        self.unet.compile(dynamic=False)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        multiple = self.defaults.size_multiple
        return self.unet.config["in_channels"], height // multiple, width // multiple

    @leaner_when_full
    @torch.inference_mode()
    def encode_prompt(self, prompt: str, negative_prompt: str) -> PromptEmbeds:
        tokenizer, text_encoder = needed(self.tokenizer), needed(self.text_encoder)
        texts = [prompt, negative_prompt]
        embeds = encode_texts(tokenizer, text_encoder, texts, self.device, self.reads_to_the_end).to(self.dtype)
        return PromptEmbeds(embeds[:1], embeds[1:])

    def level(self, t: int) -> NoiseLevel:
        """Returns the noise level at timestep t."""
        return self._levels[t]

    def sampler(
        self,
        name: str,
        num_inference_steps: int,
        last: int | None = None,
        starts_from_video: bool = False,  # unused: noisy latents contain signal at every level
    ) -> DiffusersSampler:
        return DiffusersSampler(name, self.schedule, num_inference_steps, last)

    @leaner_when_full
    @torch.inference_mode()
    def predict(
        self, latents: Tensor, level: NoiseLevel, prompt_embeds: PromptEmbeds, guidance_scale: float
    ) -> Prediction:
        # Create the tensor on the device, because copying a number there waits for all queued work.
        timestep = torch.full((), level.timestep, device=self.device)
        output = guide(
            lambda part, embeds: self.call_unet(part, timestep, embeds, prompt_embeds.anchor),
            latents.to(self.dtype),
            prompt_embeds.prompt.to(self.dtype),
            prompt_embeds.negative.to(self.dtype),
            guidance_scale,
            batch_size=None if self.memory is Memory.FULL else 1,
        )
        return self._prediction(level, latents, output)

    @abstractmethod
    def call_unet(self, latents: Tensor, timestep: Tensor, embeds: Tensor, anchor: Tensor | None) -> Tensor:
        """Computes the network's output for latents [B, C, F, h, w].

        Args:
            latents: The noisy latents.
            timestep: The timestep, a scalar on the device.
            embeds: The encoded prompts, [B, tokens, D].
            anchor: The anchor of `PromptEmbeds`; ignored for single images.

        Returns:
            The output, [B, C, F, h, w].
        """

    @leaner_when_full
    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> Tensor:
        vae = self._needed_vae()
        pixels = from_uint8(image, self.device).to(vae.dtype)
        latents = vae.encode(pixels).latent_dist.mode().float()
        shift, scale = self._latent_statistics()
        return ((latents - shift) * scale).unsqueeze(2)

    @leaner_when_full
    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        batch, channels, num_frames, height, width = latents.shape
        shift, scale = self._latent_statistics()
        frames = latents.permute(0, 2, 1, 3, 4).reshape(-1, channels, height, width) / scale + shift
        batch_size = max(1, PIXELS_PER_PASS // (height * width * self.defaults.size_multiple**2))
        vae = self._needed_vae()
        pixels = [to_uint8(vae.decode(f.to(vae.dtype)).sample) for f in frames.split(batch_size)]
        pixels = torch.cat(pixels).permute(0, 2, 3, 1)
        return pixels.reshape(batch, num_frames, *pixels.shape[1:]).contiguous().cpu().numpy()

    def _latent_statistics(self) -> tuple[float, float]:
        """Returns the shift and scale of the VAE's latents; the shift is 0 for Stable Diffusion."""
        config = self._needed_vae().config
        return getattr(config, "shift_factor", None) or 0.0, config.scaling_factor

    def _needed_vae(self) -> Any:
        return needed(self.vae)  # Any, because diffusers' return annotations are incomplete


def needed(part: T | None) -> T:
    """Returns an optional part of the backbone.

    Raises:
        TypeError: The part is missing.
    """
    if part is None:
        raise TypeError("this backbone was made without its text encoder or its VAE")
    return part
