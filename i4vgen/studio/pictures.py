"""Prepares pictures and frames for the browser. Does not import Gradio."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

PREVIEW_SIDE = 256
"""Maximum longer side of a preview in pixels. A preview is visible for about a second."""

CROP_SIDE = 480
"""Maximum longer side in pixels of the picture that shows a crop."""


def webp(image: Image.Image, **options: object) -> str:
    """Encodes a picture as WebP in base64, with Pillow's save options."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def data_uri(image: Image.Image, **options: object) -> str:
    """Encodes a picture as a WebP data URI, with Pillow's save options."""
    return f"data:image/webp;base64,{webp(image, **options)}"


def film_strip(frames: np.ndarray) -> str:
    """Encodes uint8 frames [F, H, W, 3] side by side in one picture, as a WebP data URI.

    The style sheet animates the strip. Unlike an animated file, its loop does not restart with the next
    preview, and no file stays on disk.
    """
    height, width = frames.shape[1:3]
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    strip = Image.fromarray(np.concatenate(list(frames), axis=1))
    if scale < 1:
        size = (round(width * scale) * len(frames), round(height * scale))
        strip = strip.resize(size, Image.Resampling.BILINEAR)
    return data_uri(strip, quality=85, method=0)


def crop_view(image: Image.Image, height: int, width: int, position: float) -> np.ndarray:
    """Darkens the parts of a picture that `media.fit_picture` cuts off. Returns uint8 [h, w, 3].

    Args:
        image: The picture, in RGB.
        height: The height of the video in pixels.
        width: The width of the video in pixels.
        position: The position of the crop, 0 to 1.
    """
    scale = min(1.0, CROP_SIDE / max(image.size))
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    side = min(image.width / width, image.height / height)
    box = round(side * width), round(side * height)
    left, top = round((image.width - box[0]) * position), round((image.height - box[1]) * position)
    view = Image.blend(image, Image.new("RGB", image.size), 0.7)
    where = (left, top, left + box[0], top + box[1])
    view.paste(image.crop(where), where)
    return np.array(view)
