"""Noise levels and model predictions in all parametrisations.

All latents and noise are [B, C, F, h, w].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class NoiseLevel:
    """A level of a noise schedule: noisy latents are alpha * clean + sigma * noise.

    Attributes:
        timestep: The network's input t; an integer if the schedule is a table.
        alpha: The factor of the clean latents.
        sigma: The factor of the noise.
        weight: The noise's share of the variance, which is the weight 1 - alpha_bar_t in equation 5.
    """

    timestep: float
    alpha: float
    sigma: float
    weight: float

    @classmethod
    def of_alpha_bar(cls, timestep: float, alpha_bar: float) -> NoiseLevel:
        """Returns the noise level of a variance-preserving diffusion model at alpha_bar_t."""
        return cls(timestep, alpha_bar**0.5, (1 - alpha_bar) ** 0.5, 1 - alpha_bar)

    @classmethod
    def of_flow(cls, timestep: float, sigma: float) -> NoiseLevel:
        """Returns the noise level of a flow model at `sigma`, from 0 (clean) to 1 (pure noise)."""
        return cls(timestep, 1 - sigma, sigma, sigma**2 / ((1 - sigma) ** 2 + sigma**2))

    def add_noise(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Adds noise to clean latents at this level."""
        return self.alpha * latents + self.sigma * noise


@dataclass(frozen=True)
class Prediction(ABC):
    """A model's prediction. Each parametrisation has a subclass.

    Subclasses must not divide by alpha or sigma if it can be 0 at a level of their models.

    Attributes:
        level: The noise level of `noisy`.
        noisy: The noisy latents that the model received.
        output: The raw output of the model, float32.
    """

    level: NoiseLevel
    noisy: Tensor
    output: Tensor

    @property
    @abstractmethod
    def clean(self) -> Tensor:
        """The predicted clean latents."""

    @property
    @abstractmethod
    def noise(self) -> Tensor:
        """The predicted noise, eps in the paper."""


class EpsilonPrediction(Prediction):
    """The prediction of a model trained to predict the noise."""

    @property
    def clean(self) -> Tensor:
        return (self.noisy - self.level.sigma * self.output) / self.level.alpha

    @property
    def noise(self) -> Tensor:
        return self.output


class VPrediction(Prediction):
    """The prediction of a model trained to predict v = alpha * noise - sigma * clean (arXiv 2202.00512)."""

    @property
    def clean(self) -> Tensor:
        return self.level.alpha * self.noisy - self.level.sigma * self.output

    @property
    def noise(self) -> Tensor:
        return self.level.sigma * self.noisy + self.level.alpha * self.output


class FlowPrediction(Prediction):
    """The prediction of a flow model, the velocity noise - clean (arXiv 2210.02747)."""

    @property
    def clean(self) -> Tensor:
        return self.noisy - self.level.sigma * self.output

    @property
    def noise(self) -> Tensor:
        return self.noisy + self.level.alpha * self.output


# Keyed by diffusers' names of the parametrisations.
PREDICTIONS: dict[str, type[Prediction]] = {
    "epsilon": EpsilonPrediction,
    "v_prediction": VPrediction,
    "flow_prediction": FlowPrediction,
}
