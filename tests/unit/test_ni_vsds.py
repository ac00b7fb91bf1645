"""Equation 5, checked by hand on a model whose noise prediction is known."""

import itertools
from dataclasses import dataclass
from fractions import Fraction

import torch

from i4vgen.backbones.prediction import EpsilonPrediction, NoiseLevel
from i4vgen.method.ni_vsds import ni_vsds
from i4vgen.presets import joint_step_sizes


@dataclass
class KnownLevel:
    """Adds t times the noise; its weight is t / 10."""

    timestep: int

    @property
    def weight(self):
        return self.timestep / 10

    def add_noise(self, latents, noise):
        return latents + self.timestep * noise


class KnownModel:
    """Predicts half of what it sees."""

    def predict(self, latents, level, prompt, guidance_scale):
        return EpsilonPrediction(level, latents, latents / 2)


def test_every_step_follows_equation_5():
    start, noise = torch.full((1, 2, 3, 1, 1), 4.0), torch.ones(1, 2, 3, 1, 1)
    first, second = ni_vsds(KnownModel(), start, noise, [KnownLevel(6), KnownLevel(4)], [10, 1], "prompt", 1.0)
    # z - 10 * 0.6 * ((z + 6) / 2 - 1) = 4 - 6 * 4 = -20
    assert torch.all(first.latents == -20)
    assert (first.level.timestep, first.level.weight) == (6, 0.6)
    assert abs(first.update - 24) < 1e-5
    # -20 - 1 * 0.4 * ((-20 + 4) / 2 - 1) = -20 + 3.6
    assert torch.allclose(second.latents, torch.tensor(-16.4))
    assert torch.all(start == 4), "the still video must not change under the sampler"


def test_a_step_that_stands_for_two_goes_as_far_as_both_together():
    class Towards:
        """Predicts the same clean latents, 0, whatever it sees."""

        def predict(self, latents, level, prompt, guidance_scale):
            return EpsilonPrediction(level, latents, latents / level.sigma)

    level = NoiseLevel.of_alpha_bar(0, 0.9)
    start, noise = torch.full((1, 1, 1, 1, 1), 4.0), torch.ones(1, 1, 1, 1, 1)
    sizes = [2, 1, 0.5, 0.25, 0.125]
    joint_sizes = joint_step_sizes(sizes.__getitem__, [level.weight] * 2, Fraction(5, 2))
    *_, single = ni_vsds(Towards(), start, noise, [level] * 5, sizes, None, 1.0)
    *_, joint = ni_vsds(Towards(), start, noise, [level] * 2, joint_sizes, None, 1.0)
    torch.testing.assert_close(joint.latents, single.latents)


def test_a_step_is_only_computed_when_asked_for():
    levels = itertools.chain([KnownLevel(2)], _never())
    steps = ni_vsds(KnownModel(), torch.ones(1), torch.ones(1), levels, [1, 1], None, 1.0)
    assert next(steps).level.timestep == 2


def _never():
    raise AssertionError("the sampler ran ahead")
    yield
