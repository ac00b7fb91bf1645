"""What the page begins with: a finished run, before and after, in one moving picture that stays in step."""

from __future__ import annotations

import html

import numpy as np
from PIL import Image

from i4vgen.media import described
from i4vgen.recipe import comment_of
from i4vgen.ui import pictures, recipes, strings
from i4vgen.ui.state import Animation

BEFORE, AFTER = "vanilla", "i4vgen"
SIDE = 288
"""Pixels of the longer side of each video, which is shown a little smaller than that."""
GAP = 10  # pixels


def before_and_after(animation: Animation | None) -> str:
    """HTML of the two videos of a run side by side; nothing for a run that lacks one of them."""
    if animation is None:
        return ""
    clips = {clip.name: clip for clip in animation.clips}
    if not {BEFORE, AFTER} <= clips.keys():
        return ""
    pair = [enlarged(clips[name].frames) for name in (BEFORE, AFTER)]
    moving = [beside(before, after) for before, after in zip(*pair, strict=True)]
    duration = round(1000 / clips[AFTER].fps)
    comment = comment_of(recipes.of_animation(animation), (BEFORE, AFTER))
    options = {"quality": 82, "method": 4, "exif": described(comment)}
    film = pictures.data_uri(
        moving[0], save_all=True, append_images=moving[1:], duration=duration, loop=0, **options
    )
    still = pictures.data_uri(moving[len(moving) // 2], **options)
    prompt = html.escape(animation.config.prompt)
    labels = "".join(
        f'<span class="{name}"><b>{strings.clip_label(name)}</b> {hint}</span>'
        for name, hint in ((BEFORE, strings.OPENING_BEFORE), (AFTER, strings.OPENING_AFTER))
    )
    width, height = moving[0].size
    return (
        '<figure class="opening"><picture>'
        f'<source media="(prefers-reduced-motion: reduce)" srcset="{still}">'
        f'<img src="{film}" width="{width}" height="{height}" alt="{strings.OPENING.format(prompt=prompt)}">'
        f'</picture><figcaption><p class="halves">{labels}</p><p class="prompt">\u201c{prompt}\u201d</p>'
        "</figcaption></figure>"
    )


def beside(before: np.ndarray, after: np.ndarray) -> Image.Image:
    """Two frames with a gap between them through which the page is seen."""
    height, width = before.shape[:2]
    picture = Image.new("RGBA", (2 * width + GAP, height))
    picture.paste(Image.fromarray(before), (0, 0))
    picture.paste(Image.fromarray(after), (width + GAP, 0))
    return picture


def enlarged(frames: np.ndarray) -> np.ndarray:
    """Frames [F, H, W, 3] at the size that they are shown at."""
    height, width = frames.shape[1:3]
    scale = SIDE / max(height, width)
    size = round(width * scale), round(height * scale)
    return np.stack([np.array(Image.fromarray(f).resize(size, Image.Resampling.LANCZOS)) for f in frames])
