"""Clean latents and noise follow from what any kind of model predicts."""

from __future__ import annotations

import pytest
import torch

from i4vgen.backbones.prediction import EpsilonPrediction, FlowPrediction, NoiseLevel, Prediction, VPrediction

CLEAN, NOISE = torch.randn(2, 1, 4, 3, 8, 6, generator=torch.Generator().manual_seed(0))


def perfect(kind: type[Prediction], level: NoiseLevel) -> Prediction:
    """What a model without error predicts."""
    output = {
        EpsilonPrediction: NOISE,
        VPrediction: level.alpha * NOISE - level.sigma * CLEAN,
        FlowPrediction: NOISE - CLEAN,
    }[kind]
    return kind(level, level.add_noise(CLEAN, NOISE), output)


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        (EpsilonPrediction, NoiseLevel.of_alpha_bar(961, 0.0025)),
        (VPrediction, NoiseLevel.of_alpha_bar(500, 0.4)),
        (VPrediction, NoiseLevel.of_alpha_bar(999, 0.0)),
        (FlowPrediction, NoiseLevel.of_flow(600.0, 0.6)),
        (FlowPrediction, NoiseLevel.of_flow(1000.0, 1.0)),
        (FlowPrediction, NoiseLevel.of_flow(0.0, 0.0)),
    ],
)
def test_every_kind_of_prediction_gives_noise_and_clean_latents(kind, level):
    prediction = perfect(kind, level)
    tolerance = 1e-6 / level.alpha if kind is EpsilonPrediction else 1e-6
    torch.testing.assert_close(prediction.clean, CLEAN, atol=tolerance, rtol=1e-5)
    torch.testing.assert_close(prediction.noise, NOISE, atol=1e-6, rtol=1e-5)


def test_the_weight_is_the_share_of_noise_in_the_variance():
    assert NoiseLevel.of_alpha_bar(300, 0.3).weight == pytest.approx(0.7, rel=1e-12)
    assert NoiseLevel.of_flow(1000.0, 1.0).weight == 1 and NoiseLevel.of_flow(0.0, 0.0).weight == 0
    # Levels with the same ratio of signal to noise are the same level, whatever they are called.
    alpha, sigma = 0.3**0.5, 0.7**0.5
    assert NoiseLevel.of_flow(0.0, sigma / (alpha + sigma)).weight == pytest.approx(0.7)
