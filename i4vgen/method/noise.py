"""The random numbers of a run, drawn on the CPU from its seed."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


class Noise:
    """The random numbers of a run, float32 on the CPU.

    A seed determines one video noise, whose frame k is the k-th draw. Candidate k and frame k of the vanilla
    video both start from that frame, so videos of one seed are comparable. All other noise comes from
    independent streams, so the animation of an anchor does not depend on the number of candidates.

    Args:
        seed: The seed, from 0 to 2**63 - 1.
        shape: The shape (C, F, h, w) of a video's latents.
    """

    def __init__(self, seed: int, shape: tuple[int, int, int, int]):
        self.seed = seed
        self.shape = shape

    def frames(self, start: int, stop: int) -> Tensor:
        """Draws the noise of frames start to stop - 1 as single images, [stop - start, C, 1, h, w].

        A larger `stop`, even beyond F, continues the same stream.
        """
        channels, _, height, width = self.shape
        generator = torch.Generator().manual_seed(self.seed)
        draws = [torch.randn(1, channels, height, width, generator=generator) for _ in range(stop)]
        return torch.cat(draws[start:]).unsqueeze(2)

    @property
    def initial(self) -> Tensor:
        """The noise of the first F frames as a video, [1, C, F, h, w], from which comparisons start."""
        return self.frames(0, self.shape[1]).permute(2, 1, 0, 3, 4)

    def fresh(self, name: str) -> Tensor:
        """Draws the noise of the independent random stream `name`, [1, C, F, h, w]."""
        return torch.randn(1, *self.shape, generator=self.generator(name))

    def generator(self, name: str) -> torch.Generator:
        """Returns an independent random stream, seeded with a hash of the seed and the name."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
