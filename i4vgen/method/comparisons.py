"""The comparisons: the same model without I4VGen, from the same prompt and the same noise.

To add a comparison, add an entry to `COMPARISONS`, which the pipeline, the command line, run files, the app and
ZeroGPU's time limit all read. Importing this module must not import torch, because the command line's help
reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from i4vgen.bounds import shown
from i4vgen.config import Defaults, GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.method.sampling import Step, denoise

if TYPE_CHECKING:
    from torch import Tensor

    from i4vgen.backbones.base import Backbone
    from i4vgen.method.inputs import RunInputs

FREE_INIT_ITERATIONS = 3  # diffusers' default; the authors recommend 3 to 5


@dataclass(frozen=True)
class Comparison:
    """A method that makes a video with the backbone alone.

    Attributes:
        name: The name of the method, which its stage and its video share.
        label: The name that users see.
        hint: A short description.
        steps: Returns the number of steps that `sample` yields for a configuration.
        sample: Yields the denoising steps of a video, [1, C, F, h, w].
    """

    name: str
    label: str
    hint: str
    steps: Callable[[GenerationConfig], int]
    sample: Callable[[Backbone, RunInputs], Iterator[Step]]


def vanilla(backbone: Backbone, inputs: RunInputs) -> Iterator[Step]:
    """Denoises the run's video noise with the plain backbone."""
    return _denoise(backbone, inputs, inputs.noise.initial.to(backbone.device), "vanilla")


def free_init(backbone: Backbone, inputs: RunInputs) -> Iterator[Step]:
    """Runs FreeInit (arXiv 2312.07537), which denoises the video several times.

    The first pass starts from the same noise as the vanilla video. Each further pass starts from the low
    frequencies of the previous video, with noise added, and the high frequencies of fresh noise.
    """
    from i4vgen.method.free_init import mix_frequencies  # imports torch

    initial = latents = inputs.noise.initial.to(backbone.device)
    for iteration in range(FREE_INIT_ITERATIONS):
        if iteration:
            noisy = backbone.max_noise_level.add_noise(latents, initial)
            fresh = inputs.noise.fresh(f"freeinit {iteration}").to(initial.device)
            latents = mix_frequencies(noisy, fresh)
        for step in _denoise(backbone, inputs, latents, f"freeinit {iteration}", iteration > 0):
            latents = step.latents
            yield step


def _denoise(
    backbone: Backbone, inputs: RunInputs, latents: Tensor, stream: str, starts_from_video: bool = False
) -> Iterator[Step]:
    """Denoises latents [1, C, F, h, w] with all steps.

    Args:
        backbone: The video model.
        inputs: The run's inputs.
        latents: The noisy latents to start from.
        stream: A name that identifies the random stream for the noise that the sampler adds.
        starts_from_video: Whether the latents are a noisy video rather than pure noise.
    """
    return denoise(
        backbone,
        latents,
        backbone.sampler(*inputs.config.baseline_sampling, starts_from_video=starts_from_video),
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
            "same prompt, same seed, its noise refined in three passes",
            lambda config: FREE_INIT_ITERATIONS * config.baseline_sampling.steps,
            free_init,
        ),
    )
}
"""The comparisons by name, in the order in which they are run and shown."""


def find_comparisons(names: str | Iterable[str]) -> list[Comparison]:
    """Returns the named comparisons, each once, in the order of `COMPARISONS`.

    Raises:
        InvalidInputError: `names` is not iterable, or contains an unknown name.
    """
    if not isinstance(names, Iterable):
        raise InvalidInputError(f"compare must be a list of names, not {shown(names)}")
    names = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in names if name not in list(COMPARISONS)]:  # names may be unhashable
        known = " and ".join(COMPARISONS)
        raise InvalidInputError(f"cannot compare with {shown(unknown[0])}: only with {known}")
    return [comparison for name, comparison in COMPARISONS.items() if name in names]


def stage_work(
    config: GenerationConfig, compare: Iterable[str], defaults: Defaults, has_reward: bool
) -> dict[str, int]:
    """Returns the work of each stage: latent frames passed through the network, times the pixels of a frame.

    Classifier-free guidance doubles the work, and `animate_best` multiplies the work of stage 2.

    Args:
        config: The run's configuration.
        compare: Names from `COMPARISONS`.
        defaults: The model's defaults.
        has_reward: Whether there is a reward model. Without one, presets finish all candidates.
    """
    steps = {
        "ni_vsds": config.animate_best * config.ni_vsds_steps,
        "regeneration": config.animate_best * config.regeneration_steps,
    }
    steps |= {comparison.name: comparison.steps(config) for comparison in find_comparisons(compare)}
    latent_frames = defaults.latent_frames(config.num_frames)
    frames = {"candidates": config.image_steps(config.num_candidates, has_reward)}
    frames |= {stage: count * latent_frames for stage, count in steps.items()}
    passes = 2 if config.guidance_scale > 1 else 1
    return {stage: passes * count * config.height * config.width for stage, count in frames.items()}


def work(
    config: GenerationConfig, compare: Iterable[str], defaults: Defaults, has_reward: bool, anchors: int = 1
) -> int:
    """Returns the maximum work of a whole run, in the unit of `stage_work`.

    Args:
        config, compare, defaults, has_reward: The arguments of `stage_work`.
        anchors: The number of anchors to animate. Each is counted with its own comparisons, because those
            of image-to-video models depend on the anchor.
    """
    stages = stage_work(config, compare, defaults, has_reward)
    return stages.pop("candidates") + anchors * sum(stages.values())
