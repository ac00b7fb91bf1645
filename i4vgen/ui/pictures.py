"""Frames on their way to the browser. No Gradio here."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

PREVIEW_SIDE = 256
"""A preview is sent at most this many pixels wide: it is looked at for a second, then replaced."""

CROP_SIDE = 480
"""Pixels of the longer side of a picture that shows what is cut off another."""


def webp(image: Image.Image, **options: object) -> str:
    """A picture as WebP, in base64. options: Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def data_uri(image: Image.Image, **options: object) -> str:
    """A picture as an address that holds it (WebP). options: Pillow's."""
    return f"data:image/webp;base64,{webp(image, **options)}"


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
    return data_uri(strip, quality=85, method=0)


def crop_view(image: Image.Image, height: int, width: int, position: float) -> np.ndarray:
    """A picture as a whole, with what `media.fit_picture` cuts off darkened: uint8 [h, w, 3].

    position: see there.
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
