"""Wan 2.1 and 2.2 (arXiv 2503.20314): flow matching with a video transformer, based on diffusers.

`WanBackbone` runs the text-to-video models with a single transformer (Wan2.1-T2V-1.3B and 14B, Wan2.2-TI2V-5B)
from their configurations. A single frame is an image.

The method's noise levels were tuned for AnimateDiff, whose noisiest latents still contain some of the anchor.
The schedule of a flow model begins with pure noise. NI-VSDS and the start of the regeneration therefore use
AnimateDiff's signal-to-noise ratios, with the same shift for larger latents as the model's schedule.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, T5Tokenizer, UMT5EncoderModel

from i4vgen.backbones import animatediff, own_settings
from i4vgen.backbones.base import Backbone, from_uint8, to_uint8
from i4vgen.backbones.guidance import PromptEmbeds, guide
from i4vgen.backbones.lora import fuse_wan_loras
from i4vgen.backbones.memory import Memory, PlacedNetworks, choose_memory, leaner_when_full
from i4vgen.backbones.prediction import FlowPrediction, NoiseLevel
from i4vgen.backbones.samplers import DiffusersSampler, FlowSampler, flow_schedule
from i4vgen.config import Defaults
from i4vgen.errors import ModelError
from i4vgen.events import LoraFit
from i4vgen.weights import hub
from i4vgen.weights.vocabulary import Vocabulary

TOKENS = 512  # tokens of an encoded prompt; shorter prompts are padded with zeros

NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, overall"
    " gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn"
    " hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy"
    " background, three legs, many people in the background, walking backwards"
)
"""The authors' negative prompt."""

STILLNESS = {"static", "images", "still picture", "still", "motionless"}
"""Terms of a negative prompt that apply to videos but not to images."""

# The defaults of all Wan models, whose configurations lack the frame rate and the picture size.
DEFAULTS = Defaults(
    num_frames=33,
    max_frames=81,
    frames_per_latent=4,
    height=480,
    width=832,
    fps=16,
    num_inference_steps=50,
    guidance_scale=5.0,
    candidate_batch_size=4,
    sampler="unipc",
    samplers=("unipc", "dpm++"),
    negative_prompt=NEGATIVE_PROMPT,
)
LARGER = {"height": 704, "width": 1280, "fps": 24, "max_frames": 121}  # for TI2V-5B (16 x 16 VAE)

REFERENCE_STEPS = 25  # steps of the AnimateDiff schedule whose first level determines `max_noise_level`


class WanBackbone(PlacedNetworks, Backbone):
    """Implements `Backbone` for text-to-video.

    Args:
        transformer: The denoising network.
        schedule: The schedule that the transformer was trained with (`flow_schedule`).
        vae: The VAE.
        defaults: The default settings and limits.
        text_encoder: The text encoder, required to encode prompts.
        tokenizer: The tokenizer, required to encode prompts.
        expand_timesteps: Whether the transformer expects one timestep per token.
        step_sizes: The step sizes of the first NI-VSDS steps; None uses AnimateDiff's, multiplied by the
            schedule's shift.
        device: The device to run on.
        memory: The memory mode; None chooses one by the device's free memory.
        lora_fits: How well each LoRA in the transformer fits it.
    """

    half = torch.bfloat16  # float16 overflows in the text encoder

    def __init__(
        self,
        transformer: WanTransformer3DModel,
        schedule: Mapping[str, Any],
        vae: AutoencoderKLWan,
        defaults: Defaults,
        text_encoder: UMT5EncoderModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        expand_timesteps: bool = False,
        step_sizes: Sequence[float] | None = None,
        device: str | torch.device = "cpu",
        memory: Memory | None = None,
        lora_fits: Sequence[LoraFit] = (),
    ):
        self.transformer = transformer
        self.vae = vae
        self.defaults = defaults
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.expand_timesteps = expand_timesteps
        self.schedule = schedule
        self.lora_fits = tuple(lora_fits)
        # The shift is the factor by which the signal-to-noise ratio, and with it the update of equation 5,
        # decreases. Larger steps compensate: each moves as far towards the clean latents as AnimateDiff's.
        shift = self.schedule["flow_shift"]
        self.step_sizes = tuple(step_sizes or (shift * size for size in animatediff.STEP_SIZES))
        self.first_sigma = _flow_sigma(self._reference_levels(REFERENCE_STEPS)[0])
        self.max_noise_level = self._shifted(self.first_sigma)
        self.device = torch.device(device)
        self._colours: Tensor | None = None
        self.set_memory(memory or choose_memory(self.device, self.networks))

    # Loading

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        transformer: str | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        memory: Memory | None = None,
        loras: Sequence[str] = (),
        variant: str | None = None,
    ) -> WanBackbone:
        """Loads a model in the diffusers layout.

        Args:
            model: A folder or hub id.
            transformer: A single file with another transformer; None uses the model's own.
            device: The device to run on.
            dtype: The dtype of the transformer and the text encoder; None means bfloat16 on CUDA and float32
                elsewhere. The VAE is always float32.
            memory: The memory mode; None chooses one by the device's free memory.
            loras: The LoRAs to fuse into the transformer (`fuse_wan_loras`).
            variant: The preferred variant of the weights (`hub.load`).

        Raises:
            ModelError: A part is missing or damaged, or the model is unsupported.
        """
        defaults = cls.read_defaults(model, transformer)
        dtype = dtype or hub.default_dtype(device, cls.half)
        index = hub.read_json(model, "model_index.json") or {}
        network = hub.load(WanTransformer3DModel, transformer or model, "transformer", dtype, variant)
        fits = fuse_wan_loras(loras, network)
        return cls(
            network,
            _read_schedule(model),
            hub.load(AutoencoderKLWan, model, "vae", torch.float32, variant),
            defaults,
            hub.load(UMT5EncoderModel, model, "text_encoder", dtype, variant),
            cls.read_tokenizer(model),
            expand_timesteps=bool(index.get("expand_timesteps")),
            step_sizes=own_settings.step_sizes(model),
            device=device,
            memory=memory,
            lora_fits=fits,
        )

    @staticmethod
    def read_defaults(model: str, transformer: str | None = None) -> Defaults:
        """Reads the defaults from the networks' configurations and i4vgen.json."""
        index = hub.read_json(model, "model_index.json") or {}
        config = own_settings.read_config(transformer or model, "transformer")
        vae = own_settings.read_config(model, "vae")
        if index.get("boundary_ratio") is not None or hub.read_json(model, "transformer_2/config.json"):
            raise ModelError(f"{model} has two transformers: only Wan models with one are supported")
        channels, wanted = config.get("in_channels", 16), vae.get("z_dim", 16)
        if channels != wanted:
            raise ModelError(
                f"the transformer of {model} takes {channels} channels, its VAE makes {wanted}: only"
                " text-to-video models and TI2V-5B are supported"
            )
        compression = vae.get("scale_factor_spatial", 8)
        values = LARGER if compression == 16 else {}
        defaults = replace(
            DEFAULTS,
            **values,
            frames_per_latent=vae.get("scale_factor_temporal", 4),
            size_multiple=compression * config.get("patch_size", (1, 2, 2))[1],
        )
        return own_settings.override(defaults, model)

    @staticmethod
    def read_vocabulary(model: str, **_: str) -> Vocabulary | None:
        return own_settings.vocabulary(model)

    @staticmethod
    def read_tokenizer(model: str, **_: str) -> T5Tokenizer:
        tokenizer = hub.load_tokenizer(T5Tokenizer, model, "tokenizer")
        tokenizer.model_max_length = TOKENS
        return tokenizer

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.dtype

    @property
    def networks(self) -> list[nn.Module]:
        """The networks placed by the memory mode. `_encode_texts` places the text encoder."""
        return [self.transformer, self.vae]

    def compile(self) -> None:
        """Compiles the transformer for static shapes, which makes the first step of each shape slow."""
        self.transformer.compile(dynamic=False)

    # Text

    @leaner_when_full
    @torch.inference_mode()
    def encode_prompt(self, prompt: str, negative_prompt: str) -> PromptEmbeds:
        terms = [term.strip() for term in negative_prompt.split(",")]
        for_images = ", ".join(term for term in terms if term.lower() not in STILLNESS)
        embeds = self._encode_texts([prompt, negative_prompt, for_images]).to(self.device, self.dtype)
        return PromptEmbeds(*embeds.split(1))

    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encodes texts to embeddings [B, TOKENS, D].

        The text encoder is on the device only during the call. In the leanest memory mode it runs on the CPU.
        """
        if self.text_encoder is None or self.tokenizer is None:
            raise TypeError("this backbone was made without its text encoder")
        tokens = self.tokenizer(
            [" ".join(html.unescape(text).split()) for text in texts],
            padding="max_length",
            max_length=TOKENS,
            truncation=True,
            return_tensors="pt",
        )
        place = torch.device("cpu") if self.memory is Memory.OFFLOADED else self.device
        encoder: Any = self.text_encoder  # transformers misannotates `to`
        try:
            encoder.to(place)
            mask = tokens.attention_mask.to(place)
            embeds = encoder(tokens.input_ids.to(place), mask).last_hidden_state
        finally:
            encoder.to("cpu")
        return embeds.masked_fill(mask[..., None] == 0, 0)

    # Diffusion

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        compression = self.vae.config["scale_factor_spatial"]
        return self.transformer.config["in_channels"], height // compression, width // compression

    def sampler(
        self, name: str, num_inference_steps: int, last: int | None = None, starts_from_video: bool = False
    ) -> FlowSampler:
        return FlowSampler(
            name, self.schedule, num_inference_steps, last, self.first_sigma if starts_from_video else 1.0
        )

    def ni_vsds_levels(self, name: str, num_inference_steps: int) -> list[NoiseLevel]:
        """Returns the noise levels for NI-VSDS: AnimateDiff's, with the model's shift."""
        return [self._shifted(_flow_sigma(level)) for level in self._reference_levels(num_inference_steps)]

    @staticmethod
    def _reference_levels(num_inference_steps: int) -> Sequence[NoiseLevel]:
        """Returns the noise levels of AnimateDiff, for which the method's defaults were tuned."""
        return DiffusersSampler("ddim", animatediff.SCHEDULE, num_inference_steps).levels

    def _shifted(self, sigma: float) -> NoiseLevel:
        """Returns the noise level of a flow model at `sigma` after the model's shift."""
        shift = self.schedule["flow_shift"]
        sigma = shift * sigma / (1 + (shift - 1) * sigma)
        return NoiseLevel.of_flow(self.schedule["num_train_timesteps"] * sigma, sigma)

    @leaner_when_full
    @torch.inference_mode()
    def predict(
        self, latents: Tensor, level: NoiseLevel, prompt_embeds: PromptEmbeds, guidance_scale: float
    ) -> FlowPrediction:
        image = latents.shape[2] == 1
        anchor = None if image else prompt_embeds.anchor
        seen = latents
        if anchor is not None:
            anchor = anchor.expand(len(latents), -1, -1, -1, -1)
            seen = torch.cat([anchor, latents[:, :, 1:]], dim=2)
        timestep = self._timestep(level.timestep, latents.shape, anchor is not None)

        def call(part: Tensor, embeds: Tensor) -> Tensor:
            return self.transformer(part, timestep.expand(len(part), *timestep.shape[1:]), embeds).sample

        output = guide(
            call,
            seen.to(self.dtype),
            prompt_embeds.prompt,
            prompt_embeds.negative_of(image),
            guidance_scale,
            batch_size=None if self.memory is Memory.FULL else 1,
        )
        if anchor is not None:
            # The first frame is known, so its velocity points straight to the anchor.
            first = (latents[:, :, :1] - anchor) / level.sigma
            output = torch.cat([first, output[:, :, 1:]], dim=2)
        return FlowPrediction(level, latents, output)

    def _timestep(self, t: float, shape: torch.Size, anchored: bool) -> Tensor:
        """Returns the timestep, [1], or one per token, [1, tokens], which is 0 for an anchor's tokens."""
        # Create the tensor on the device, because copying a number there waits for all queued work.
        if not self.expand_timesteps:
            return torch.full((1,), t, device=self.device)
        patch = self.transformer.config["patch_size"]
        frames, height, width = (size // side for size, side in zip(shape[2:], patch, strict=True))
        timestep = torch.full((frames, height * width), float(t), device=self.device)
        if anchored:
            timestep[0] = 0
        return timestep.reshape(1, -1)

    # Images and videos

    @leaner_when_full
    @torch.inference_mode()
    def still_video(self, anchor: Tensor, num_frames: int) -> Tensor:
        """Repeats the anchor in pixel space.

        The VAE encodes the first frame independently and later frames relative to earlier ones, so repeated
        latents would not decode to a still video.
        """
        pixels = self._to_pixels(anchor)
        video = self._to_latents(pixels.repeat(1, 1, num_frames, 1, 1))
        return torch.cat([anchor, video[:, :, 1:]], dim=2)

    @leaner_when_full
    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> Tensor:
        return self._to_latents(from_uint8(image, self.device)[:, :, None])

    @leaner_when_full
    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        pixels = torch.cat([to_uint8(self._to_pixels(one)) for one in latents.split(1)])
        return pixels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()

    @torch.inference_mode()
    def preview(self, latents: Tensor) -> np.ndarray:
        """Maps latents linearly to colours, because decoding would take longer than a step."""
        if self._colours is None:
            self._to_pixels(latents[:, :, :1])
        colours = torch.einsum("cfhw,cd->dfhw", _with_one(latents[0]), self._colours)
        frames = to_uint8(colours).permute(1, 2, 3, 0).cpu().numpy()
        return np.concatenate([frames[:1], frames[1:].repeat(self.defaults.frames_per_latent, axis=0)])

    def _to_latents(self, pixels: Tensor) -> Tensor:
        """Encodes a video, [1, 3, T, H, W] in -1..1, to normalised latents [1, C, F, h, w]."""
        mean, std = self._latent_statistics()
        return (self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.mode().float() - mean) / std

    def _to_pixels(self, latents: Tensor) -> Tensor:
        """Decodes latents to pixels (the inverse of `_to_latents`) and fits the linear map of `preview`."""
        mean, std = self._latent_statistics()
        pixels = self.vae.decode((latents * std + mean).to(self.vae.dtype)).sample.float()
        height, width = latents.shape[3:]
        small = F.adaptive_avg_pool2d(pixels[:, :, 0], (height, width))
        inputs = _with_one(latents[0, :, :1]).flatten(1).T.cpu()
        colours = torch.linalg.lstsq(inputs, small[0].flatten(1).T.cpu(), driver="gelsd").solution
        self._colours = colours.to(latents.device)
        return pixels

    def _latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Returns the mean and standard deviation of the VAE's latents, [1, C, 1, 1, 1] each."""
        config = self.vae.config
        values = torch.tensor([config["latents_mean"], config["latents_std"]], device=self.device)
        mean, std = values.view(2, 1, -1, 1, 1, 1)
        return mean, std


class WanImageToVideoBackbone(WanBackbone):
    """TI2V-5B as an image-to-video model: the anchor is the first frame of every video."""

    image_to_video = True

    @staticmethod
    def read_defaults(model: str, transformer: str | None = None) -> Defaults:
        index = hub.read_json(model, "model_index.json") or {}
        if not index.get("expand_timesteps"):
            raise ModelError(f"{model} does not continue images: of the Wan models here, only TI2V-5B does")
        return WanBackbone.read_defaults(model, transformer)

    def condition(self, prompt_embeds: PromptEmbeds, anchor: Tensor) -> PromptEmbeds:
        return replace(prompt_embeds, anchor=anchor)


def _read_schedule(model: str) -> Mapping[str, Any]:
    config = hub.read_json(model, "scheduler/scheduler_config.json")
    if config is None:
        raise ModelError(f"{model} has no scheduler/: it is not a model in the diffusers layout")
    return flow_schedule(config)


def _flow_sigma(level: NoiseLevel) -> float:
    """Returns the sigma at which a flow model has the signal-to-noise ratio of a noise level."""
    return level.sigma / (level.alpha + level.sigma)


def _with_one(latents: Tensor) -> Tensor:
    """Appends a channel of ones to latents [C, ...], for the constant term of a linear map."""
    return torch.cat([latents, torch.ones_like(latents[:1])])
