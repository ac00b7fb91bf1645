"""Equation 5, checked by hand on a model whose noise prediction is known."""

import itertools
import math
from fractions import Fraction

import torch

from i4vgen.ni_vsds import ni_vsds


class KnownModel:
    """Predicts half of what it sees; its noise level is t / 10."""

    def add_noise(self, latents, noise, t):
        return latents + t * noise

    def noise_level(self, t):
        return t / 10

    def predict_noise(self, latents, t, prompt, guidance_scale):
        return latents / 2

    def ni_vsds_step_size(self, index):
        return [10, 1][index]


def test_every_step_follows_equation_5():
    start, noise = torch.full((1, 2, 3, 1, 1), 4.0), torch.ones(1, 2, 3, 1, 1)
    first, second = ni_vsds(KnownModel(), start, noise, [6, 4], "prompt", 1.0)
    # z - 10 * 0.6 * ((z + 6) / 2 - 1) = 4 - 6 * 4 = -20
    assert torch.all(first.latents == -20)
    assert (first.index, first.timestep, first.weight) == (0, 6, 0.6)
    assert abs(first.update - 24) < 1e-5
    # -20 - 1 * 0.4 * ((-20 + 4) / 2 - 1) = -20 + 3.6
    assert torch.allclose(second.latents, torch.tensor(-16.4))
    assert torch.all(start == 4), "the still video must not change under the sampler"


def test_a_step_that_stands_for_two_goes_as_far_as_both_together():
    class Towards:
        """Predicts the same clean latents, 0, whatever it sees."""

        alpha_bar = 0.9

        def add_noise(self, latents, noise, t):
            return math.sqrt(self.alpha_bar) * latents + math.sqrt(1 - self.alpha_bar) * noise

        def noise_level(self, t):
            return 1 - self.alpha_bar

        def predict_noise(self, latents, t, prompt, guidance_scale):
            return latents / math.sqrt(1 - self.alpha_bar)

        def ni_vsds_step_size(self, index):
            return [2, 1, 0.5, 0.25, 0.125][index]

    start, noise = torch.full((1, 1, 1, 1, 1), 4.0), torch.ones(1, 1, 1, 1, 1)
    *_, single = ni_vsds(Towards(), start, noise, range(5), None, 1.0)
    *_, joint = ni_vsds(Towards(), start, noise, range(2), None, 1.0, Fraction(5, 2))
    torch.testing.assert_close(joint.latents, single.latents)


def test_a_step_is_only_computed_when_asked_for():
    steps = ni_vsds(KnownModel(), torch.ones(1), torch.ones(1), itertools.chain([2], _never()), None, 1.0)
    assert next(steps).index == 0


def _never():
    raise AssertionError("the sampler ran ahead")
    yield
