"""The random numbers of one run, all of them drawn on the CPU from its seed."""

from __future__ import annotations

import hashlib
from typing import Protocol

import torch


class Noise(Protocol):
    """The random numbers of one run.

    Shapes: C channels, h x w the size of the latents, F frames of latents. Everything is float32 on the CPU.
    """

    def frames(self, start: int, stop: int) -> torch.Tensor:
        """The noise of frames start to stop - 1 as single images, [stop - start, C, 1, h, w]."""
        ...

    def fresh(self, name: str, latent_frames: int) -> torch.Tensor:
        """Independent noise for the stage `name`, [1, C, F, h, w]."""
        ...

    def generator(self, name: str) -> torch.Generator:
        """An independent random stream, for a sampler that adds noise."""
        ...


def video_noise(noise: Noise, latent_frames: int) -> torch.Tensor:
    """The noise of the first frames as a video, [1, C, F, h, w]: where videos without I4VGen start."""
    return noise.frames(0, latent_frames).permute(2, 1, 0, 3, 4)


class SeedNoise:
    """The noise that a seed determines. Implements `Noise`.

    One seed draws one video noise: the k-th draw is the noise of frame k. Candidate k starts from it, and so
    does the vanilla video, which makes videos of one seed comparable. All other noise comes from independent
    streams, so the animation of an anchor does not depend on the number of candidates.
    """

    def __init__(self, seed: int, shape: tuple[int, int, int]):
        """
        Args:
            seed: From 0 to 2**63 - 1.
            shape: (C, h, w) of one frame's latents.
        """
        self.seed = seed
        self.shape = shape

    def frames(self, start: int, stop: int) -> torch.Tensor:
        """See `Noise.frames`. A later call with a larger `stop` continues the same stream."""
        generator = torch.Generator().manual_seed(self.seed)
        draws = [torch.randn(1, *self.shape, generator=generator) for _ in range(stop)]
        return torch.cat(draws[start:]).unsqueeze(2)

    def fresh(self, name: str, latent_frames: int) -> torch.Tensor:
        """See `Noise.fresh`."""
        channels, height, width = self.shape
        return torch.randn(1, channels, latent_frames, height, width, generator=self.generator(name))

    def generator(self, name: str) -> torch.Generator:
        """See `Noise.generator`. The seed and the name are hashed, so that no two seeds share a stream."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
