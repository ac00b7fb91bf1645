"""The drawings of the pocket model's subjects: one picture of them all, a row for each, a pose in each tile.

Microsoft's Fluent emoji, animated by artists; `python -m training.draw_atlas` took them from their packages.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from PIL import Image

POSES = 8  # of an animation, equally far apart; a still drawing has one
TILE = 128  # pixels
SIZES = tuple(round(TILE / 2 ** (i / 2)) for i in range(8))
ATLAS = Path(__file__).parent / "atlas.webp"
ROWS = ATLAS.with_suffix(".json")  # the names of the rows, and how many poses each has
LICENSE = ATLAS.with_name("DRAWINGS-LICENSE")


@cache
def mips(name: str, pose: int) -> tuple[Image.Image, ...]:
    """A drawing, alpha premultiplied, at widths 128, 91, 64, ...: the next larger one never aliases."""
    rows = poses_by_name()
    left, top = TILE * (pose % rows[name]), TILE * list(rows).index(name)
    full = atlas().crop((left, top, left + TILE, top + TILE)).convert("RGBa")
    return tuple(full.resize((size, size), Image.Resampling.LANCZOS) for size in SIZES)


@cache
def atlas() -> Image.Image:
    with Image.open(ATLAS) as picture:
        return picture.convert("RGBA")


@cache
def poses_by_name() -> dict[str, int]:
    return json.loads(ROWS.read_text())
