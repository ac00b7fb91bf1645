"""FreeInit (arXiv 2312.07537), a baseline: a video is drawn several times, and each time starts from the low
frequencies of the last one, noised again, and from the high frequencies of fresh noise.
"""

from __future__ import annotations

import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin

ITERATIONS = 3  # the first one is the vanilla video; these are diffusers' defaults, which are the authors'
ORDER = 4
STOP_FREQUENCY = 0.25  # in space and in time, as a share of the band


class FrequencyMixer(FreeInitMixin):
    """diffusers' filter, without the pipeline that it is usually mixed into."""

    def __init__(self, shape: torch.Size, device: torch.device):
        """shape: of latents, [B, C, F, h, w]."""
        self._low_pass = self._get_free_init_freq_filter(
            (1, 1, *shape[2:]), device, "butterworth", ORDER, STOP_FREQUENCY, STOP_FREQUENCY
        )

    def mix(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """The low frequencies of one and the high ones of the other, all [B, C, F, h, w]."""
        return self._apply_freq_filter(low, high, self._low_pass)
