"""Draws the README's contact sheet from a model's weights: what stage 1 chose, and both videos of its seed.

Its prompts are the first that name a kind of those that the evidence benchmark measures, with its first seed.

python -m benchmarks.contact_sheet                        # -> assets/contact_sheet.webp
python -m benchmarks.contact_sheet --pairs runs/pairs     # and the moving pairs, to be judged blind

Which video of a pair is I4VGen's is drawn at random; key.json tells.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.evidence.prompts import FIRST_PAIRS, FIRST_SEED, make_prompts
from i4vgen.config import GenerationConfig
from i4vgen.events import Result, Selected
from i4vgen.serving.runtime import Runtime
from pocket.presets import PRESETS
from pocket.world import full_caption

ROWS = FIRST_PAIRS
SIDE = 128  # pixels of a picture on the sheet
GAP = 6
GUTTER = 22  # between the three groups of pictures
HEAD = 30
CAPTION = 20
INK, QUIET, PAPER = (32, 33, 36), (110, 112, 118), (255, 255, 255)


def moments(frames: np.ndarray) -> list[np.ndarray]:
    """First, middle and last frame."""
    return [frames[0], frames[len(frames) // 2], frames[-1]]


@dataclass(frozen=True)
class Pair:
    """anchor: uint8 [H, W, 3]. videos: frames of vanilla and of I4VGen by name, uint8 [F, H, W, 3]."""

    anchor: np.ndarray
    videos: dict[str, np.ndarray]

    @property
    def pictures(self) -> list[np.ndarray]:
        """The anchor, then three moments of either video: seven pictures."""
        return [self.anchor, *moments(self.videos["vanilla"]), *moments(self.videos["i4vgen"])]


def draw_pair(runtime: Runtime, prompt: str) -> Pair:
    config = GenerationConfig.for_model(runtime.defaults, prompt=prompt, seed=FIRST_SEED)
    anchor, videos = None, {}
    for event in runtime.stream(lambda pipeline: pipeline.run(config)):
        if isinstance(event, Selected):
            anchor = event.image
        elif isinstance(event, Result):
            videos[event.name] = event.frames
    return Pair(anchor, videos)


def columns() -> list[int]:
    """The left edge of each of the seven pictures."""
    steps = [0, SIDE + GUTTER, SIDE + GAP, SIDE + GAP, SIDE + GUTTER, SIDE + GAP, SIDE + GAP]
    return [GAP + x for x in itertools.accumulate(steps)]


def write_pairs(pairs: dict[str, Pair], folder: Path, fps: int) -> None:
    """Writes a moving picture of each prompt, its two videos in random order, and the key to the orders."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, key = random.Random(), {}
    for number, (prompt, pair) in enumerate(pairs.items(), 1):
        sides = rng.sample(["vanilla", "i4vgen"], 2)
        left, right = (pair.videos[name] for name in sides)
        gap = np.full((*left.shape[:2], GAP, 3), 255, np.uint8)
        frames = [enlarge(frame) for frame in np.concatenate([left, gap, right], axis=2)]
        path = folder / f"pair-{number}.webp"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000 / fps, loop=0, quality=90)
        key[path.name] = {"prompt": prompt, "left": sides[0], "right": sides[1]}
    (folder / "key.json").write_text(json.dumps(key, indent=1) + "\n")


def enlarge(picture: np.ndarray) -> Image.Image:
    """A picture with the sheet's height."""
    height, width = picture.shape[:2]
    return Image.fromarray(picture).resize((round(SIDE * width / height), SIDE), Image.Resampling.LANCZOS)


def draw_sheet(pairs: dict[str, Pair]) -> Image.Image:
    lefts = columns()
    row_height = SIDE + CAPTION + GAP
    sheet = Image.new("RGB", (lefts[-1] + SIDE + GAP, HEAD + row_height * len(pairs) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    head, text = ImageFont.load_default(15), ImageFont.load_default(13)
    for left, title in zip(
        (lefts[0], lefts[1], lefts[4]),
        ("Best of 16", "Vanilla: first, middle, last frame", "I4VGen: first, middle, last frame"),
        strict=True,
    ):
        pen.text((left, GAP), title, INK, head)
    for i, (prompt, pair) in enumerate(pairs.items()):
        top = HEAD + i * row_height
        pen.text((lefts[0], top), prompt, QUIET, text)
        for left, picture in zip(lefts, pair.pictures, strict=True):
            sheet.paste(enlarge(picture), (left, top + CAPTION))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contact_sheet", description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--out", type=Path, default=Path("assets/contact_sheet.webp"))
    parser.add_argument("--pairs", type=Path, metavar="FOLDER", help="write the pairs without labels there")
    args = parser.parse_args()
    runtime = Runtime(args.model)
    shown = make_prompts(PRESETS["cpu"], 2 * ROWS)  # more than half of which name a kind
    prompts = [full_caption(each) for each in shown if not each.member][:ROWS]
    pairs = {prompt: draw_pair(runtime, prompt) for prompt in prompts}
    if args.pairs:
        write_pairs(pairs, args.pairs, runtime.defaults.fps)
    draw_sheet(pairs).save(args.out, quality=85, method=6)
    print(args.out)


if __name__ == "__main__":
    main()
