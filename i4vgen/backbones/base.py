"""What the package asks of a video model.

Everything in which model families differ lives behind this protocol: how weights are loaded, the noise
schedule, the prediction target, how a still video is made, how latents become pixels. The pipeline sees noise
predictions and latents only, so a flow-matching model fits as well: it predicts noise as
`latents + (1 - sigma_t) * velocity`, and its `noise_level` is whatever stands for 1 - alpha_bar_t there.

A model family is one class with these methods, and one entry of `catalog.MODELS`. A class that derives from
`Backbone` inherits the methods below that have a body.

Shapes: B batch, C latent channels, F frames, h x w latent size, H x W pixels. Latents are float32 whatever
the dtype of the networks, so that no precision is lost between two forward passes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from i4vgen.backbones.memory import Memory
from i4vgen.generation_config import Defaults
from i4vgen.vocabulary import Vocabulary

PromptEmbeds = Any
"""An encoded prompt. Only the backbone that made it looks inside."""


class Sampler(Protocol):
    """The way of one stage from noise to clean latents. Made for that stage: some samplers remember.

    Attributes:
        timesteps: From noisy to clean.
    """

    timesteps: Sequence[int]

    @abstractmethod
    def step(
        self, noise: torch.Tensor, t: int, latents: torch.Tensor, generators: list[torch.Generator]
    ) -> torch.Tensor:
        """One step, from timestep t to the next.

        Args:
            noise: The noise predicted in `latents`.
            t: One of `timesteps`.
            latents: [B, C, F, h, w].
            generators: One per batch entry, on the CPU, for samplers that add noise.

        Returns:
            The latents after the step, [B, C, F, h, w].
        """
        ...


class Backbone(Protocol):
    """A video model that also draws single images with the same weights.

    Attributes:
        image_to_video: Whether its videos show an anchor (`condition`). Of the class: read before loading.
        defaults: What it is best run with, and its limits.
        noisiest: The last timestep of its schedule, where hardly anything but noise is left.
        device: Where it computes.
        dtype: The precision of its networks.
        memory: How much of it is on the device at once, for run.json.
    """

    image_to_video: bool = False
    defaults: Defaults
    noisiest: int
    device: torch.device
    dtype: torch.dtype
    memory: Memory = Memory.FULL

    # Loading. `sources` are the parts of the catalogue entry, by name: folders or hub ids.

    @classmethod
    @abstractmethod
    def from_pretrained(cls, *, device: str, dtype: torch.dtype, **sources: str | Sequence[str]) -> Backbone:
        """Loads the model.

        Args:
            device: "cuda", "mps" or "cpu".
            dtype: Of the networks.
            sources: Where its parts are. If the entry takes LoRAs and some were chosen, also `loras`, a
                sequence of their names.

        Raises:
            ModelError: Something is missing, damaged or does not fit together.
        """
        ...

    @staticmethod
    @abstractmethod
    def read_defaults(**sources: str) -> Defaults:
        """The model's defaults and limits, from its configuration files: reads no weights.

        Raises:
            ModelError: The model cannot be found.
        """
        ...

    @staticmethod
    def read_vocabulary(**sources: str) -> Vocabulary | None:  # noqa: ARG004
        """All words that the model understands; None if it was trained on any text."""
        return None

    def compile(self) -> None:
        """Compiles the networks with `torch.compile`, if that makes them faster. Called once after loading."""

    # Text

    @abstractmethod
    def encode_prompt(self, prompt: str, negative_prompt: str) -> PromptEmbeds:
        """The prompt as `predict_noise` wants it. Called once per run."""
        ...

    def condition(self, prompt_embeds: PromptEmbeds, anchor: torch.Tensor) -> PromptEmbeds:
        """The prompt for a video of this anchor, latents [1, C, 1, h, w]. Image-to-video models add the anchor
        to it; a text-to-video model returns the prompt as it is.
        """
        return prompt_embeds

    # Diffusion

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of one frame of `height` x `width` pixels."""
        ...

    @abstractmethod
    def sampler(self, name: str, num_inference_steps: int, last: int | None = None) -> Sampler:
        """A fresh sampler.

        Args:
            name: One of `defaults.samplers`.
            num_inference_steps: How many timesteps its schedule is divided into.
            last: Keep only this many of the timesteps, the cleanest; None keeps all.
        """
        ...

    @abstractmethod
    def predict_noise(
        self, latents: torch.Tensor, t: int, prompt_embeds: PromptEmbeds, guidance_scale: float
    ) -> torch.Tensor:
        """The noise in `latents` at timestep t, with classifier-free guidance.

        Args:
            latents: [B, C, F, h, w]. F = 1 draws images: the temporal layers are skipped.
            guidance_scale: At most 1 means no guidance, for which no unconditional prediction is needed.

        Returns:
            float32, of the shape of `latents`.
        """
        ...

    @abstractmethod
    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, t: int) -> torch.Tensor:
        """Clean latents [B, C, F, h, w] brought to timestep t."""
        ...

    @abstractmethod
    def predict_x0(self, latents: torch.Tensor, noise: torch.Tensor, t: int) -> torch.Tensor:
        """The clean latents in `latents` [B, C, F, h, w] at timestep t, given the noise predicted in them. The
        inverse of `add_noise`.
        """
        ...

    @abstractmethod
    def noise_level(self, t: int) -> float:
        """1 - alpha_bar_t, the share of noise in the variance at timestep t: the weight of equation 5."""
        ...

    def ni_vsds_step_size(self, index: int) -> float:
        """The step size of equation 5 at NI-VSDS step `index`, counted from 0."""
        return 1.0

    # Images and videos

    def still_video(self, anchor: torch.Tensor, num_frames: int) -> torch.Tensor:
        """An image's latents [B, C, 1, h, w] as those of a video in which nothing moves, [B, C, F, h, w]."""
        return anchor.repeat(1, 1, num_frames, 1, 1)

    @abstractmethod
    def encode(self, image: np.ndarray) -> torch.Tensor:
        """An image, uint8 [H, W, 3], as latents [1, C, 1, h, w]. Deterministic."""
        ...

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Latents [B, C, F, h, w] as uint8 frames [B, F, H, W, 3]."""
        ...
