"""The frequency filter of FreeInit (arXiv 2312.07537); `comparisons.free_init` is the method."""

from __future__ import annotations

import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin

# diffusers' defaults, which are the authors'.
ORDER = 4
STOP_FREQUENCY = 0.25  # in space and in time, as a share of the band


class FrequencyMixer(FreeInitMixin):
    """diffusers' filter, without the pipeline that it is usually mixed into."""

    def __init__(self, shape: torch.Size, device: torch.device):
        """
        Args:
            shape: Of the latents, [B, C, F, h, w].
            device: Where the latents are.
        """
        self._low_pass = self._get_free_init_freq_filter(
            (1, 1, *shape[2:]), str(device), "butterworth", ORDER, STOP_FREQUENCY, STOP_FREQUENCY
        )

    def mix(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """The low frequencies of one and the high ones of the other, all [B, C, F, h, w]."""
        return self._apply_freq_filter(low, high, self._low_pass)
