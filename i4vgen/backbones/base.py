"""The interface of a video model.

`Backbone` hides the differences between model families: loading, noise schedule, still videos, encoding and
decoding. `Prediction` hides the parametrisation (noise, v or velocity): the pipeline reads noise and clean
latents from it, and the sampler reads the raw output.

To add a model family, add a subclass of `Backbone` and an entry in `catalog.MODELS`.

Shapes: B batch, C latent channels, F frames of latents, h x w latent size, T frames of pixels, H x W pixels.
F is T unless the VAE compresses time (`Defaults.latent_frames`). Latents are always float32, whatever the
networks' dtype, so that no precision is lost between forward passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from i4vgen.backbones.memory import Memory
from i4vgen.backbones.prediction import NoiseLevel, Prediction
from i4vgen.config import Defaults
from i4vgen.events import LoraFit
from i4vgen.weights.vocabulary import Vocabulary

PREVIEW_SIDE = 32  # latents

EncodedPrompt = Any
"""An encoded prompt, opaque to all code but the backbone that made it."""


class Sampler(Protocol):
    """Denoises latents in one pass through its levels. Samplers may keep state, so each pass needs a new one.

    Attributes:
        levels: The noise level of every step, from noisy to clean.
    """

    levels: Sequence[NoiseLevel]

    @abstractmethod
    def step(self, prediction: Prediction, generators: list[torch.Generator]) -> Tensor:
        """Runs the next denoising step, from one of `levels` to the next.

        Args:
            prediction: The prediction for latents [B, C, F, h, w] at the level of this step.
            generators: One CPU generator per batch entry, for samplers that add noise.

        Returns:
            The latents after the step, [B, C, F, h, w].
        """


class Backbone(ABC):
    """A video model that also draws single images with the same weights.

    Attributes:
        image_to_video: Whether videos are conditioned on an anchor (`condition`). Like the next two, a class
            attribute that is available before loading.
        reads_weights: Whether prompts may contain weights (`prompt_syntax`).
        half: The half-precision dtype of the networks on a GPU.
        defaults: The default settings and limits.
        max_noise_level: The noisiest level of the schedule, or, if that is pure noise, a lower level at which
            latents still contain signal.
        step_sizes: The step sizes of equation 5 for the first steps; the last one also applies to all others.
        device: The device of the networks.
        dtype: The dtype of the networks.
        memory: The current memory mode.
        lora_fits: How well each loaded LoRA fits the model.
    """

    image_to_video: bool = False
    reads_weights: bool = False
    half: torch.dtype = torch.float16
    defaults: Defaults
    max_noise_level: NoiseLevel
    step_sizes: Sequence[float] = (1.0,)
    device: torch.device
    dtype: torch.dtype
    memory: Memory = Memory.FULL
    lora_fits: tuple[LoraFit, ...] = ()

    # Loading. `sources` maps the parts of a catalogue entry to folders, files or hub ids.

    @classmethod
    @abstractmethod
    def from_pretrained(cls, *, device: str, dtype: torch.dtype, **sources: str | Sequence[str]) -> Backbone:
        """Loads the model.

        Args:
            device: "cuda", "cuda:1", "mps" or "cpu".
            dtype: The dtype of the networks.
            sources: The model's parts by name, and `loras` (a sequence) and `variant`, if chosen.

        Raises:
            ModelError: A part is missing or damaged, or the parts do not fit together.
        """

    @staticmethod
    @abstractmethod
    def read_defaults(**sources: str) -> Defaults:
        """Reads the model's defaults and limits from its configuration files, without its weights.

        Raises:
            ModelError: The model cannot be found or is unsupported, or a configuration is missing or damaged.
        """

    @staticmethod
    def read_vocabulary(**sources: str) -> Vocabulary | None:  # noqa: ARG004
        """Reads the model's vocabulary. Returns None if the model was trained on arbitrary text."""
        return None

    @staticmethod
    def read_tokenizer(**sources: str) -> PreTrainedTokenizerBase | None:  # noqa: ARG004
        """Loads the tokenizer that determines where prompts are cut off (`vocabulary.cut_off`).

        Returns None if prompts are never cut off.
        """
        return None

    @classmethod
    def reads_long_prompts(cls, **sources: str) -> bool:  # noqa: ARG003
        """Returns whether the model reads prompts beyond its text encoder's context."""
        return False

    def compile(self) -> None:  # noqa: B027  not every model gets faster
        """Compiles the networks with `torch.compile` if it speeds them up. Called after loading, if at all."""

    def begin_run(self) -> None:  # noqa: B027  only models with several memory modes need it
        """Prepares the backbone for a run. Called at the start of each run."""

    # Text

    @abstractmethod
    def encode_prompt(self, prompt: str, negative_prompt: str) -> EncodedPrompt:
        """Encodes the prompt and the negative prompt for `predict`. Called once per run."""

    def condition(self, prompt_embeds: EncodedPrompt, anchor: Tensor) -> EncodedPrompt:
        """Adds the anchor, latents [1, C, 1, h, w], to the encoded prompt of an image-to-video model.

        Other models return the encoded prompt unchanged.
        """
        return prompt_embeds

    # Diffusion

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Returns the shape (C, h, w) of one frame of latents for `height` x `width` pixels."""

    @abstractmethod
    def sampler(
        self, name: str, num_inference_steps: int, last: int | None = None, starts_from_video: bool = False
    ) -> Sampler:
        """Creates a new sampler.

        Args:
            name: One of `defaults.samplers`.
            num_inference_steps: The number of steps of the full schedule.
            last: The number of steps to keep at the clean end; None keeps all.
            starts_from_video: Whether sampling starts from a video with added noise rather than pure noise.
                A schedule that would begin with pure noise then begins at `max_noise_level`.
        """

    @abstractmethod
    def predict(
        self, latents: Tensor, level: NoiseLevel, prompt_embeds: EncodedPrompt, guidance_scale: float
    ) -> Prediction:
        """Runs the network at a noise level, with classifier-free guidance.

        Args:
            latents: The noisy latents, [B, C, F, h, w]. With F = 1 they are images.
            level: The noise level of the latents.
            prompt_embeds: The encoded prompt.
            guidance_scale: The guidance scale. Values up to 1 turn guidance off and skip the unconditional
                prediction.
        """

    def ni_vsds_levels(self, name: str, num_inference_steps: int) -> Sequence[NoiseLevel]:
        """Returns the noise levels for NI-VSDS, which uses only the first ones.

        Args:
            name: The name of the sampler.
            num_inference_steps: The number of steps of the full schedule.
        """
        return self.sampler(name, num_inference_steps).levels

    def ni_vsds_step_size(self, index: int) -> float:
        """Returns the step size of equation 5 for NI-VSDS step `index`, counted from 0."""
        return self.step_sizes[min(index, len(self.step_sizes) - 1)]

    # Images and videos

    def still_video(self, anchor: Tensor, num_frames: int) -> Tensor:
        """Repeats the latents of images, [B, C, 1, h, w], to make still videos of T frames, [B, C, F, h, w]."""
        return anchor.repeat(1, 1, num_frames, 1, 1)

    @abstractmethod
    def encode(self, image: np.ndarray) -> Tensor:
        """Encodes an image, uint8 [H, W, 3], to latents [1, C, 1, h, w] deterministically."""

    @abstractmethod
    def decode(self, latents: Tensor) -> np.ndarray:
        """Decodes latents [B, C, F, h, w] to uint8 frames [B, T, H, W, 3]."""

    def preview(self, latents: Tensor) -> np.ndarray:
        """Decodes a small version of a video quickly.

        Args:
            latents: The predicted clean latents, [1, C, F, h, w].

        Returns:
            The frames, uint8 [T, H, W, 3]; H and W may differ from the video's.
        """
        return self.decode(shrunk(latents))[0]


def shrunk(latents: Tensor) -> Tensor:
    """Scales latents [1, C, F, h, w] down to at most `PREVIEW_SIDE` per side, for fast decoding."""
    scale = PREVIEW_SIDE / max(latents.shape[3:])
    if scale >= 1:
        return latents
    height, width = (round(side * scale) for side in latents.shape[3:])
    return F.adaptive_avg_pool2d(latents[0].transpose(0, 1), (height, width)).transpose(0, 1)[None]


def from_uint8(image: np.ndarray, device: torch.device) -> Tensor:
    """Converts an image, uint8 [H, W, 3], to float32 pixels [1, 3, H, W] in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(device)
    return pixels.float() / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """Converts pixels in -1..1 to uint8, in the same shape."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
