"""Denoises candidate images in chunks (paper, equation 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch

from i4vgen.backbones.base import Backbone
from i4vgen.events import Candidate, ranked
from i4vgen.method.inputs import RunInputs
from i4vgen.method.sampling import Step, denoise


class CandidateLatents:
    """The latents of a run's candidates, which start as the frames of its video noise.

    Every candidate has its own random stream, so that its result does not depend on its chunk.

    Args:
        first: The index of the first candidate.

    Attributes:
        indices: The candidates' indices.
        latents: The candidates' latents by index, [C, 1, h, w] on the CPU.
    """

    def __init__(self, backbone: Backbone, inputs: RunInputs, first: int = 0):
        self.backbone = backbone
        self.inputs = inputs
        self.indices = range(first, inputs.config.num_candidates)
        frames = inputs.noise.frames(first, inputs.config.num_candidates)
        self.latents = dict(zip(self.indices, frames, strict=True))
        self.generators = {index: inputs.noise.generator(f"candidate {index}") for index in self.indices}

    def denoise(self, chunk: Sequence[int], remaining: int, steps: int) -> Iterator[Step]:
        """Runs the first `steps` of the `remaining` denoising steps for a chunk of candidates."""
        config = self.inputs.config
        every_step = denoise(
            self.backbone,
            torch.stack([self.latents[index] for index in chunk]).to(self.backbone.device),
            self.backbone.sampler(*config.sampling, last=remaining),
            self.inputs.prompt_embeds,
            config.guidance_scale,
            [self.generators[index] for index in chunk],
        )
        for step in islice(every_step, steps):
            yield step
        self.latents |= zip(chunk, step.latents.cpu(), strict=True)


def best_indices(candidates: Iterable[Candidate], count: int) -> list[int]:
    """Returns the indices of the best `count` candidates, sorted."""
    return sorted(candidate.index for candidate in ranked(candidates)[:count])


def chunks(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    """Splits indices into chunks of at most `size`."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]
