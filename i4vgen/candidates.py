"""Candidate images while they are denoised, some at a time (paper, equation 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from i4vgen.backbones.base import Backbone
from i4vgen.inputs import RunInputs
from i4vgen.sampling import DenoiseStep, denoise, make_sampler


class CandidateLatents:
    """The latents of a run's candidates, which begin as the frames of its video noise.

    Every candidate has a random stream of its own: it must not depend on the chunk that it is denoised in.

    Attributes:
        indices: The candidates' indices.
        latents: [C, 1, h, w] on the CPU, by index.
    """

    def __init__(self, backbone: Backbone, inputs: RunInputs, first: int = 0):
        """
        Args:
            first: The index to begin with.
        """
        self.backbone = backbone
        self.inputs = inputs
        self.indices: Sequence[int] = range(first, inputs.config.num_candidates)
        frames = inputs.noise.frames(first, inputs.config.num_candidates)
        self.latents = dict(zip(self.indices, frames, strict=True))
        self.generators = {index: inputs.noise.generator(f"candidate {index}") for index in self.indices}

    def chunks(self, indices: Sequence[int]) -> list[Sequence[int]]:
        """The indices in groups that are denoised together."""
        size = self.inputs.config.candidate_batch_size
        return [indices[start : start + size] for start in range(0, len(indices), size)]

    def denoise(self, chunk: Sequence[int], last: int) -> Iterator[DenoiseStep]:
        """Denoises some candidates with the last so many steps. Their latents [B, C, 1, h, w] are in the steps;
        `latents` stays as it is.
        """
        config = self.inputs.config
        return denoise(
            self.backbone,
            torch.stack([self.latents[index] for index in chunk]).to(self.backbone.device),
            make_sampler(self.backbone, config.sampling, last),
            self.inputs.prompt_embeds,
            config.guidance_scale,
            [self.generators[index] for index in chunk],
        )
