"""The random numbers of one run, all of them drawn on the CPU from its seed."""

from __future__ import annotations

import hashlib

import torch


class SeedNoise:
    """All noise of one run, drawn on the CPU from its seed.

    One seed draws one video noise: the k-th draw is the noise of frame k. Candidate k starts from it, and so
    does the vanilla video, which is what makes a comparison under one seed mean something. Everything else
    has a random stream of its own: how an anchor is animated does not depend on the number of candidates.
    """

    def __init__(self, seed: int, shape: tuple[int, int, int]):
        """shape: (C, h, w) of one frame's latents."""
        self.seed = seed
        self.shape = shape

    def frames(self, start: int, stop: int) -> torch.Tensor:
        """The video noise of frames start to stop - 1 as single images, [stop - start, C, 1, h, w]."""
        generator = torch.Generator().manual_seed(self.seed)
        draws = [torch.randn(1, *self.shape, generator=generator) for _ in range(stop)]
        return torch.cat(draws[start:]).unsqueeze(2)

    def fresh(self, name: str, num_frames: int) -> torch.Tensor:
        """Noise of its own for the stage `name`, [1, C, F, h, w]."""
        channels, height, width = self.shape
        return torch.randn(1, channels, num_frames, height, width, generator=self.generator(name))

    def generator(self, name: str) -> torch.Generator:
        """A random stream of its own, derived from the seed and a name; hashed, so that seeds share none."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
