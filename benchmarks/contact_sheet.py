"""Draws the README's contact sheet from a model's weights: what stage 1 chose, and both videos of its seed.

Its prompts are the first of those that the evidence benchmark measures, with the first of its seeds.

python -m benchmarks.contact_sheet            # -> assets/contact_sheet.webp
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.evidence.prompts import FIRST_SEED, make_prompts
from i4vgen.config import GenerationConfig
from i4vgen.events import Result, Selected
from i4vgen.serving.runtime import Runtime
from training.config import PRESETS
from training.world import full_caption

ROWS = 6
SIDE = 128  # pixels of a picture on the sheet
GAP = 6
GUTTER = 22  # between the three groups of pictures
HEAD = 30
CAPTION = 20
INK, QUIET, PAPER = (32, 33, 36), (110, 112, 118), (255, 255, 255)


def moments(frames: np.ndarray) -> list[np.ndarray]:
    """First, middle and last frame."""
    return [frames[0], frames[len(frames) // 2], frames[-1]]


def draw_row(runtime: Runtime, prompt: str) -> list[np.ndarray]:
    """The anchor, then three moments of vanilla and of I4VGen: seven pictures uint8 [H, W, 3]."""
    config = GenerationConfig.for_model(runtime.defaults, prompt=prompt, seed=FIRST_SEED)
    anchor, videos = None, {}
    for event in runtime.stream(lambda pipeline: pipeline.run(config)):
        if isinstance(event, Selected):
            anchor = event.image
        elif isinstance(event, Result):
            videos[event.name] = event.frames
    return [anchor, *moments(videos["vanilla"]), *moments(videos["i4vgen"])]


def columns() -> list[int]:
    """The left edge of each of the seven pictures."""
    steps = [0, SIDE + GUTTER, SIDE + GAP, SIDE + GAP, SIDE + GUTTER, SIDE + GAP, SIDE + GAP]
    return [GAP + x for x in itertools.accumulate(steps)]


def draw_sheet(rows: dict[str, list[np.ndarray]]) -> Image.Image:
    lefts = columns()
    row_height = SIDE + CAPTION + GAP
    sheet = Image.new("RGB", (lefts[-1] + SIDE + GAP, HEAD + row_height * len(rows) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    head, text = ImageFont.load_default(15), ImageFont.load_default(13)
    for left, title in zip(
        (lefts[0], lefts[1], lefts[4]),
        ("Best of 16", "Vanilla: first, middle, last frame", "I4VGen: first, middle, last frame"),
        strict=True,
    ):
        pen.text((left, GAP), title, INK, head)
    for i, (prompt, pictures) in enumerate(rows.items()):
        top = HEAD + i * row_height
        pen.text((lefts[0], top), prompt, QUIET, text)
        for left, picture in zip(lefts, pictures, strict=True):
            enlarged = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(enlarged, (left, top + CAPTION))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contact_sheet", description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--out", type=Path, default=Path("assets/contact_sheet.webp"))
    args = parser.parse_args()
    runtime = Runtime(args.model)
    prompts = [full_caption(shown) for shown in make_prompts(PRESETS["cpu"], ROWS)]
    sheet = draw_sheet({prompt: draw_row(runtime, prompt) for prompt in prompts})
    sheet.save(args.out, quality=85, method=6)
    print(args.out)


if __name__ == "__main__":
    main()
