"""The animation at the top of the page: a finished run, without and with I4VGen."""

from __future__ import annotations

import html

import numpy as np
from PIL import Image

from i4vgen.media import comment_exif
from i4vgen.storage.recipe import comment_of
from i4vgen.studio import pictures, strings
from i4vgen.studio.recipes import Recipes
from i4vgen.studio.state import Animation

BEFORE, AFTER = "vanilla", "i4vgen"
SIDE = 288
"""Longer side of each video in pixels."""
GAP = 10  # pixels


def before_and_after(animation: Animation | None, recipes: Recipes) -> str:
    """Returns HTML with a run's `BEFORE` and `AFTER` videos side by side; empty if one is missing."""
    if animation is None:
        return ""
    clips = {clip.name: clip for clip in animation.clips}
    if not {BEFORE, AFTER} <= clips.keys():
        return ""
    pair = [enlarged(clips[name].frames) for name in (BEFORE, AFTER)]
    moving = [beside(before, after) for before, after in zip(*pair, strict=True)]
    duration = round(1000 / clips[AFTER].fps)
    comment = comment_of(recipes.of_animation(animation), (BEFORE, AFTER))
    options = {"quality": 82, "method": 4, "exif": comment_exif(comment)}
    film = pictures.data_uri(
        moving[0], save_all=True, append_images=moving[1:], duration=duration, loop=0, **options
    )
    still = pictures.data_uri(moving[len(moving) // 2], **options)
    prompt = html.escape(animation.config.prompt)
    alt = f"{prompt}: the same model and noise, without I4VGen on the left and with it on the right"
    labels = "".join(
        f'<span class="{name}"><b>{strings.label(name)}</b> {hint}</span>'
        for name, hint in ((BEFORE, "the model as it is"), (AFTER, "the same model, same noise"))
    )
    width, height = moving[0].size
    return (
        '<figure class="opening"><picture>'
        f'<source media="(prefers-reduced-motion: reduce)" srcset="{still}">'
        f'<img src="{film}" width="{width}" height="{height}" alt="{alt}">'
        f'</picture><figcaption><p class="halves">{labels}</p>'
        f'<p class="prompt" dir="auto">\u201c{prompt}\u201d</p></figcaption></figure>'
    )


def beside(before: np.ndarray, after: np.ndarray) -> Image.Image:
    """Joins two frames, uint8 [H, W, 3], side by side with a transparent gap."""
    height, width = before.shape[:2]
    picture = Image.new("RGBA", (2 * width + GAP, height))
    picture.paste(Image.fromarray(before), (0, 0))
    picture.paste(Image.fromarray(after), (width + GAP, 0))
    return picture


def enlarged(frames: np.ndarray) -> np.ndarray:
    """Resizes uint8 frames [F, H, W, 3] so that their longer side has `SIDE` pixels."""
    height, width = frames.shape[1:3]
    scale = SIDE / max(height, width)
    size = round(width * scale), round(height * scale)
    return np.stack([np.array(Image.fromarray(f).resize(size, Image.Resampling.LANCZOS)) for f in frames])
