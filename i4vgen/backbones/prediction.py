"""A step of a noise schedule, and what a model predicts there, whatever it was trained to predict.

Shapes: [B, C, F, h, w] for all latents and noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class NoiseLevel:
    """A step of a noise schedule, at which noisy latents are alpha * clean + sigma * noise.

    Attributes:
        timestep: t, what the network is told: a whole number where the schedule is a table, else any number.
        alpha: The amount of signal.
        sigma: The amount of noise.
        weight: The share of noise in the variance: the weight of equation 5, where it is 1 - alpha_bar_t.
    """

    timestep: float
    alpha: float
    sigma: float
    weight: float

    @classmethod
    def of_alpha_bar(cls, timestep: float, alpha_bar: float) -> NoiseLevel:
        """The level that diffusion models call alpha_bar_t: signal and noise together have a variance of 1."""
        return cls(timestep, alpha_bar**0.5, (1 - alpha_bar) ** 0.5, 1 - alpha_bar)

    @classmethod
    def of_flow(cls, timestep: float, sigma: float) -> NoiseLevel:
        """The level of a flow model: a point on the straight line from clean latents (0) to noise (1)."""
        return cls(timestep, 1 - sigma, sigma, sigma**2 / ((1 - sigma) ** 2 + sigma**2))

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Clean latents brought to this level."""
        return self.alpha * latents + self.sigma * noise


@dataclass(frozen=True)
class Prediction(ABC):
    """What a model predicts. There is a subclass for each kind of output; none of them divides by an amount of
    signal or of noise that may be 0 where such a model is asked.

    Attributes:
        level: The noise level of `noisy`.
        noisy: The latents that the model saw.
        output: Its output, float32, in its own terms: what a solver made for these wants.
    """

    level: NoiseLevel
    noisy: torch.Tensor
    output: torch.Tensor

    @property
    @abstractmethod
    def clean(self) -> torch.Tensor:
        """The clean latents."""
        ...

    @property
    @abstractmethod
    def noise(self) -> torch.Tensor:
        """The noise, eps in the paper."""
        ...


class EpsilonPrediction(Prediction):
    """Of a model that predicts the noise."""

    @property
    def clean(self) -> torch.Tensor:
        return (self.noisy - self.level.sigma * self.output) / self.level.alpha

    @property
    def noise(self) -> torch.Tensor:
        return self.output


class VPrediction(Prediction):
    """Of a model that predicts alpha * noise - sigma * clean (arXiv 2202.00512)."""

    @property
    def clean(self) -> torch.Tensor:
        return self.level.alpha * self.noisy - self.level.sigma * self.output

    @property
    def noise(self) -> torch.Tensor:
        return self.level.sigma * self.noisy + self.level.alpha * self.output


class FlowPrediction(Prediction):
    """Of a flow model, which predicts the velocity noise - clean (arXiv 2210.02747)."""

    @property
    def clean(self) -> torch.Tensor:
        return self.noisy - self.level.sigma * self.output

    @property
    def noise(self) -> torch.Tensor:
        return self.noisy + self.level.alpha * self.output


# By the names that diffusers' schedulers have for them.
PREDICTIONS: dict[str, type[Prediction]] = {
    "epsilon": EpsilonPrediction,
    "v_prediction": VPrediction,
    "flow_prediction": FlowPrediction,
}
