"""The frequency filter of FreeInit (arXiv 2312.07537); `comparisons.free_init` runs the method."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fft import fftn, ifftn, ifftshift

# The authors' and diffusers' defaults.
ORDER = 4
STOP_FREQUENCY = 0.25  # in space and in time, as a share of the band

VIDEO = (-3, -2, -1)


def mix_frequencies(low: Tensor, high: Tensor) -> Tensor:
    """Combines the low frequencies of one video with the high ones of another by a Butterworth filter.

    Args:
        low: The video with the low frequencies, [B, C, F, h, w]. The result has the same shape.
        high: The video with the high frequencies, of the same shape.
    """
    # From -1 to just below 1, as in the authors' code. For odd sizes, no frequency is exactly 0.
    axes = [2 * torch.arange(size, dtype=torch.float64) / size - 1 for size in low.shape[-3:]]
    distance = sum(axis.square() for axis in torch.meshgrid(*axes, indexing="ij"))
    passed = 1 / (1 + (distance / STOP_FREQUENCY**2) ** ORDER)
    passed = ifftshift(passed, dim=VIDEO).to(low.device, torch.float32)
    return ifftn(passed * fftn(low, dim=VIDEO) + (1 - passed) * fftn(high, dim=VIDEO), dim=VIDEO).real
