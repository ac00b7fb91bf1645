"""The pocket model's world: sprites that move over procedurally drawn scenes, and their captions.

Everything is drawn from a `numpy.random.Generator`, at any resolution and length, so that the data set
never has to be stored: clip `i` of seed `s` is the same on every machine. Coordinates are fractions of the
canvas, (0, 0) is the top left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

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

SETTINGS: dict[str, tuple[str, ...]] = {
    "starry night": ("in a starry night", "in the starry night", "under the stars", "at night"),
    "sunset": ("at sunset", "in the sunset", "in front of the setting sun"),
    "sea": ("by the sea", "over the sea", "at the sea", "above the ocean"),
    "snowy hill": ("on a snowy hill", "over a snowy hill", "in the snow", "in winter"),
    "city at dusk": ("in the city at dusk", "over the city at dusk", "in a city", "over the city"),
    "green hills": ("over green hills", "in the green hills", "on a meadow", "in a sunny landscape"),
    "desert": ("in the desert", "over the desert", "above the dunes"),
    "underwater": ("under water", "in the deep blue", "deep under the sea"),
}

MOTIONS: dict[str, tuple[str, ...]] = {
    "moving left": ("moving left", "going left", "drifting to the left"),
    "moving right": ("moving right", "going right", "drifting to the right"),
    "rising": ("rising", "going up", "floating up", "moving up"),
    "falling": ("falling", "going down", "sinking", "moving down"),
    "growing": ("growing", "getting bigger", "coming closer"),
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


@dataclass(frozen=True)
class Clip:
    """Frames uint8 [F, H, W, 3], what they show, and a caption (which may leave some of it out)."""

    frames: np.ndarray
    subject: str
    setting: str
    motion: str
    caption: str


def words(subjects: tuple[str, ...], settings: tuple[str, ...], motions: tuple[str, ...]) -> list[str]:
    """Every word that captions of this part of the world can contain, sorted."""
    phrases = [*subjects, *TEMPLATES]
    phrases += [phrase for setting in settings for phrase in SETTINGS[setting]]
    phrases += [phrase for motion in motions for phrase in MOTIONS[motion]]
    return sorted({word for phrase in phrases for word in phrase.split() if not word.startswith("{")} | {"an"})


def caption(
    rng: np.random.Generator, subject: str, setting: str, motion: str, templates: tuple[str, ...] = TEMPLATES
) -> str:
    """Two generators in the same state word it alike for different subjects and motions."""
    text = templates[rng.integers(len(templates))].format(
        subject=subject,
        setting=SETTINGS[setting][rng.integers(len(SETTINGS[setting]))],
        motion=MOTIONS[motion][rng.integers(len(MOTIONS[motion]))],
    )
    return with_article(text)


def tells(text: str, phrases: tuple[str, ...]) -> bool:
    """Whether a caption names a setting or a motion, given all phrases for it."""
    return any(phrase in text for phrase in phrases)


def with_article(text: str) -> str:
    """`a octopus` -> `an octopus`."""
    tokens = text.split()
    for i, (article, noun) in enumerate(zip(tokens, tokens[1:], strict=False)):
        if article == "a" and noun in SUBJECTS and noun[0] in "aeio":
            tokens[i] = "an"
    return " ".join(tokens)


def draw_clip(
    rng: np.random.Generator, subject: str | None, setting: str, motion: str, num_frames: int, size: int
) -> np.ndarray:
    """uint8 [F, size, size, 3]: the subject (or nobody) performing the motion over a freshly drawn scene.

    Two generators in the same state draw the same scene and the same track for different subjects.
    """
    frames = SCENES[setting](rng, num_frames, size)
    track = draw_track(rng, motion, num_frames)
    if subject is None:
        track = track[:0]
    heading = SUBJECTS.get(subject)
    mirrored = (heading, motion) in {("left", "moving right"), ("right", "moving left")}
    for frame, (x, y, scale, angle) in zip(frames, track, strict=False):
        sprite = place_sprite(subject, size, x, y, scale, angle, mirrored)
        frame *= 1 - sprite[..., 3:]
        frame += sprite[..., :3]
    return (frames.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def random_clip(
    rng: np.random.Generator,
    subjects: tuple[str, ...],
    settings: tuple[str, ...],
    motions: tuple[str, ...],
    num_frames: int,
    size: int,
) -> Clip:
    subject, setting, motion = (str(rng.choice(names)) for names in (subjects, settings, motions))
    frames = draw_clip(rng, subject, setting, motion, num_frames, size)
    return Clip(frames, subject, setting, motion, caption(rng, subject, setting, motion))


# ---------------------------------------------------------------------------------------------------- motion


def draw_track(rng: np.random.Generator, motion: str, num_frames: int) -> np.ndarray:
    """[F, 4]: the sprite's centre x and y and its width, in canvas units, and its angle in radians."""
    u = np.linspace(0, 1, num_frames)
    x = np.full(num_frames, rng.uniform(0.36, 0.64))
    y = np.full(num_frames, rng.uniform(0.42, 0.64))
    scale = np.full(num_frames, rng.uniform(0.42, 0.54))
    angle = np.zeros(num_frames)
    span = rng.uniform(0.36, 0.5)  # how far it goes in the clip
    along = (u - 0.5) * span
    middle = rng.uniform(0.44, 0.56)
    if motion == "moving left":
        x = middle - along
    elif motion == "moving right":
        x = middle + along
    elif motion == "rising":
        y = middle - along
    elif motion == "falling":
        y = middle + along
    elif motion == "growing":
        scale = np.geomspace(rng.uniform(0.26, 0.32), rng.uniform(0.6, 0.7), num_frames)
    elif motion == "bouncing":
        y = 0.66 - rng.uniform(0.26, 0.36) * np.abs(np.sin(2 * np.pi * (u + rng.uniform())))
    elif motion == "spinning":
        angle = 2 * np.pi * (u * rng.uniform(0.6, 1.0) + rng.uniform())
    return np.stack([x, y, scale, angle], axis=1)


@cache
def sprite_mips(subject: str) -> tuple[Image.Image, ...]:
    """The sprite, alpha premultiplied, at widths 256, 181, 128, ...: the next larger one never aliases."""
    with Image.open(SPRITES / f"{subject}.webp") as picture:
        full = picture.convert("RGBa")
    sizes = [round(256 / 2 ** (i / 2)) for i in range(10)]
    return tuple(full.resize((s, s), Image.Resampling.LANCZOS) for s in sizes)


def place_sprite(
    subject: str, size: int, x: float, y: float, scale: float, angle: float, mirrored: bool
) -> np.ndarray:
    """float32 [size, size, 4]: the sprite on a transparent canvas, premultiplied."""
    width = scale * size
    mip = min((m for m in sprite_mips(subject) if m.width >= width), key=lambda m: m.width)
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


# ---------------------------------------------------------------------------------------------------- scenes
# Each scene draws float [F, size, size, 3] in 0..1. Colours are jittered, objects placed at random,
# and what moves in the world moves here: clouds drift, stars twinkle, waves roll, snow falls, bubbles rise.


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixel centres as fractions, [1, size] and [size, 1]."""
    centres = (np.arange(size) + 0.5) / size
    return centres[None, :], centres[:, None]


def colour(rng: np.random.Generator, rgb: tuple[int, int, int], jitter: float = 0.04) -> np.ndarray:
    return np.clip(np.array(rgb) / 255 + rng.uniform(-jitter, jitter, 3), 0, 1)


def gradient(size: int, stops: list[np.ndarray]) -> np.ndarray:
    """[size, size, 3]: colours from top to bottom."""
    _, y = grid(size)
    at = np.linspace(0, 1, len(stops))
    column = np.stack([np.interp(y[:, 0], at, [stop[c] for stop in stops]) for c in range(3)], axis=-1)
    return np.repeat(column[:, None, :], size, axis=1)


def soft(inside: np.ndarray, size: int) -> np.ndarray:
    """Coverage 0..1 from a signed distance in canvas units, antialiased over a pixel."""
    return np.clip(inside * size + 0.5, 0, 1)


def blend(canvas: np.ndarray, alpha: np.ndarray, rgb: np.ndarray) -> None:
    """Paints rgb over the canvas [..., H, W, 3] in place where alpha [..., H, W] is set."""
    canvas += alpha[..., None] * (rgb - canvas)


def disc(size: int, cx: float, cy: float, radius: float) -> np.ndarray:
    x, y = grid(size)
    return soft(radius - np.hypot(x - cx, y - cy), size)


def ridge(rng: np.random.Generator, size: int, base: float, height: float, waves: float) -> np.ndarray:
    """Coverage [size, size] of a hill range whose skyline lies around `base`."""
    x, y = grid(size)
    line = sum(height / (k + 1) * np.sin(2 * np.pi * (waves * (k + 1) * x + rng.uniform())) for k in range(3))
    return soft(y - (base - line), size)


def still(canvas: np.ndarray, num_frames: int) -> np.ndarray:
    return np.repeat(canvas[None], num_frames, axis=0)


def add_clouds(rng: np.random.Generator, frames: np.ndarray, rgb: np.ndarray, most: int = 3) -> None:
    num_frames, size = frames.shape[:2]
    x, y = grid(size)
    shift = np.linspace(0, rng.uniform(0.05, 0.16) * rng.choice([-1, 1]), num_frames)[:, None, None]
    for _ in range(rng.integers(1, most + 1)):
        cx, cy, width = rng.uniform(0, 1), rng.uniform(0.06, 0.3), rng.uniform(0.07, 0.13)
        puff = np.zeros((num_frames, size, size))
        for dx, dy, r in ((-0.9, 0.1, 0.7), (0, -0.1, 1.0), (0.9, 0.12, 0.65)):
            # Squared distances to an ellipse; the drift is one-dimensional, so the exponential factorises.
            across = np.exp(-(((x - cx - dx * width - shift) / (r * width)) ** 2))
            down = np.exp(-(((y - cy - dy * width) / (0.6 * r * width)) ** 2))
            puff += across * down
        blend(frames, np.clip(1.6 * puff - 0.35, 0, 0.9), rgb)


def starry_night(rng: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    canvas = gradient(size, [colour(rng, (10, 12, 44)), colour(rng, (26, 28, 84)), colour(rng, (58, 44, 112))])
    if rng.uniform() < 0.5:
        cx, cy, radius = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.25), rng.uniform(0.06, 0.09)
        crescent = disc(size, cx, cy, radius) * (
            1 - disc(size, cx + radius * 0.5, cy - radius * 0.2, radius * 0.9)
        )
        blend(canvas, crescent, colour(rng, (250, 240, 200)))
    frames = still(canvas, num_frames)
    stars = int(rng.integers(22, 36))
    centres = rng.uniform((0, 0), (1, 0.8), (stars, 2))
    u = np.linspace(0, 1, num_frames)
    twinkle = 0.75 + 0.25 * np.sin(2 * np.pi * (u + rng.uniform(size=(stars, 1))))
    light = twinkle * rng.uniform(0.6, 1.2, (stars, 1))
    paths = np.repeat(centres[:, None], num_frames, axis=1)
    blend(frames, glow(size, paths, rng.uniform(0.006, 0.012, stars), light), np.array([1, 1, 0.9]))
    blend(
        frames,
        ridge(rng, size, rng.uniform(0.86, 0.93), 0.03, rng.uniform(0.5, 1.2)),
        colour(rng, (8, 10, 26), 0.02),
    )
    return frames


def sunset(rng: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    horizon = rng.uniform(0.72, 0.8)
    canvas = gradient(
        size,
        [
            colour(rng, (92, 44, 120)),
            colour(rng, (226, 86, 92)),
            colour(rng, (250, 168, 74)),
            colour(rng, (252, 214, 120)),
        ],
    )
    blend(
        canvas,
        disc(size, rng.uniform(0.15, 0.85), horizon, rng.uniform(0.13, 0.2)),
        colour(rng, (255, 244, 180)),
    )
    frames = still(canvas, num_frames)
    add_clouds(rng, frames, colour(rng, (252, 150, 130)), most=2)
    blend(frames, ridge(rng, size, horizon + 0.04, 0.025, rng.uniform(0.6, 1.4)), colour(rng, (64, 30, 62)))
    return frames


def sea(rng: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    horizon = rng.uniform(0.5, 0.6)
    frames = still(
        gradient(
            size, [colour(rng, (96, 178, 240)), colour(rng, (190, 226, 250)), colour(rng, (230, 240, 250))]
        ),
        num_frames,
    )
    add_clouds(rng, frames, np.array([1.0, 1.0, 1.0]))
    x, y = grid(size)
    depth = np.clip((y - horizon) / (1 - horizon), 0, 1)
    phase = np.linspace(0, rng.uniform(0.3, 0.6), num_frames)[:, None, None] + rng.uniform()
    ripple = np.sin(2 * np.pi * (5 * np.sqrt(depth) + 0.25 * np.sin(2 * np.pi * (1.5 * x + phase)) - phase))
    near, far = colour(rng, (14, 82, 150)), colour(rng, (40, 140, 190))
    water = far + depth[..., None] * (near - far) + 0.07 * ripple[..., None]
    blend(frames, soft(y - horizon, size) * np.ones_like(x), water)
    return frames


def snowy_hill(rng: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    canvas = gradient(size, [colour(rng, (150, 172, 204)), colour(rng, (206, 216, 232))])
    x, y = grid(size)
    base = rng.uniform(0.62, 0.7)
    for _ in range(rng.integers(2, 6)):
        cx, top, width = rng.uniform(0, 1), base - rng.uniform(0.05, 0.16), rng.uniform(0.05, 0.08)
        tree = soft(width * np.clip((y - top) / 0.24, 0, 1) - np.abs(x - cx), size) * (y > top)
        blend(canvas, tree, colour(rng, (52, 92, 88)))
    blend(canvas, ridge(rng, size, base, 0.05, rng.uniform(0.4, 0.9)), colour(rng, (226, 232, 244), 0.02))
    blend(
        canvas,
        ridge(rng, size, base + 0.16, 0.05, rng.uniform(0.4, 0.9)),
        colour(rng, (248, 250, 254), 0.015),
    )
    frames = still(canvas, num_frames)
    add_flakes(rng, frames, count=18, fall=rng.uniform(0.12, 0.3), radius=0.014, rgb=np.ones(3))
    return frames


def city_at_dusk(rng: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    canvas = gradient(
        size, [colour(rng, (70, 60, 130)), colour(rng, (170, 96, 150)), colour(rng, (238, 150, 140))]
    )
    frames = still(canvas, num_frames)
    add_clouds(rng, frames, colour(rng, (210, 130, 170)), most=2)
    x, y = grid(size)
    wall, window = colour(rng, (38, 32, 66)), colour(rng, (255, 214, 120))
    skyline, covered = np.zeros((size, size, 3)), np.zeros((size, size))
    edge = -rng.uniform(0, 0.1)
    while edge < 1:
        width, top = rng.uniform(0.12, 0.2), rng.uniform(0.5, 0.8)
        house = soft(width / 2 - 0.008 - np.abs(x - edge - width / 2), size) * soft(y - top, size)
        blend(skyline, house, wall * rng.uniform(0.8, 1.3))
        covered = np.maximum(covered, house)
        for wy in np.arange(top + 0.05, 1, 0.085):
            for wx in np.arange(edge + 0.047, edge + width - 0.023, 0.055):
                if rng.uniform() < 0.55:
                    pane = soft(0.012 - np.abs(x - wx), size) * soft(0.016 - np.abs(y - wy), size)
                    blend(skyline, pane, window)
        edge += width
    blend(frames, covered, skyline / np.maximum(covered, 1e-3)[..., None])
    return frames


def green_hills(rng: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    frames = still(
        gradient(
            size, [colour(rng, (84, 160, 238)), colour(rng, (170, 214, 250)), colour(rng, (220, 238, 250))]
        ),
        num_frames,
    )
    add_clouds(rng, frames, np.array([1.0, 1.0, 1.0]))
    base = rng.uniform(0.6, 0.68)
    blend(frames, ridge(rng, size, base, 0.06, rng.uniform(0.5, 1.1)), colour(rng, (120, 186, 96)))
    blend(frames, ridge(rng, size, base + 0.14, 0.05, rng.uniform(0.5, 1.1)), colour(rng, (86, 158, 72)))
    return frames


def desert(rng: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    frames = still(
        gradient(
            size, [colour(rng, (120, 190, 226)), colour(rng, (236, 222, 186)), colour(rng, (250, 226, 170))]
        ),
        num_frames,
    )
    blend(frames, disc(size, rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.25), 0.08), colour(rng, (255, 248, 214)))
    base = rng.uniform(0.6, 0.7)
    for step, rgb in enumerate(((230, 182, 112), (214, 158, 90), (196, 136, 74))):
        blend(frames, ridge(rng, size, base + 0.12 * step, 0.05, rng.uniform(0.4, 1.0)), colour(rng, rgb))
    return frames


def underwater(rng: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    frames = still(
        gradient(size, [colour(rng, (60, 190, 210)), colour(rng, (20, 110, 170)), colour(rng, (8, 50, 110))]),
        num_frames,
    )
    x, y = grid(size)
    sway = np.linspace(0, rng.uniform(0.1, 0.3), num_frames)[:, None, None] + rng.uniform()
    rays = np.clip(np.sin(2 * np.pi * (3 * (x + 0.35 * y) + sway)), 0, 1) * np.clip(0.8 - y, 0, 1)
    blend(frames, 0.22 * rays, np.ones(3))
    blend(frames, ridge(rng, size, rng.uniform(0.86, 0.92), 0.03, 0.8), colour(rng, (196, 178, 120)))
    add_flakes(
        rng, frames, count=10, fall=-rng.uniform(0.15, 0.35), radius=0.016, rgb=np.array([0.8, 0.95, 1.0])
    )
    return frames


def add_flakes(
    rng: np.random.Generator, frames: np.ndarray, count: int, fall: float, radius: float, rgb: np.ndarray
) -> None:
    """Small round particles that fall (by `fall` canvas heights a clip; rise, if negative) and come back."""
    num_frames, size = frames.shape[:2]
    paths = np.repeat(rng.uniform(0, 1, (count, 1, 2)), num_frames, axis=1)
    paths[..., 1] = (paths[..., 1] + np.linspace(0, fall, num_frames)) % 1
    blend(
        frames,
        glow(size, paths, radius * rng.uniform(0.6, 1.2, count), np.full((count, num_frames), 1.3)),
        rgb,
    )


def glow(size: int, paths: np.ndarray, radii: np.ndarray, light: np.ndarray) -> np.ndarray:
    """[F, size, size]: n round spots, radii [n], brightness [n, F], on paths [n, F, (x, y)]."""
    centres = (np.arange(size) + 0.5) / size
    spread = np.exp(-(((centres - paths[..., None]) / radii[:, None, None, None]) ** 2))  # [n, F, 2, size]
    return np.einsum("nf,nfy,nfx->fyx", light, spread[:, :, 1], spread[:, :, 0], optimize=True).clip(0, 1)


SCENES: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "starry night": starry_night,
    "sunset": sunset,
    "sea": sea,
    "snowy hill": snowy_hill,
    "city at dusk": city_at_dusk,
    "green hills": green_hills,
    "desert": desert,
    "underwater": underwater,
}
