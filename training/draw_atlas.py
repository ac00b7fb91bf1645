"""Takes the drawings of the pocket model's subjects from their packages and puts them into one picture.

npm pack @lobehub/fluent-emoji-anim-{1,2,3,4}, each unpacked into a folder of its own below EMOJI
python -m training.draw_atlas EMOJI
"""

from __future__ import annotations

import argparse
import json
import unicodedata
from pathlib import Path

from PIL import Image

from pocket.atlas import ATLAS, POSES, ROWS, TILE
from pocket.world import LOOKS

# What Unicode calls a drawing, where captions call it something else.
UNICODE_NAMES = {
    "chick": "baby chick",
    "car": "automobile",
    "taxi": "oncoming taxi",
    "train": "steam locomotive",
    "pufferfish": "blowfish",
    "robot": "robot face",
    "alien": "extraterrestrial alien",
    "pumpkin": "jack-o-lantern",
    "dragon": "dragon face",
    "ogre": "japanese ogre",
    "devil": "smiling face with horns",
    "apple": "red apple",
    "kiwi": "kiwifruit",
    "cake": "birthday cake",
    "ice cream": "soft ice cream",
    "basketball": "basketball and hoop",
    "football": "american football",
    "billiard ball": "billiards",
    "daisy": "blossom",
    "red heart": "heavy black heart",
}


def files_by_name(folder: Path) -> dict[str, Path]:
    """The drawings of a single character by its name; variation selectors do not count."""
    found = {}
    for file in sorted(folder.rglob("*.webp")):
        codes = [code for code in file.stem.split("-") if code != "fe0f"]
        if len(codes) == 1:
            found[unicodedata.name(chr(int(codes[0], 16)), "").lower()] = file
    return found


def poses_of(file: Path) -> list[Image.Image]:
    """RGBA tiles: `POSES` moments of an animation, or the one of a still drawing."""
    with Image.open(file) as picture:
        frames = getattr(picture, "n_frames", 1)
        poses = []
        for pose in range(POSES if frames > 1 else 1):
            picture.seek(pose * frames // POSES)
            poses.append(picture.convert("RGBA").resize((TILE, TILE), Image.Resampling.LANCZOS))
    return poses


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.draw_atlas", description=__doc__)
    parser.add_argument("emoji", type=Path, help="folder of the unpacked packages")
    files = files_by_name(parser.parse_args().emoji)
    rows = {name: poses_of(files[UNICODE_NAMES.get(name, name)]) for name in LOOKS}
    atlas = Image.new("RGBA", (TILE * POSES, TILE * len(rows)))
    for row, poses in enumerate(rows.values()):
        for column, pose in enumerate(poses):
            atlas.paste(pose, (TILE * column, TILE * row))
    atlas.save(ATLAS, quality=90, method=6)
    ROWS.write_text(json.dumps({name: len(poses) for name, poses in rows.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
