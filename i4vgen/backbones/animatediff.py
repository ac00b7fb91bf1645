"""AnimateDiff: a Stable Diffusion UNet with motion modules between its layers, on diffusers.

One set of weights draws images (the motion modules are skipped) and videos. What differs from diffusers' own
`UNetMotionModel` is all in `MotionModule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from transformers import CLIPTextModel, CLIPTokenizer

from i4vgen import hub
from i4vgen.errors import ModelError
from i4vgen.request import Defaults

# The schedule that AnimateDiff's motion modules were trained under. Stable Diffusion, its base, has another.
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "steps_offset": 1,
}

STEP_SIZES = (10.0, 10.0, 10.0)  # of NI-VSDS; 1 from there on

# VAE decoding takes a lot of memory per pixel: this many pixels at once (4 frames of 512 x 512).
PIXELS_AT_ONCE = 2**20


class MotionModule(AnimateDiffTransformer3D):
    """A motion module as the authors of AnimateDiff and I4VGen compute it.

    It differs from diffusers' module, whose class it takes over in place, so that weights and their names
    stay:
    - for a single frame it does nothing, which makes the UNet the text-to-image UNet that it was built on;
    - its group norm sees each frame by itself. diffusers normalises over all frames together, which moves the
      output of a UNet by up to a tenth of its range.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states=None,
        timestep=None,
        class_labels=None,
        num_frames: int = 1,
        cross_attention_kwargs=None,
    ) -> torch.Tensor:
        """hidden_states: [B * F, C, h, w], as is the result. The UNet leaves the other arguments empty, but
        passes some of them by position.
        """
        if num_frames == 1:
            return hidden_states
        frames, channels, height, width = hidden_states.shape
        batch = frames // num_frames
        x = self.norm(hidden_states)
        x = x.reshape(batch, num_frames, channels, height * width)
        x = x.permute(0, 3, 1, 2).reshape(batch * height * width, num_frames, channels)
        x = self.proj_in(x)
        for block in self.transformer_blocks:
            x = block(x)
        x = self.proj_out(x)
        x = x.reshape(batch, height * width, num_frames, channels).permute(0, 2, 3, 1)
        return hidden_states + x.reshape(hidden_states.shape)


def adopt_motion_modules(unet: UNetMotionModel, norm_num_groups: int | None = None) -> UNetMotionModel:
    """Turns the motion modules of a UNet into `MotionModule`s, in place.

    norm_num_groups: groups of their norms. diffusers takes the UNet's number even if the motion adapter has
    its own.
    """
    for module in unet.modules():
        if isinstance(module, AnimateDiffTransformer3D):
            module.__class__ = MotionModule
            module.norm.num_groups = norm_num_groups or module.norm.num_groups
    return unet


@dataclass(frozen=True)
class PromptEmbeds:
    """An encoded prompt and negative prompt, [1, tokens, D] each."""

    prompt: torch.Tensor
    negative: torch.Tensor


class AnimateDiffBackbone:
    """Speaks the protocol of `base.Backbone`, where the methods are described."""

    def __init__(
        self,
        unet: UNetMotionModel,
        scheduler: DDIMScheduler,
        defaults: Defaults,
        vae: AutoencoderKL | None = None,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        step_sizes: Sequence[float] = STEP_SIZES,
    ):
        """unet: with its motion modules adopted (`adopt_motion_modules`). vae, text_encoder, tokenizer:
        needed to encode and decode. step_sizes: of the first NI-VSDS steps; 1 for all further ones.
        """
        self.unet = unet
        self.scheduler = scheduler
        self.defaults = defaults
        self.vae = vae
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.step_sizes = tuple(step_sizes)

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        motion_adapter: str | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> AnimateDiffBackbone:
        """Loads a model in the diffusers layout.

        model: a folder or hub id. Its unet/ may be a plain text-to-image UNet (with motion_adapter/ beside
        it, or with `motion_adapter`, a folder or hub id of its own) or one that holds its motion modules
        already.
        dtype: by default float16 on CUDA and float32 elsewhere, whatever the files hold.
        Raises `ModelError` if anything is missing or damaged.
        """
        defaults = cls.read_defaults(model, motion_adapter)
        if dtype is None:
            dtype = torch.float16 if torch.device(device).type == "cuda" else torch.float32
        return cls(
            _load_unet(model, motion_adapter, dtype).to(device),
            _load_scheduler(model, motion_adapter),
            defaults,
            hub.load(AutoencoderKL, model, "vae", dtype).to(device),
            hub.load(CLIPTextModel, model, "text_encoder", dtype).to(device),
            hub.load_tokenizer(CLIPTokenizer, model, "tokenizer"),
        )

    @staticmethod
    def read_defaults(model: str, motion_adapter: str | None = None) -> Defaults:
        """The model's defaults, from its i4vgen.json and its networks' configurations. Reads no weights."""
        own = hub.read_json(model, "i4vgen.json") or {}
        unet, vae = _config(model, "unet"), _config(model, "vae")
        max_frames = (_motion_config(model, motion_adapter) or unet)["motion_max_seq_length"]
        multiple = 2 ** (len(vae["block_out_channels"]) - 1)
        side = unet.get("sample_size")
        values = {"max_frames": max_frames, "size_multiple": multiple}
        if isinstance(side, int):
            values |= {"height": side * multiple, "width": side * multiple}
        values["num_frames"] = min(Defaults.num_frames, max_frames)
        names = {f.name for f in fields(Defaults)}
        return Defaults(**values | {k: v for k, v in own.items() if k in names})

    @staticmethod
    def read_vocabulary(model: str) -> frozenset[str] | None:
        """All words that the model was trained on, if its i4vgen.json lists them."""
        words = (hub.read_json(model, "i4vgen.json") or {}).get("words")
        return None if words is None else frozenset(words)

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        multiple = self.defaults.size_multiple
        return self.unet.config.in_channels, height // multiple, width // multiple

    @torch.inference_mode()
    def encode_prompt(self, prompt: str, negative_prompt: str) -> PromptEmbeds:
        tokens = self.tokenizer(
            [prompt, negative_prompt],
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        embeds = self.text_encoder(tokens.input_ids.to(self.device))[0]
        return PromptEmbeds(embeds[:1], embeds[1:])

    def timesteps(self, num_inference_steps: int) -> list[int]:
        self.scheduler.set_timesteps(num_inference_steps)
        return self.scheduler.timesteps.tolist()

    @torch.inference_mode()
    def predict_noise(
        self, latents: torch.Tensor, t: int, prompt: PromptEmbeds, guidance_scale: float
    ) -> torch.Tensor:
        guided = guidance_scale > 1
        batch, _, num_frames = latents.shape[:3]
        embeds = [prompt.negative, prompt.prompt] if guided else [prompt.prompt]
        # The UNet folds frames into its batch and wants one embedding for each.
        embeds = torch.cat([e.repeat_interleave(batch * num_frames, dim=0) for e in embeds])
        inputs = torch.cat([latents, latents]) if guided else latents
        noise = self.unet(
            inputs.to(self.dtype), t, encoder_hidden_states=embeds.to(self.dtype)
        ).sample.float()
        if not guided:
            return noise
        unconditional, conditional = noise.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, t: int) -> torch.Tensor:
        return self.scheduler.add_noise(latents, noise, torch.tensor([t]))

    def noise_level(self, t: int) -> float:
        return 1 - self.scheduler.alphas_cumprod[t].item()

    def denoise_step(
        self, noise: torch.Tensor, t: int, latents: torch.Tensor, generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # DDIM with eta 0 draws nothing, so the generators stay untouched.
        output = self.scheduler.step(noise, t, latents)
        return output.prev_sample, output.pred_original_sample

    def ni_vsds_step_size(self, index: int) -> float:
        return self.step_sizes[index] if index < len(self.step_sizes) else 1.0

    def still_video(self, anchor: torch.Tensor, num_frames: int) -> torch.Tensor:
        return anchor.repeat(1, 1, num_frames, 1, 1)

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(self.device)
        pixels = (pixels.float() / 127.5 - 1).to(self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode().float()
        shift, scale = self._latent_statistics()
        return ((latents - shift) * scale).unsqueeze(2)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        batch, channels, num_frames, height, width = latents.shape
        shift, scale = self._latent_statistics()
        frames = latents.permute(0, 2, 1, 3, 4).reshape(-1, channels, height, width) / scale + shift
        at_once = max(1, PIXELS_AT_ONCE // (height * width * self.defaults.size_multiple**2))
        pixels = [self._to_uint8(self.vae.decode(f.to(self.vae.dtype)).sample) for f in frames.split(at_once)]
        pixels = torch.cat(pixels).permute(0, 2, 3, 1)
        return pixels.reshape(batch, num_frames, *pixels.shape[1:]).contiguous().numpy()

    @staticmethod
    def _to_uint8(pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()

    def _latent_statistics(self) -> tuple[float, float]:
        """The VAE's shift and scale; Stable Diffusion's has no shift."""
        config = self.vae.config
        return getattr(config, "shift_factor", None) or 0.0, config.scaling_factor


def _config(model: str, subfolder: str) -> dict:
    config = hub.read_json(model, f"{subfolder}/config.json")
    if config is None:
        raise ModelError(f"{model} has no {subfolder}/config.json: it is not a model in the diffusers layout")
    return config


def _has_motion(unet_config: dict) -> bool:
    """Whether the UNet in a model's unet/ holds its motion modules already (a saved AnimateDiff pipeline)."""
    return unet_config.get("_class_name") == "UNetMotionModel"


def _motion_place(model: str, motion_adapter: str | None) -> tuple[str, str]:
    """The model and the subfolder that a motion adapter lies in: an adapter of its own lies in the root."""
    if motion_adapter is None:
        return model, "motion_adapter"
    if Path(motion_adapter, "motion_adapter").is_dir():
        return motion_adapter, "motion_adapter"
    return motion_adapter, ""


def _motion_config(model: str, motion_adapter: str | None) -> dict | None:
    """The motion adapter's configuration; None if the model's UNet needs no adapter and has none."""
    place, subfolder = _motion_place(model, motion_adapter)
    config = hub.read_json(place, f"{subfolder}/config.json".lstrip("/"))
    if config is None and motion_adapter is not None:
        raise ModelError(
            f"{motion_adapter} has no config.json: it is not a motion adapter in the diffusers layout"
        )
    if config is None and not _has_motion(_config(model, "unet")):
        raise ModelError(f"{model} has no motion_adapter/: add one to the model's name, as in BASE+ADAPTER")
    return config


def _load_unet(model: str, motion_adapter: str | None, dtype: torch.dtype) -> UNetMotionModel:
    motion_config = _motion_config(model, motion_adapter)
    norm_num_groups = (motion_config or {}).get("motion_norm_num_groups")
    if _has_motion(_config(model, "unet")) and motion_adapter is None:
        return adopt_motion_modules(hub.load(UNetMotionModel, model, "unet", dtype), norm_num_groups)
    place, subfolder = _motion_place(model, motion_adapter)
    adapter = hub.load(MotionAdapter, place, subfolder, dtype)
    unet = hub.load(UNet2DConditionModel, model, "unet", dtype)
    try:
        with hub.quiet():
            unet = UNetMotionModel.from_unet2d(unet, adapter)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"the motion adapter {place} does not fit the UNet of {model}") from error
    return adopt_motion_modules(unet.requires_grad_(False).eval(), norm_num_groups)


def _load_scheduler(model: str, motion_adapter: str | None) -> DDIMScheduler:
    """The model's own schedule, or AnimateDiff's where the motion modules come on top of a text-to-image
    model.
    """
    config = hub.read_json(model, "scheduler/scheduler_config.json")
    if motion_adapter is not None or config is None:
        config = SCHEDULE
    if config.get("prediction_type", "epsilon") != "epsilon":
        raise ModelError(
            f"{model} predicts {config['prediction_type']}: only noise prediction (epsilon) is supported"
        )
    # Latents are not bounded by 1, so clipping them, diffusers' default, is wrong for any latent model.
    return DDIMScheduler.from_config(config, clip_sample=False)
