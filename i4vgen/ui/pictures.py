"""Frames on their way to the browser. No Gradio here."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

PREVIEW_SIDE = 256
"""A preview is sent at most this many pixels wide: it is looked at for a second, then replaced."""

SHARP_BELOW = 160
"""Frames up to this side are sent lossless: they are enlarged on the screen, so every pixel is seen."""

SHOWN_SIDE = 512
"""About how large a video is in the player."""


def film_strip(frames: np.ndarray) -> str:
    """All frames [F, H, W, 3] side by side in one picture, as a data URI (WebP).

    One still picture that the style sheet moves along: unlike an animated file its loop does not start over
    when the next preview replaces it, and nothing is left on the disk.
    """
    height, width = frames.shape[1:3]
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    strip = Image.fromarray(np.concatenate(list(frames), axis=1))
    if scale < 1:
        size = (round(width * scale) * len(frames), round(height * scale))
        strip = strip.resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    if max(height, width) <= SHARP_BELOW:
        strip.save(buffer, "WEBP", lossless=True, method=0)
    else:
        strip.save(buffer, "WEBP", quality=80, method=0)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def is_small(height: int, width: int) -> bool:
    """Whether pictures of this size are enlarged so much on a screen that their pixels should stay crisp."""
    return max(height, width) <= SHARP_BELOW


def enlarge(frames: np.ndarray) -> np.ndarray:
    """Small frames [F, H, W, 3] with every pixel made a square of pixels. Larger ones are left alone."""
    height, width = frames.shape[1:3]
    if not is_small(height, width):
        return frames
    factor = max(1, SHOWN_SIDE // max(height, width))
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)
