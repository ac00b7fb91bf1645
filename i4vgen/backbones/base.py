"""What the package asks of a video model.

Everything in which model families differ lives behind this protocol: how weights are loaded, the noise
schedule, how a still video is made, how latents become pixels. What a model was trained to predict is its
`Prediction`'s secret: the pipeline asks that for noise or clean latents, and the sampler for the model's own
output, so that models of noise, of v and of flows fit alike.

A model family is one class with these methods, and one entry of `catalog.MODELS`. A class that derives from
`Backbone` inherits the methods below that have a body.

Shapes: B batch, C latent channels, F frames of latents, h x w latent size, T frames of pixels, H x W pixels. F
is T unless the VAE compresses time (`Defaults.latent_frames`). Latents are float32 whatever the dtype of the
networks, so that no precision is lost between two forward passes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerBase

from i4vgen.backbones.memory import Memory
from i4vgen.backbones.prediction import NoiseLevel, Prediction
from i4vgen.generation_config import Defaults
from i4vgen.vocabulary import Vocabulary

PREVIEW_SIDE = 32  # latents

PromptEmbeds = Any
"""An encoded prompt. Only the backbone that made it looks inside."""


class Sampler(Protocol):
    """The way of one stage from noise to clean latents. Made for that stage: some samplers remember.

    Attributes:
        levels: The noise level of every step, from noisy to clean.
    """

    levels: Sequence[NoiseLevel]

    @abstractmethod
    def step(self, prediction: Prediction, generators: list[torch.Generator]) -> torch.Tensor:
        """One step, to the next of `levels`. To be called for each of them in turn.

        Args:
            prediction: Of the latents [B, C, F, h, w] at the level of this step.
            generators: One per batch entry, on the CPU, for samplers that add noise.

        Returns:
            The latents after the step, [B, C, F, h, w].
        """
        ...


class Backbone(Protocol):
    """A video model that also draws single images with the same weights.

    Attributes:
        image_to_video: Whether its videos show an anchor (`condition`). Of the class: read before loading.
        half: The half precision of its networks on a GPU. Likewise of the class.
        defaults: What it is best run with, and its limits.
        noisiest: The noisiest level of its schedule at which a trace of a video is left.
        device: Where it computes.
        dtype: The precision of its networks.
        memory: How much of it is on the device at once, for run.json.
    """

    image_to_video: bool = False
    half: torch.dtype = torch.float16
    defaults: Defaults
    noisiest: NoiseLevel
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

    @staticmethod
    def read_tokenizer(**sources: str) -> PreTrainedTokenizerBase | None:  # noqa: ARG004
        """What tells how far the model reads (`vocabulary.cut_off`); None if it reads texts of any length."""
        return None

    def compile(self) -> None:
        """Compiles the networks with `torch.compile`, if that makes them faster. Called once after loading."""

    # Text

    @abstractmethod
    def encode_prompt(self, prompt: str, negative_prompt: str) -> PromptEmbeds:
        """The prompt as `predict` wants it. Called once per run."""
        ...

    def condition(self, prompt_embeds: PromptEmbeds, anchor: torch.Tensor) -> PromptEmbeds:
        """The prompt for a video of this anchor, latents [1, C, 1, h, w]. Image-to-video models add the anchor
        to it; a text-to-video model returns the prompt as it is.
        """
        return prompt_embeds

    # Diffusion

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of one frame of latents, for `height` x `width` pixels."""
        ...

    @abstractmethod
    def sampler(
        self, name: str, num_inference_steps: int, last: int | None = None, noised: bool = False
    ) -> Sampler:
        """A fresh sampler.

        Args:
            name: One of `defaults.samplers`.
            num_inference_steps: How many steps its schedule is divided into.
            last: Keep only this many of the steps, the cleanest; None keeps all.
            noised: Whether it starts from a video that noise was added to, not from noise alone. Where the
                schedule begins with noise alone, that takes one that begins at `noisiest`.
        """
        ...

    @abstractmethod
    def predict(
        self, latents: torch.Tensor, level: NoiseLevel, prompt_embeds: PromptEmbeds, guidance_scale: float
    ) -> Prediction:
        """What the model predicts for latents at a noise level, with classifier-free guidance.

        Args:
            latents: [B, C, F, h, w]. F = 1 draws images.
            guidance_scale: At most 1 means no guidance, for which no unconditional prediction is needed.
        """
        ...

    def ni_vsds_levels(self, name: str, num_inference_steps: int) -> Sequence[NoiseLevel]:
        """The noise levels that NI-VSDS takes the first of. Arguments as for `sampler`."""
        return self.sampler(name, num_inference_steps).levels

    def ni_vsds_step_size(self, index: int) -> float:
        """The step size of equation 5 at NI-VSDS step `index`, counted from 0."""
        return 1.0

    # Images and videos

    def still_video(self, anchor: torch.Tensor, num_frames: int) -> torch.Tensor:
        """An image's latents [B, C, 1, h, w] as those of T frames in which nothing moves, [B, C, F, h, w]."""
        return anchor.repeat(1, 1, num_frames, 1, 1)

    @abstractmethod
    def encode(self, image: np.ndarray) -> torch.Tensor:
        """An image, uint8 [H, W, 3], as latents [1, C, 1, h, w]. Deterministic."""
        ...

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Latents [B, C, F, h, w] as uint8 frames [B, T, H, W, 3]."""
        ...

    def preview(self, latents: torch.Tensor) -> np.ndarray:
        """A sketch of a video under way, in little time.

        Args:
            latents: Clean as far as the model can tell, [1, C, F, h, w].

        Returns:
            uint8 frames [T, H, W, 3] of any size.
        """
        return self.decode(shrunk(latents))[0]


def shrunk(latents: torch.Tensor) -> torch.Tensor:
    """Latents [1, C, F, h, w] scaled down to at most `PREVIEW_SIDE` a side: decoding large ones is slow."""
    scale = PREVIEW_SIDE / max(latents.shape[3:])
    if scale >= 1:
        return latents
    height, width = (round(side * scale) for side in latents.shape[3:])
    return F.adaptive_avg_pool2d(latents[0].transpose(0, 1), (height, width)).transpose(0, 1)[None]
