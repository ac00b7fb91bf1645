"""What I4VGen is compared with: the same model without it, from the same prompt and the same noise.

A comparison is one entry of `COMPARISONS`. The pipeline, the command line, run files, the app and the time that
is asked of ZeroGPU follow from it. The command line's help reads this file, so importing it must not import
torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from i4vgen.bounds import shown
from i4vgen.errors import InvalidInputError
from i4vgen.generation_config import Defaults, GenerationConfig
from i4vgen.sampling import DenoiseStep, denoise, make_sampler

if TYPE_CHECKING:
    import torch

    from i4vgen.backbones.base import Backbone
    from i4vgen.inputs import RunInputs

FREE_INIT_ITERATIONS = 3  # diffusers' default, which is the authors'


@dataclass(frozen=True)
class Comparison:
    """A method that makes a video with the backbone alone.

    Attributes:
        name: Of the method, of its stage and of its video.
        label: What people call it.
        hint: What it is, in a few words.
        steps: The number of denoiser steps that `sample` yields for a configuration.
        sample: Called with the backbone and the run's inputs; yields the steps of a video [1, C, F, h, w].
    """

    name: str
    label: str
    hint: str
    steps: Callable[[GenerationConfig], int]
    sample: Callable[[Backbone, RunInputs], Iterator[DenoiseStep]]


def vanilla(backbone: Backbone, inputs: RunInputs) -> Iterator[DenoiseStep]:
    """The backbone as it is: the run's video noise, denoised."""
    return _denoise(backbone, inputs, inputs.initial_noise.to(backbone.device), "vanilla")


def free_init(backbone: Backbone, inputs: RunInputs) -> Iterator[DenoiseStep]:
    """FreeInit (arXiv 2312.07537): the video is denoised several times. The first pass is the vanilla video;
    every further one starts from the low frequencies of the last one, noised again, and the high frequencies
    of fresh noise.
    """
    from i4vgen.free_init import FrequencyMixer  # imports torch and diffusers

    initial = latents = inputs.initial_noise.to(backbone.device)
    mixer = FrequencyMixer(initial.shape, initial.device)
    for iteration in range(FREE_INIT_ITERATIONS):
        if iteration:
            noisy = backbone.noisiest.add_noise(latents, initial)
            fresh = inputs.fresh_noise(f"freeinit {iteration}")
            latents = mixer.mix(noisy, fresh.to(initial.device))
        noised = iteration > 0
        for step in _denoise(backbone, inputs, latents, f"freeinit {iteration}", noised):
            latents = step.latents
            yield step


def _denoise(
    backbone: Backbone, inputs: RunInputs, latents: torch.Tensor, stream: str, noised: bool = False
) -> Iterator[DenoiseStep]:
    """Denoises video noise [1, C, F, h, w] with all steps. stream: names the noise that its sampler may add.
    noised: whether a trace of a video is in it.
    """
    return denoise(
        backbone,
        latents,
        make_sampler(backbone, inputs.config.baseline_sampling, noised=noised),
        inputs.prompt_embeds,
        inputs.config.guidance_scale,
        [inputs.noise.generator(f"{stream} sampler")],
    )


COMPARISONS: dict[str, Comparison] = {
    comparison.name: comparison
    for comparison in (
        Comparison(
            "vanilla",
            "Vanilla",
            "same prompt, same seed, no anchor",
            lambda config: config.baseline_sampling.steps,
            vanilla,
        ),
        Comparison(
            "freeinit",
            "FreeInit",
            "same prompt, same seed, three passes",
            lambda config: FREE_INIT_ITERATIONS * config.baseline_sampling.steps,
            free_init,
        ),
    )
}
"""By name, in the order in which they are made and shown."""


def find_comparisons(names: str | Iterable[str]) -> list[Comparison]:
    """The comparisons of these names, each once, in the order of `COMPARISONS`.

    Raises:
        InvalidInputError: There is no such comparison.
    """
    if not isinstance(names, Iterable):
        raise InvalidInputError(f"compare must be a list of names, not {shown(names)}")
    names = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in names if name not in list(COMPARISONS)]:  # names may be of any type
        known = " and ".join(COMPARISONS)
        raise InvalidInputError(f"cannot compare with {shown(unknown[0])}: only with {known}")
    return [comparison for name, comparison in COMPARISONS.items() if name in names]


def stage_work(config: GenerationConfig, compare: Iterable[str], defaults: Defaults) -> dict[str, int]:
    """What each stage of a run computes: frames of latents that go through the network, times their pixels.
    With guidance each goes through it twice, with the prompt and without.
    """
    steps = {"ni_vsds": config.ni_vsds_steps, "regeneration": config.regeneration_steps}
    steps |= {comparison.name: comparison.steps(config) for comparison in find_comparisons(compare)}
    latent_frames = defaults.latent_frames(config.num_frames)
    frames = {stage: count * latent_frames for stage, count in steps.items()}
    frames = {"candidates": config.image_steps(config.num_candidates)} | frames
    passes = 2 if config.guidance_scale > 1 else 1
    return {stage: passes * count * config.height * config.width for stage, count in frames.items()}


def work(config: GenerationConfig, compare: Iterable[str], defaults: Defaults, anchors: int = 1) -> int:
    """What a whole run computes at most, in the unit of `stage_work`.

    anchors: how many it animates, each with comparisons of its own, as image-to-video models make them.
    """
    stages = stage_work(config, compare, defaults)
    return stages.pop("candidates") + anchors * sum(stages.values())
