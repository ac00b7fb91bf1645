"""Wan 2.1 and 2.2 (arXiv 2503.20314): flow matching on a video transformer, on diffusers.

One class runs the text-to-video models with a single transformer, Wan2.1-T2V-1.3B and 14B, and Wan2.2-TI2V-5B,
which also continues an image. In what they differ stands in their configurations. A single frame is an image.

The method's noise levels were chosen on AnimateDiff, whose schedule never loses an anchor quite; a flow model's
begins with noise alone. So the regeneration begins, and NI-VSDS looks, where AnimateDiff's would: at the same
ratio of signal to noise, shifted for larger latents as the model's own schedule is.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import PreTrainedTokenizerBase, T5Tokenizer, UMT5EncoderModel

from i4vgen import hub
from i4vgen.backbones import animatediff, own_settings
from i4vgen.backbones.base import Backbone
from i4vgen.backbones.guidance import guide
from i4vgen.backbones.lora import fuse_wan_loras
from i4vgen.backbones.memory import Memory, PlacedNetworks, choose_memory, leaner_when_full
from i4vgen.backbones.prediction import FlowPrediction, NoiseLevel
from i4vgen.backbones.samplers import DiffusersSampler, FlowSampler, flow_schedule
from i4vgen.errors import ModelError
from i4vgen.generation_config import Defaults
from i4vgen.vocabulary import Vocabulary

TOKENS = 512  # of a prompt, to which shorter ones are filled up with zeros

NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, overall"
    " gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn"
    " hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy"
    " background, three legs, many people in the background, walking backwards"
)
"""What the authors' videos should not show. Among it is stillness."""

STILLNESS = {"static", "images", "still picture", "still", "motionless"}
"""What a negative prompt may forbid to a video, but not to an image."""

# The same for all sizes. The frame rates and the sizes of the pictures stand in no configuration.
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
LARGER = {"height": 704, "width": 1280, "fps": 24, "max_frames": 121}  # of a VAE that divides by 16: TI2V-5B

REFERENCE_STEPS = 25  # of AnimateDiff, whose noise levels are the measure


@dataclass(frozen=True)
class PromptEmbeds:
    """An encoded prompt and the negative prompts of videos and of images, [1, TOKENS, D] each.

    anchor: latents [1, C, 1, h, w] of the first frame, where a model is to continue it.
    """

    prompt: torch.Tensor
    negative: torch.Tensor
    image_negative: torch.Tensor
    anchor: torch.Tensor | None = None


class WanBackbone(PlacedNetworks, Backbone):
    """Implements `Backbone`, where the methods are described, for text-to-video."""

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
    ):
        """schedule: that the transformer was trained under (see `flow_schedule`). text_encoder, tokenizer:
        needed to encode prompts. expand_timesteps: whether the transformer is told a timestep for every token.
        step_sizes: of the NI-VSDS steps, the last one from there on; None takes AnimateDiff's, enlarged.
        device: where the networks are to run. memory: None decides by what is free there.
        """
        self.transformer = transformer
        self.vae = vae
        self.defaults = defaults
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.expand_timesteps = expand_timesteps
        self.schedule = schedule
        # Shifted levels have so much less signal to the noise, which equation 5 would take for so much less
        # to correct: with larger steps each goes as far towards the clean latents as AnimateDiff's.
        shift = self.schedule["flow_shift"]
        self.step_sizes = tuple(step_sizes or (shift * size for size in animatediff.STEP_SIZES))
        self.first_sigma = _flow_sigma(self._reference_levels(REFERENCE_STEPS)[0])
        self.noisiest = self._shifted(self.first_sigma)
        self.device = torch.device(device)
        self._colours: torch.Tensor | None = None
        self.set_memory(memory or choose_memory(self.device, self.networks))

    # Loading

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        memory: Memory | None = None,
        loras: Sequence[str] = (),
    ) -> WanBackbone:
        """Loads a model in the diffusers layout.

        model: a folder or hub id. dtype: of the transformer and the text encoder, by default bfloat16 on CUDA
        and float32 elsewhere; the VAE is always in float32. memory: None decides by what is free on the device.
        loras: see `fuse_wan_loras`. Raises `ModelError` if anything is missing or damaged, and for a model of
        another kind.
        """
        defaults = cls.read_defaults(model)
        dtype = dtype or hub.default_dtype(device, cls.half)
        index = hub.read_json(model, "model_index.json") or {}
        transformer = hub.load(WanTransformer3DModel, model, "transformer", dtype)
        fuse_wan_loras(loras, transformer)
        return cls(
            transformer,
            _read_schedule(model),
            hub.load(AutoencoderKLWan, model, "vae", torch.float32),
            defaults,
            hub.load(UMT5EncoderModel, model, "text_encoder", dtype),
            cls.read_tokenizer(model),
            expand_timesteps=bool(index.get("expand_timesteps")),
            step_sizes=own_settings.step_sizes(model),
            device=device,
            memory=memory,
        )

    @staticmethod
    def read_defaults(model: str) -> Defaults:
        """The model's defaults, from its configurations and its i4vgen.json. Reads no weights."""
        index = hub.read_json(model, "model_index.json") or {}
        transformer, vae = (own_settings.read_config(model, name) for name in ("transformer", "vae"))
        if index.get("boundary_ratio") is not None or hub.read_json(model, "transformer_2/config.json"):
            raise ModelError(f"{model} has two transformers: only Wan models with one are supported")
        channels, wanted = transformer.get("in_channels", 16), vae.get("z_dim", 16)
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
            size_multiple=compression * transformer.get("patch_size", (1, 2, 2))[1],
        )
        return own_settings.override(defaults, model)

    @staticmethod
    def read_vocabulary(model: str) -> Vocabulary | None:
        return own_settings.vocabulary(model)

    @staticmethod
    def read_tokenizer(model: str) -> T5Tokenizer:
        tokenizer = hub.load_tokenizer(T5Tokenizer, model, "tokenizer")
        tokenizer.model_max_length = TOKENS
        return tokenizer

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.dtype

    @property
    def networks(self) -> list[nn.Module]:
        """Those that take turns on the device. The text encoder, the largest by far, only visits it."""
        return [self.transformer, self.vae]

    def compile(self) -> None:
        """Compiles the transformer for the shapes that it will see; each takes a while at its first step."""
        self.transformer.compile(dynamic=False)

    # Text

    @leaner_when_full
    @torch.inference_mode()
    def encode_prompt(self, prompt: str, negative_prompt: str) -> PromptEmbeds:
        terms = [term.strip() for term in negative_prompt.split(",")]
        for_images = ", ".join(term for term in terms if term.lower() not in STILLNESS)
        embeds = self._encode_texts([prompt, negative_prompt, for_images]).to(self.device, self.dtype)
        return PromptEmbeds(*embeds.split(1))

    def _encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts as [texts, TOKENS, D]. The text encoder, done for this run, then waits in the computer's
        memory; in the leanest mode it computes there, too.
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
        encoder: Any = self.text_encoder  # Any: transformers' annotations of `to` are for another argument
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
        self, name: str, num_inference_steps: int, last: int | None = None, noised: bool = False
    ) -> FlowSampler:
        return FlowSampler(name, self.schedule, num_inference_steps, last, self.first_sigma if noised else 1.0)

    def ni_vsds_levels(self, name: str, num_inference_steps: int) -> list[NoiseLevel]:
        """AnimateDiff's, as the head of this file says."""
        return [self._shifted(_flow_sigma(level)) for level in self._reference_levels(num_inference_steps)]

    def ni_vsds_step_size(self, index: int) -> float:
        return self.step_sizes[min(index, len(self.step_sizes) - 1)]

    @staticmethod
    def _reference_levels(num_inference_steps: int) -> Sequence[NoiseLevel]:
        """The noise levels of AnimateDiff, on which the method's defaults were found."""
        return DiffusersSampler("ddim", animatediff.SCHEDULE, num_inference_steps).levels

    def _shifted(self, sigma: float) -> NoiseLevel:
        """The level of an amount of noise before the model's shift."""
        shift = self.schedule["flow_shift"]
        sigma = shift * sigma / (1 + (shift - 1) * sigma)
        return NoiseLevel.of_flow(self.schedule["num_train_timesteps"] * sigma, sigma)

    @leaner_when_full
    @torch.inference_mode()
    def predict(
        self, latents: torch.Tensor, level: NoiseLevel, prompt_embeds: PromptEmbeds, guidance_scale: float
    ) -> FlowPrediction:
        image = latents.shape[2] == 1
        anchor = None if image else prompt_embeds.anchor
        seen = latents
        if anchor is not None:
            anchor = anchor.expand(len(latents), -1, -1, -1, -1)
            seen = torch.cat([anchor, latents[:, :, 1:]], dim=2)
        timestep = self._timestep(level.timestep, latents.shape, anchor is not None)

        def call(part: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
            return self.transformer(part, timestep.expand(len(part), *timestep.shape[1:]), embeds).sample

        output = guide(
            call,
            seen.to(self.dtype),
            prompt_embeds.prompt,
            prompt_embeds.image_negative if image else prompt_embeds.negative,
            guidance_scale,
            at_once=None if self.memory is Memory.FULL else 1,
        )
        if anchor is not None:
            # What is known need not be predicted: this velocity leads straight to the anchor.
            known = (latents[:, :, :1] - anchor) / level.sigma
            output = torch.cat([known, output[:, :, 1:]], dim=2)
        return FlowPrediction(level, latents, output)

    def _timestep(self, t: float, shape: torch.Size, anchored: bool) -> torch.Tensor:
        """What the transformer is told: t, [1], or where it wants that for every token, [1, tokens], with 0 for
        those of an anchor.
        """
        # Filled in on the device: a number sent there by a copy would wait for everything queued there.
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
    def still_video(self, anchor: torch.Tensor, num_frames: int) -> torch.Tensor:
        """Repeated in pixels: the VAE codes the first frame by itself and the others by what changes, so the
        anchor's latents, repeated, would not stand still.
        """
        pixels = self._to_pixels(anchor)
        video = self._to_latents(pixels.repeat(1, 1, num_frames, 1, 1))
        return torch.cat([anchor, video[:, :, 1:]], dim=2)

    @leaner_when_full
    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None, :, None].to(self.device)
        return self._to_latents(pixels.float() / 127.5 - 1)

    @leaner_when_full
    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        pixels = torch.cat([_to_uint8(self._to_pixels(one)) for one in latents.split(1)])
        return pixels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()

    @torch.inference_mode()
    def preview(self, latents: torch.Tensor) -> np.ndarray:
        """Colours that follow from the latents by a linear map: the VAE would take longer than the step."""
        if self._colours is None:
            self._to_pixels(latents[:, :, :1])
        colours = torch.einsum("cfhw,cd->dfhw", _with_one(latents[0]), self._colours)
        frames = _to_uint8(colours).permute(1, 2, 3, 0).cpu().numpy()
        each = self.defaults.frames_per_latent
        return np.concatenate([frames[:1], frames[1:].repeat(each, axis=0)])

    def _to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """A video [1, 3, T, H, W], from -1 to 1, as latents [1, C, F, h, w] with mean 0 and variance 1."""
        mean, std = self._latent_statistics()
        return (self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.mode().float() - mean) / std

    def _to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of `_to_latents`. From the first frame it also learns what previews need."""
        mean, std = self._latent_statistics()
        pixels = self.vae.decode((latents * std + mean).to(self.vae.dtype)).sample.float()
        height, width = latents.shape[3:]
        small = F.adaptive_avg_pool2d(pixels[:, :, 0], (height, width))
        known = _with_one(latents[0, :, :1]).flatten(1).T.cpu()
        colours = torch.linalg.lstsq(known, small[0].flatten(1).T.cpu(), driver="gelsd").solution
        self._colours = colours.to(latents.device)
        return pixels

    def _latent_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and the standard deviation of the VAE's latents, [1, C, 1, 1, 1]."""
        config = self.vae.config
        values = torch.tensor([config["latents_mean"], config["latents_std"]], device=self.device)
        mean, std = values.view(2, 1, -1, 1, 1, 1)
        return mean, std


class WanImageToVideoBackbone(WanBackbone):
    """TI2V-5B as an image-to-video model: every video continues the anchor, which stays as it is."""

    image_to_video = True

    @staticmethod
    def read_defaults(model: str) -> Defaults:
        index = hub.read_json(model, "model_index.json") or {}
        if not index.get("expand_timesteps"):
            raise ModelError(f"{model} does not continue images: of the Wan models here, only TI2V-5B does")
        return WanBackbone.read_defaults(model)

    def condition(self, prompt_embeds: PromptEmbeds, anchor: torch.Tensor) -> PromptEmbeds:
        return replace(prompt_embeds, anchor=anchor)


def _read_schedule(model: str) -> Mapping[str, Any]:
    config = hub.read_json(model, "scheduler/scheduler_config.json")
    if config is None:
        raise ModelError(f"{model} has no scheduler/: it is not a model in the diffusers layout")
    return flow_schedule(config)


def _flow_sigma(level: NoiseLevel) -> float:
    """The amount of noise of a flow at which signal and noise are in the same ratio."""
    return level.sigma / (level.alpha + level.sigma)


def _with_one(latents: torch.Tensor) -> torch.Tensor:
    """Latents [C, ...] with a channel of ones, for what is constant in a linear map."""
    return torch.cat([latents, torch.ones_like(latents[:1])])


def _to_uint8(pixels: torch.Tensor) -> torch.Tensor:
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
