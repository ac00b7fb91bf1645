"""The pocket model's world: a camera follows a sprite through drawn scenes; and the captions of its clips.

The subject stays near the middle of the picture and the scene goes by, near layers faster than far ones, as in
clips that people film. So a still picture of a clip agrees with all of it, which is what a method that begins
with a still picture needs.

Everything is drawn from a `numpy.random.Generator`, at any resolution and length, so that the data set never
has to be stored: clip `i` of seed `s` is the same on every machine. Coordinates are fractions of the canvas,
(0, 0) is the top left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from training.scenes import SCENES, travel

SPRITES = Path(__file__).parent / "sprites"

# Which way a sprite looks in its picture; None for those that look the same both ways. Sprites that look left
# are mirrored when they move right, so that nothing drives backwards.
SUBJECTS: dict[str, str | None] = {
    "rocket": "right",
    "car": "left",
    "sailboat": None,
    "balloon": None,
    "turtle": "left",
    "penguin": None,
    "butterfly": None,
    "ufo": None,
    "fish": "left",
    "duck": "left",
    "octopus": None,
    "pumpkin": None,
    "airplane": "right",
    "helicopter": "left",
    "unicorn": "left",
    "whale": "left",
    "crab": None,
    "apple": None,
    "bee": "left",
    "ladybug": None,
    "owl": None,
    "ball": None,
    "bus": "left",
    "parrot": "left",
    "snail": "left",
    "dolphin": "left",
    "snowman": None,
    "ghost": None,
}

PLAIN = "plain"  # the colours that a sprite comes in; no caption names them

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 40, 46),
    "blue": (36, 96, 232),
    "green": (40, 176, 66),
    "golden": (250, 186, 26),
    "pink": (255, 110, 190),
}

SETTINGS: dict[str, tuple[str, ...]] = {
    "starry night": ("in a starry night", "in the starry night", "under the stars", "at night"),
    "sunset": ("at sunset", "in the sunset", "in front of the setting sun"),
    "sea": ("by the sea", "over the sea", "at the sea", "above the ocean"),
    "snowy hill": ("on a snowy hill", "over a snowy hill", "in the snow", "in winter"),
    "city at dusk": ("in the city at dusk", "over the city at dusk", "in a city", "over the city"),
    "green hills": ("over green hills", "in the green hills", "on a meadow", "in a sunny landscape"),
    "desert": ("in the desert", "over the desert", "above the dunes"),
    "underwater": ("under water", "deep under the sea", "in the deep sea"),
}

MOTIONS: dict[str, tuple[str, ...]] = {
    "moving left": ("moving left", "going left", "drifting to the left"),
    "moving right": ("moving right", "going right", "drifting to the right"),
    "rising": ("rising", "going up", "floating up", "moving up"),
    "falling": ("falling", "going down", "sinking", "moving down"),
    "coming closer": ("coming closer", "growing", "getting bigger"),
    "bouncing": ("bouncing", "jumping", "hopping up and down"),
    "spinning": ("spinning", "turning around", "rotating"),
}

TEMPLATES = (
    "a {subject} {motion} {setting}",
    "a {subject} {motion} {setting}",
    "a {subject} {setting} {motion}",
    "{subject} {motion} {setting}",
    "a picture of a {subject} {motion} {setting}",
    "a {subject} {setting}",
    "a {subject} {motion}",
    "a {subject}",
)
MOVING_TEMPLATES = tuple(template for template in TEMPLATES if "{motion}" in template)

PLAIN_SHARE = 0.4  # of the clips, where there are plain ones


@dataclass(frozen=True)
class Shown:
    """What a clip shows. colour: a key of `COLOURS`, or `PLAIN`."""

    subject: str
    colour: str
    setting: str
    motion: str


@dataclass(frozen=True)
class Clip:
    """Frames uint8 [F, H, W, 3] and what they show."""

    frames: np.ndarray
    shown: Shown


def words(
    subjects: tuple[str, ...], dyes: tuple[str, ...], settings: tuple[str, ...], motions: tuple[str, ...]
) -> list[str]:
    """Every word that captions of this part of the world can contain, sorted."""
    phrases = [*subjects, *dyes, *TEMPLATES]
    phrases += [phrase for setting in settings for phrase in SETTINGS[setting]]
    phrases += [phrase for motion in motions for phrase in MOTIONS[motion]]
    return sorted({word for phrase in phrases for word in phrase.split() if not word.startswith("{")} | {"an"})


def caption(rng: np.random.Generator, shown: Shown, templates: tuple[str, ...] = TEMPLATES) -> str:
    """May leave the setting or the motion out. Two generators in the same state word it alike for different
    subjects, colours and motions.
    """
    text = templates[rng.integers(len(templates))].format(
        subject=noun(shown.subject, shown.colour),
        setting=SETTINGS[shown.setting][rng.integers(len(SETTINGS[shown.setting]))],
        motion=MOTIONS[shown.motion][rng.integers(len(MOTIONS[shown.motion]))],
    )
    return with_article(text)


def full_caption(shown: Shown) -> str:
    """The usual way to say all of it."""
    words = noun(shown.subject, shown.colour), MOTIONS[shown.motion][0], SETTINGS[shown.setting][0]
    return with_article(f"a {' '.join(words)}")


def noun(subject: str, colour: str) -> str:
    return subject if colour == PLAIN else f"{colour} {subject}"


def tells(text: str, phrases: tuple[str, ...]) -> bool:
    """Whether a caption names a setting or a motion, given all phrases for it."""
    return any(phrase in text for phrase in phrases)


def with_article(text: str) -> str:
    """`a octopus` -> `an octopus`."""
    tokens = text.split()
    for i, (article, following) in enumerate(pairwise(tokens)):
        if article == "a" and following in SUBJECTS and following[0] in "aeio":
            tokens[i] = "an"
    return " ".join(tokens)


def draw_clip(
    rng: np.random.Generator,
    subject: str | None,
    colour: str,
    setting: str,
    motion: str,
    num_frames: int,
    size: int,
) -> np.ndarray:
    """uint8 [F, size, size, 3]: the subject (or none) performing the motion in a freshly drawn scene.

    Two generators in the same state draw the same scene and the same track for different subjects and colours.
    """
    camera, track = draw_camera(rng, motion, num_frames), draw_track(rng, motion, num_frames)
    frames = travel(SCENES[setting](rng, size), camera, size)
    return show(frames, None if subject is None else draw_sprite(subject, colour, motion, track, size))


def show(scene: np.ndarray, sprites: np.ndarray | None) -> np.ndarray:
    """uint8 [F, H, W, 3]: sprites [F, H, W, 4] in front of a scene, float [F, H, W, 3]."""
    if sprites is not None:
        scene = scene * (1 - sprites[..., 3:]) + sprites[..., :3]
    return (scene.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def random_clip(
    rng: np.random.Generator,
    subjects: tuple[str, ...],
    colours: tuple[str, ...],
    settings: tuple[str, ...],
    motions: tuple[str, ...],
    num_frames: int,
    size: int,
) -> Clip:
    subject, setting, motion = (str(rng.choice(names)) for names in (subjects, settings, motions))
    dyes = [colour for colour in colours if colour != PLAIN]
    plain = PLAIN in colours and rng.uniform() < PLAIN_SHARE
    colour = PLAIN if plain else str(rng.choice(dyes))
    frames = draw_clip(rng, subject, colour, setting, motion, num_frames, size)
    return Clip(frames, Shown(subject, colour, setting, motion))


# ---------------------------------------------------------------------------------------------------- motion


def draw_camera(rng: np.random.Generator, motion: str, num_frames: int) -> np.ndarray:
    """[F, 2]: where the camera is, x and y in canvas units; the nearest layers go by at this pace."""
    u = np.linspace(0, 1, num_frames)
    x, y = np.full(num_frames, rng.uniform(0, 2)), np.full(num_frames, rng.uniform(-0.04, 0.04))
    far, high = rng.uniform(0.9, 1.2), rng.uniform(0.42, 0.52)
    if motion == "moving left":
        x = x - far * u
    elif motion == "moving right":
        x = x + far * u
    elif motion == "rising":
        y = y + 0.06 - high * u
    elif motion == "falling":
        y = y + 0.06 - high * (1 - u)
    return np.stack([x, y], axis=1)


def draw_track(rng: np.random.Generator, motion: str, num_frames: int) -> np.ndarray:
    """[F, 4]: the sprite's centre x and y and its width, in canvas units, and its angle in radians.

    Apart from what the motion asks for, it drifts, bobs and sways a little.
    """
    u = np.linspace(0, 1, num_frames)
    bob, sway = (
        rng.uniform(*span) * np.sin(2 * np.pi * (u * rng.uniform(0.8, 1.3) + rng.uniform()))
        for span in ((0.008, 0.02), (0.03, 0.08))
    )
    x = np.full(num_frames, rng.uniform(0.46, 0.54))
    y = rng.uniform(0.47, 0.55) + bob
    scale = np.full(num_frames, rng.uniform(0.44, 0.52))
    angle = sway
    drift = rng.uniform(0.08, 0.14) * (u - 0.5)  # it runs a little ahead of the camera
    lean = rng.uniform(0.08, 0.16)
    if motion == "moving left":
        x, angle = x - drift, sway - lean
    elif motion == "moving right":
        x, angle = x + drift, sway + lean
    elif motion == "rising":
        y = y - drift
    elif motion == "falling":
        y = y + drift
    elif motion == "coming closer":
        scale = np.geomspace(rng.uniform(0.28, 0.32), rng.uniform(0.62, 0.7), num_frames)
    elif motion == "bouncing":
        y = 0.62 - rng.uniform(0.2, 0.26) * np.abs(np.sin(2 * np.pi * (u + rng.uniform(-0.06, 0.06))))
    elif motion == "spinning":
        angle = 2 * np.pi * u * rng.uniform(0.85, 1.05) + rng.uniform(-0.4, 0.4)
    return np.stack([x, y, scale, angle], axis=1)


@cache
def sprite_mips(subject: str, colour: str) -> tuple[Image.Image, ...]:
    """The sprite, alpha premultiplied, at widths 256, 181, 128, ...: the next larger one never aliases."""
    with Image.open(SPRITES / f"{subject}.webp") as picture:
        full = dyed(picture.convert("RGBA"), colour).convert("RGBa")
    sizes = [round(256 / 2 ** (i / 2)) for i in range(10)]
    return tuple(full.resize((s, s), Image.Resampling.LANCZOS) for s in sizes)


def dyed(picture: Image.Image, colour: str) -> Image.Image:
    """An RGBA picture in shades of one colour: what was black or white stays so, what lies between takes it."""
    if colour == PLAIN:
        return picture
    pixels = np.asarray(picture, dtype=np.float32) / 255
    tone, dye = pixels[..., :3] @ np.float32([0.3, 0.5, 0.2]), np.float32(COLOURS[colour]) / 255
    low, high = np.quantile(tone[pixels[..., 3] > 0.5], (0.02, 0.98))
    tone = np.clip((tone - low) / max(high - low, 0.2), 0, 1)[..., None]
    dark, light = np.minimum(2 * tone, 1), np.maximum(2 * tone - 1, 0)
    shade = dye * (0.25 + 0.75 * dark) * (1 - light**1.8) + light**1.8
    rgb = 0.85 * shade + 0.15 * pixels[..., :3]
    return Image.fromarray((np.dstack([rgb, pixels[..., 3:]]) * 255 + 0.5).astype(np.uint8), "RGBA")


def draw_sprite(subject: str, colour: str, motion: str, track: np.ndarray, size: int) -> np.ndarray:
    """float32 [F, size, size, 4]: the subject on its track, premultiplied."""
    mirrored = (SUBJECTS[subject], motion) in {("left", "moving right"), ("right", "moving left")}
    return np.stack([place_sprite(subject, colour, size, *place, mirrored) for place in track])


def place_sprite(
    subject: str, colour: str, size: int, x: float, y: float, scale: float, angle: float, mirrored: bool
) -> np.ndarray:
    """float32 [size, size, 4]: the sprite on a transparent canvas, premultiplied."""
    width = scale * size
    mip = min((m for m in sprite_mips(subject, colour) if m.width >= width), key=lambda m: m.width)
    ratio = mip.width / width  # sprite pixels per canvas pixel
    cos, sin = np.cos(angle) * ratio, np.sin(angle) * ratio
    flip = -1 if mirrored else 1
    half = mip.width / 2
    cx, cy = x * size, y * size
    coefficients = (
        flip * cos,
        flip * sin,
        half - flip * (cos * cx + sin * cy),
        -sin,
        cos,
        half + sin * cx - cos * cy,
    )
    placed = mip.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(placed, dtype=np.float32) / 255
