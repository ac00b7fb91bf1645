"""The pocket model's world, a camera that follows a drawn subject through drawn scenes, and its captions.

A kind's word, "bird", names many drawings, its members; a member's own name, "flamingo", names one. Most
captions say the kind, so that a model has to choose a member itself, as it does outside of this world.

The subject stays near the middle of the picture and the scene goes by, near layers faster than far ones, as in
clips that people film. So a still picture of a clip agrees with all of it, which is what a method that begins
with a still picture needs.

Everything is drawn from a `numpy.random.Generator`, at any resolution and length, so that the data set never
has to be stored: clip `i` of seed `s` is the same on every machine. Coordinates are fractions of the canvas,
(0, 0) is the top left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from pocket.atlas import POSES, mips
from pocket.scenes import SCENES, travel

# Every kind, its members, and which way each looks in its drawing; None for those that look the same both ways.
# Those that look left are mirrored when they move right, so that nothing drives backwards.
KINDS: dict[str, dict[str, str | None]] = {
    "bird": {
        "parrot": "left",
        "owl": None,
        "duck": "left",
        "flamingo": "left",
        "swan": "left",
        "rooster": "left",
        "penguin": None,
        "chick": "left",
        "peacock": None,
    },
    "vehicle": {
        "car": "left",
        "taxi": None,
        "racing car": "left",
        "bus": "left",
        "fire engine": "left",
        "tractor": "left",
        "train": "left",
        "rocket": "right",
        "helicopter": "left",
    },
    "animal": {
        "cat": "left",
        "dog": "left",
        "tiger": "left",
        "cow": "left",
        "pig": "left",
        "sheep": "left",
        "elephant": "left",
        "rabbit": "left",
        "turtle": "left",
        "kangaroo": "left",
    },
    "sea creature": {
        "fish": "left",
        "tropical fish": "left",
        "pufferfish": "left",
        "shark": "left",
        "whale": "left",
        "dolphin": "left",
        "octopus": None,
        "crab": None,
    },
    "monster": {
        "robot": None,
        "ghost": None,
        "alien": None,
        "skull": None,
        "pumpkin": None,
        "dragon": "left",
        "ogre": None,
        "devil": None,
    },
    "fruit": dict.fromkeys(
        ("apple", "pear", "peach", "strawberry", "lemon", "pineapple", "kiwi", "watermelon")
    ),
    "dessert": dict.fromkeys(
        ("cake", "cupcake", "doughnut", "ice cream", "lollipop", "custard", "cookie", "shaved ice")
    ),
    "ball": dict.fromkeys(
        (
            "soccer ball",
            "basketball",
            "baseball",
            "football",
            "billiard ball",
            "softball",
            "volleyball",
            "crystal ball",
        )
    ),
    "flower": dict.fromkeys(
        ("cherry blossom", "rose", "sunflower", "daisy", "tulip", "lotus", "hibiscus", "bouquet")
    ),
    "heart": dict.fromkeys(
        (
            "red heart",
            "orange heart",
            "yellow heart",
            "green heart",
            "blue heart",
            "purple heart",
            "black heart",
            "broken heart",
        )
    ),
}
LOOKS = {member: looks for members in KINDS.values() for member, looks in members.items()}
KIND_OF = {member: kind for kind, members in KINDS.items() for member in members}

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

KIND_SHARE = 0.6  # of the captions: they name the kind, the others the member


@dataclass(frozen=True)
class Shown:
    """What a clip shows, or what a prompt asks for: one that names the kind leaves the member open (None)."""

    kind: str
    member: str | None
    setting: str
    motion: str

    @property
    def subject(self) -> str:
        """What a caption that says all of it calls the subject."""
        return self.member or self.kind

    def asks(self, heads: Iterable[str]) -> dict[str, str]:
        """What a prompt asks for, by these of its attributes; those that it leaves open are left out."""
        return {head: name for head in heads if (name := getattr(self, head)) is not None}


@dataclass(frozen=True)
class RenderedClip:
    """Frames uint8 [F, H, W, 3] and what they show."""

    frames: np.ndarray
    shown: Shown


def members_of(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the members of these kinds, kind by kind."""
    return tuple(member for kind in kinds for member in KINDS[kind])


def words(kinds: tuple[str, ...], settings: tuple[str, ...], motions: tuple[str, ...]) -> list[str]:
    """Returns every word that captions of this part of the world can contain, sorted."""
    phrases = [*kinds, *TEMPLATES, *members_of(kinds)]
    phrases += [phrase for setting in settings for phrase in SETTINGS[setting]]
    phrases += [phrase for motion in motions for phrase in MOTIONS[motion]]
    return sorted({word for phrase in phrases for word in phrase.split() if not word.startswith("{")} | {"an"})


def caption(rng: np.random.Generator, shown: Shown, templates: tuple[str, ...] = TEMPLATES) -> str:
    """Describes a clip: by its kind or its member, perhaps without the setting or the motion.

    Two generators in the same state word it alike for different motions.
    """
    text = templates[rng.integers(len(templates))].format(
        subject=shown.kind if rng.uniform() < KIND_SHARE else shown.subject,
        setting=SETTINGS[shown.setting][rng.integers(len(SETTINGS[shown.setting]))],
        motion=MOTIONS[shown.motion][rng.integers(len(MOTIONS[shown.motion]))],
    )
    return with_article(text)


def full_caption(shown: Shown) -> str:
    """The usual way to say all of it."""
    return with_article(f"a {shown.subject} {MOTIONS[shown.motion][0]} {SETTINGS[shown.setting][0]}")


def tells(text: str, phrases: tuple[str, ...]) -> bool:
    """Whether a caption names a setting or a motion, given all phrases for it."""
    return any(phrase in text for phrase in phrases)


def with_article(text: str) -> str:
    """`a octopus` -> `an octopus`."""
    tokens = text.split()
    for i, (article, following) in enumerate(pairwise(tokens)):
        if article == "a" and following[0] in "aeio":
            tokens[i] = "an"
    return " ".join(tokens)


def draw_clip(
    rng: np.random.Generator, member: str | None, setting: str, motion: str, num_frames: int, size: int
) -> np.ndarray:
    """uint8 [F, size, size, 3]: the subject (or none) performing the motion in a freshly drawn scene.

    Two generators in the same state draw the same scene and the same track for different members.
    """
    camera, track = draw_camera(rng, motion, num_frames), draw_track(rng, motion, num_frames)
    poses = draw_poses(rng, num_frames)
    frames = travel(SCENES[setting](rng, size), camera, size)
    return show(frames, None if member is None else draw_subject(member, motion, track, poses, size))


def show(scene: np.ndarray, subject: np.ndarray | None) -> np.ndarray:
    """uint8 [F, H, W, 3]: a subject [F, H, W, 4] in front of a scene, float [F, H, W, 3]."""
    if subject is not None:
        scene = scene * (1 - subject[..., 3:]) + subject[..., :3]
    return (scene.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def random_clip(
    rng: np.random.Generator,
    kinds: tuple[str, ...],
    settings: tuple[str, ...],
    motions: tuple[str, ...],
    num_frames: int,
    size: int,
) -> RenderedClip:
    """A clip of anything in this part of the world. Kinds come up equally often, whatever their size."""
    kind, setting, motion = (str(rng.choice(names)) for names in (kinds, settings, motions))
    member = str(rng.choice(list(KINDS[kind])))
    frames = draw_clip(rng, member, setting, motion, num_frames, size)
    return RenderedClip(frames, Shown(kind, member, setting, motion))


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
    """[F, 4]: the subject's centre x and y and its width, in canvas units, and its angle in radians.

    Apart from what the motion asks for, it drifts, bobs and sways a little.
    """
    u = np.linspace(0, 1, num_frames)
    bob, sway = (
        rng.uniform(*span) * np.sin(2 * np.pi * (u * rng.uniform(0.8, 1.3) + rng.uniform()))
        for span in ((0.008, 0.02), (0.03, 0.08))
    )
    x = np.full(num_frames, rng.uniform(0.46, 0.54))
    y = rng.uniform(0.47, 0.55) + bob
    scale = np.full(num_frames, rng.uniform(0.56, 0.66))
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
        scale = np.geomspace(rng.uniform(0.36, 0.41), rng.uniform(0.79, 0.9), num_frames)
    elif motion == "bouncing":
        y = 0.62 - rng.uniform(0.2, 0.26) * np.abs(np.sin(2 * np.pi * (u + rng.uniform(-0.06, 0.06))))
    elif motion == "spinning":
        angle = 2 * np.pi * u * rng.uniform(0.85, 1.05) + rng.uniform(-0.4, 0.4)
    return np.stack([x, y, scale, angle], axis=1)


def draw_poses(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Int [F]: which pose of the artist's animation each frame shows; it begins anywhere and loops."""
    start, pace = rng.uniform(0, POSES), rng.uniform(0.5, 0.8)
    return (start + pace * np.arange(num_frames)).astype(int) % POSES


def draw_subject(member: str, motion: str, track: np.ndarray, poses: np.ndarray, size: int) -> np.ndarray:
    """float32 [F, size, size, 4]: the subject on its track, premultiplied."""
    mirrored = (LOOKS[member], motion) in {("left", "moving right"), ("right", "moving left")}
    placed = (
        place_drawing(mips(member, int(pose)), size, *place, mirrored)
        for place, pose in zip(track, poses, strict=True)
    )
    return np.stack(list(placed))


def place_drawing(
    drawings: tuple[Image.Image, ...], size: int, x: float, y: float, scale: float, angle: float, mirrored: bool
) -> np.ndarray:
    """float32 [size, size, 4]: a drawing, given at several sizes, on a transparent canvas, premultiplied."""
    width = scale * size
    drawing = min(drawings, key=lambda each: (each.width < width, abs(each.width - width)))
    ratio = drawing.width / width  # pixels of the drawing per canvas pixel
    cos, sin = np.cos(angle) * ratio, np.sin(angle) * ratio
    flip = -1 if mirrored else 1
    half = drawing.width / 2
    cx, cy = x * size, y * size
    coefficients = (
        flip * cos,
        flip * sin,
        half - flip * (cos * cx + sin * cy),
        -sin,
        cos,
        half + sin * cx - cos * cy,
    )
    placed = drawing.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(placed, dtype=np.float32) / 255
