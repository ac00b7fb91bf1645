"""The scenes of the pocket model's world, painted as layers that a camera passes, near ones faster than far.

A layer is two canvases wide and two high, and its left and right edges join, so that a camera can travel along
it for ever. Its coordinates are canvas units: x from 0 to 2, y from -0.5 to 1.5, of which a camera at height 0
sees 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

WIDTH, TOP, HEIGHT = 2.0, -0.5, 2.0  # canvas units
FINER = 3  # layers are painted at this many times their size, for smooth edges

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class SceneLayer:
    """pixels: float32 [2 * size, 2 * size, 4], alpha premultiplied. depth: how fast it goes by, 1 for what is
    as near as the subject. wind: how far it moves by itself in a clip, (x, y) in canvas units; what leaves
    below comes back above if `falls`. twinkle: how far its light comes and goes.
    """

    pixels: np.ndarray
    depth: float
    wind: tuple[float, float] = (0.0, 0.0)
    falls: bool = False
    twinkle: float = 0.0


def travel(layers: list[SceneLayer], camera: np.ndarray, size: int) -> np.ndarray:
    """float32 [F, size, size, 3]: the layers, far to near, as the camera [F, 2] passes them."""
    frames = np.zeros((len(camera), size, size, 3), np.float32)
    clock = np.linspace(0, 1, len(camera))[:, None]
    for layer in layers:
        at = layer.depth * camera - clock * layer.wind
        seen = window(layer.pixels, at, size, layer.falls)
        if layer.twinkle:
            seen *= (1 - layer.twinkle * np.sin(np.pi * clock) ** 2).astype(np.float32)[:, :, None, None]
        frames *= 1 - seen[..., 3:]
        frames += seen[..., :3]
    return frames


def window(pixels: np.ndarray, at: np.ndarray, size: int, falls: bool) -> np.ndarray:
    """float32 [F, size, size, 4]: what a camera at (x, y) [F, 2] sees of a layer, to a fraction of a pixel."""
    height, width = pixels.shape[:2]
    x, y = at[:, :1] * size, (at[:, 1:] - TOP) * size
    columns, rows = np.floor(x).astype(int) + np.arange(size + 1), np.floor(y).astype(int) + np.arange(size + 1)
    rows = rows % height if falls else rows.clip(0, height - 1)
    seen = pixels[rows[:, :, None], (columns % width)[:, None, :]]
    across = (x % 1).astype(np.float32)[:, :, None, None]
    down = (y % 1).astype(np.float32)[:, :, None, None]
    seen = seen[:, :, :-1] + across * (seen[:, :, 1:] - seen[:, :, :-1])
    return seen[:, :-1] + down * (seen[:, 1:] - seen[:, :-1])


# ---------------------------------------------------------------------------------------------------- brushes


class Painter:
    """Paints one layer in flat colours, in canvas units; whatever crosses an edge goes on at the other."""

    def __init__(self, size: int):
        self.size = size
        self.scale = FINER * size
        side = round(WIDTH * self.scale)
        self.image = Image.new("RGBA", (side, side))
        self.pen = ImageDraw.Draw(self.image)

    def polygon(self, points: np.ndarray, rgb: Rgb) -> None:
        for shift in self._shifts(points[:, 0].min(), points[:, 0].max()):
            placed = (points + [shift, -TOP]) * self.scale
            self.pen.polygon([tuple(point) for point in placed.tolist()], fill=rgb)

    def ellipse(self, x: float, y: float, rx: float, ry: float, rgb: Rgb) -> None:
        for shift in self._shifts(x - rx, x + rx):
            box = (x + shift - rx, y - TOP - ry, x + shift + rx, y - TOP + ry)
            self.pen.ellipse([side * self.scale for side in box], fill=rgb)

    def box(self, x: float, y: float, width: float, height: float, rgb: Rgb) -> None:
        self.polygon(np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)]), rgb)

    def ridge(self, line: np.ndarray, rgb: Rgb) -> None:
        """Everything below a skyline, given as y at equally spaced x."""
        x = np.linspace(0, WIDTH, len(line))
        below = TOP + HEIGHT
        self.polygon(np.array([(0, below), *zip(x, line, strict=True), (WIDTH, below)]), rgb)

    def layer(self, depth: float, shade: float = 0.0, **motion) -> SceneLayer:
        """shade: how much darker it gets from its top down to the bottom of the canvas."""
        small = self.image.convert("RGBa").reduce(FINER)
        pixels = np.asarray(small, dtype=np.float32) / 255
        if shade:
            y = TOP + (np.arange(len(pixels)) + 0.5) / self.size
            light = np.interp(y, (0.5, 1.1), (1, 1 - shade)).astype(np.float32)
            pixels = np.concatenate([pixels[..., :3] * light[:, None, None], pixels[..., 3:]], axis=-1)
        return SceneLayer(pixels, depth, **motion)

    @staticmethod
    def _shifts(left: float, right: float) -> list[float]:
        return [shift for shift in (-WIDTH, 0.0, WIDTH) if right + shift > 0 and left + shift < WIDTH]


def tint(rng: np.random.Generator, rgb: Rgb, jitter: float = 9) -> Rgb:
    """About this colour."""
    red, green, blue = (np.array(rgb) + rng.uniform(-jitter, jitter, 3)).clip(0, 255).round().astype(int)
    return int(red), int(green), int(blue)


def sky(rng: np.random.Generator, size: int, *stops: Rgb) -> SceneLayer:
    """Colours from the top of the canvas to its bottom."""
    y = TOP + (np.arange(round(HEIGHT * size)) + 0.5) / size
    at = np.linspace(0, 1, len(stops))
    colours = np.array([tint(rng, stop) for stop in stops]) / 255
    column = np.stack([np.interp(y, at, colours[:, channel]) for channel in range(3)] + [np.ones_like(y)], -1)
    pixels = np.repeat(column[:, None].astype(np.float32), round(WIDTH * size), axis=1)
    return SceneLayer(pixels, depth=0.12)


def hills(rng: np.random.Generator, base: float, height: float, cycles: int) -> np.ndarray:
    """A rolling skyline around `base`: waves that join at the edges."""
    x = np.linspace(0, 2 * np.pi, 129)
    waves = (np.sin((cycles + k) * x + rng.uniform(0, 2 * np.pi)) / (k + 1) for k in range(3))
    return base - height * sum(waves)


def on(line: np.ndarray, x: float) -> float:
    """The height of a skyline at x."""
    return float(np.interp(x % WIDTH, np.linspace(0, WIDTH, len(line)), line))


def spaced(rng: np.random.Generator, count: int) -> np.ndarray:
    """Places along a layer, about equally far apart."""
    return (np.arange(count) + rng.uniform(0.1, 0.9, count)) * WIDTH / count


def clouds(rng: np.random.Generator, size: int, rgb: Rgb, count: int) -> SceneLayer:
    painter = Painter(size)
    for x in spaced(rng, count):
        y, width = rng.uniform(-0.4, 0.26), rng.uniform(0.06, 0.1)
        for dx, dy, r in ((-1.1, 0.25, 0.7), (-0.35, -0.15, 0.95), (0.45, 0.0, 0.8), (1.15, 0.3, 0.6)):
            painter.ellipse(x + dx * width, y + dy * width, r * width, 0.6 * r * width, rgb)
        painter.ellipse(x, y + 0.45 * width, 1.6 * width, 0.3 * width, rgb)
    return painter.layer(0.3, wind=(rng.choice([-1, 1]) * rng.uniform(0.02, 0.05), 0))


def specks(
    rng: np.random.Generator,
    size: int,
    count: int,
    radii: tuple[float, float],
    rgb: Rgb,
    depth: float,
    **motion,
) -> SceneLayer:
    """Stars, snowflakes, bubbles: small discs all over the layer."""
    painter = Painter(size)
    for x, y in rng.uniform((0, TOP), (WIDTH, TOP + HEIGHT), (count, 2)):
        radius = rng.uniform(*radii)
        painter.ellipse(x, y, radius, radius, rgb)
    return painter.layer(depth, **motion)


def disc_with_glow(size: int, x: float, y: float, radius: float, rgb: Rgb, depth: float) -> SceneLayer:
    """A sun or a moon; it hangs at one place of the sky, wherever the camera starts."""
    at_y = TOP + (np.arange(round(HEIGHT * size)) + 0.5) / size
    at_x = (np.arange(round(WIDTH * size)) + 0.5) / size
    sideways = (at_x - x + WIDTH / 2) % WIDTH - WIDTH / 2
    distance = np.hypot(sideways[None, :], (at_y - y)[:, None])
    alpha = np.maximum(
        np.clip((radius - distance) * size + 0.5, 0, 1), 0.4 * np.exp(-((distance / radius / 1.6) ** 2))
    )
    colour = np.array([*rgb, 255]) / 255
    return SceneLayer((alpha[..., None] * colour).astype(np.float32), depth)


def pine(painter: Painter, x: float, y: float, height: float, rgb: Rgb) -> None:
    for low, high, half in ((0.0, 0.5, 0.26), (0.25, 0.78, 0.2), (0.5, 1.0, 0.14)):
        points = [(-half, -low), (half, -low), (0, -high)]
        painter.polygon(np.array(points) * height + [x, y], rgb)


def round_tree(painter: Painter, x: float, y: float, height: float, crown: Rgb, trunk: Rgb) -> None:
    painter.box(x - 0.06 * height, y - 0.5 * height, 0.12 * height, 0.5 * height, trunk)
    painter.ellipse(x, y - 0.7 * height, 0.32 * height, 0.36 * height, crown)


def cactus(painter: Painter, x: float, y: float, height: float, rgb: Rgb) -> None:
    painter.box(x - 0.09 * height, y - height, 0.18 * height, height, rgb)
    for side, low in ((-1, 0.4), (1, 0.55)):
        painter.box(
            x + side * 0.3 * height - 0.07 * height,
            y - (low + 0.35) * height,
            0.14 * height,
            0.35 * height,
            rgb,
        )
        painter.box(
            min(x, x + side * 0.3 * height), y - (low + 0.06) * height, 0.3 * height, 0.14 * height, rgb
        )


def weed(painter: Painter, x: float, y: float, height: float, rgb: Rgb) -> None:
    t = np.linspace(0, 1, 9)
    middle = x + 0.1 * height * np.sin(2.2 * np.pi * t)
    half = 0.08 * height * (1 - t)
    edge = np.concatenate(
        [np.stack([middle - half, y - t * height], 1), np.stack([middle + half, y - t * height], 1)[::-1]]
    )
    painter.polygon(edge, rgb)


# ---------------------------------------------------------------------------------------------------- scenes
# Each returns its layers, far to near. Colours are jittered, objects placed at random.


def starry_night(rng: np.random.Generator, size: int) -> list[SceneLayer]:
    layers = [sky(rng, size, (8, 10, 44), (26, 28, 88), (70, 50, 124))]
    for twinkle in (0.0, 0.7):
        layers.append(specks(rng, size, 90, (0.004, 0.011), (255, 250, 226), 0.14, twinkle=twinkle))
    layers.append(disc_with_glow(size, rng.uniform(0, 2), rng.uniform(0.0, 0.2), 0.08, (250, 240, 200), 0.1))
    layers.append(mountains(rng, size, 0.78, 0.05, tint(rng, (40, 36, 92), 5)))
    return [*layers, forest(rng, size, 0.9, tint(rng, (12, 14, 36), 4), tint(rng, (12, 14, 36), 4))]


def sunset(rng: np.random.Generator, size: int) -> list[SceneLayer]:
    return [
        sky(rng, size, (92, 44, 124), (228, 84, 92), (252, 164, 74), (254, 216, 124)),
        disc_with_glow(size, rng.uniform(0, 2), rng.uniform(0.5, 0.62), 0.17, (255, 244, 186), 0.1),
        clouds(rng, size, tint(rng, (250, 140, 124)), 6),
        mountains(rng, size, 0.74, 0.05, tint(rng, (150, 62, 98))),
        forest(rng, size, 0.88, tint(rng, (62, 26, 60), 5), tint(rng, (62, 26, 60), 5)),
    ]


def sea(rng: np.random.Generator, size: int) -> list[SceneLayer]:
    horizon = rng.uniform(0.56, 0.62)
    far, water = Painter(size), Painter(size)
    for x in spaced(rng, 3):
        far.ellipse(x, horizon, rng.uniform(0.08, 0.16), rng.uniform(0.03, 0.06), tint(rng, (96, 150, 140)))
    water.box(0, horizon, WIDTH, 2, tint(rng, (34, 128, 190)))
    waves = []
    for base, rgb, depth in (
        (0.7, (26, 108, 176), 0.55),
        (0.82, (18, 88, 158), 0.8),
        (0.93, (12, 68, 138), 1.1),
    ):
        crest, wave = hills(rng, base, 0.012, 7), Painter(size)
        wave.ridge(crest - 0.016, tint(rng, (190, 228, 244), 5))
        wave.ridge(crest, tint(rng, rgb))
        waves.append(wave.layer(depth, wind=(rng.uniform(-0.06, 0.06), 0)))
    layers = [
        sky(rng, size, (96, 178, 240), (196, 228, 250), (236, 244, 250)),
        clouds(rng, size, (255, 255, 255), 6),
    ]
    return [*layers, far.layer(0.25), water.layer(0.35), *waves]


def snowy_hill(rng: np.random.Generator, size: int) -> list[SceneLayer]:
    return [
        sky(rng, size, (150, 172, 206), (208, 218, 234)),
        mountains(rng, size, 0.62, 0.09, tint(rng, (176, 192, 218))),
        forest(rng, size, 0.76, tint(rng, (226, 234, 246), 5), tint(rng, (48, 92, 88)), depth=0.6),
        forest(rng, size, 0.92, tint(rng, (250, 252, 255), 3), tint(rng, (36, 76, 74)), depth=1.0, count=5),
        specks(
            rng,
            size,
            110,
            (0.007, 0.014),
            (255, 255, 255),
            1.0,
            wind=(0.04, rng.uniform(0.2, 0.32)),
            falls=True,
        ),
    ]


def city_at_dusk(rng: np.random.Generator, size: int) -> list[SceneLayer]:
    return [
        sky(rng, size, (70, 60, 134), (172, 96, 154), (240, 152, 140)),
        clouds(rng, size, tint(rng, (212, 128, 170)), 4),
        houses(rng, size, (0.46, 0.66), tint(rng, (112, 70, 128)), None, 0.35),
        houses(rng, size, (0.62, 0.86), tint(rng, (38, 32, 68), 5), (255, 214, 120), 0.95),
    ]


def green_hills(rng: np.random.Generator, size: int) -> list[SceneLayer]:
    near = Painter(size)
    line = hills(rng, 0.9, 0.03, 2)
    near.ridge(line, tint(rng, (84, 160, 70)))
    for x in spaced(rng, 6):
        round_tree(near, x, on(line, x) + 0.02, rng.uniform(0.16, 0.24), tint(rng, (44, 122, 56)), (96, 70, 50))
    for x in spaced(rng, 18):
        near.ellipse(
            x,
            on(line, x) + rng.uniform(0.03, 0.2),
            0.013,
            0.013,
            [(255, 236, 120), (255, 250, 250)][rng.integers(2)],
        )
    return [
        sky(rng, size, (84, 160, 240), (172, 216, 250), (224, 240, 250)),
        clouds(rng, size, (255, 255, 255), 7),
        mountains(rng, size, 0.66, 0.06, tint(rng, (140, 198, 150)), 0.3),
        ridge_layer(rng, size, 0.76, 0.05, tint(rng, (114, 184, 92)), 0.55),
        near.layer(1.0, shade=0.25),
    ]


def desert(rng: np.random.Generator, size: int) -> list[SceneLayer]:
    mesas, near = Painter(size), Painter(size)
    for x in spaced(rng, 4):
        half, top = rng.uniform(0.1, 0.18), rng.uniform(0.5, 0.62)
        outline = [(-half, 0.9), (-0.75 * half, top), (0.75 * half, top), (half, 0.9)]
        mesas.polygon(np.array(outline) + [x, 0], tint(rng, (204, 122, 84)))
    line = hills(rng, 0.9, 0.03, 2)
    near.ridge(line, tint(rng, (214, 156, 88)))
    for x in spaced(rng, 5):
        cactus(near, x, on(line, x) + 0.03, rng.uniform(0.16, 0.24), tint(rng, (74, 128, 76)))
    return [
        sky(rng, size, (112, 188, 230), (236, 224, 190), (252, 228, 172)),
        disc_with_glow(size, rng.uniform(0, 2), rng.uniform(0.02, 0.2), 0.09, (255, 250, 220), 0.1),
        mesas.layer(0.25),
        ridge_layer(rng, size, 0.76, 0.05, tint(rng, (234, 186, 116)), 0.55),
        near.layer(1.0, shade=0.2),
    ]


def underwater(rng: np.random.Generator, size: int) -> list[SceneLayer]:
    rays, near = Painter(size), Painter(size)
    for x in spaced(rng, 5):
        width = rng.uniform(0.06, 0.14)
        rays.polygon(
            np.array([(x, TOP), (x + width, TOP), (x + width - 0.5, 1.0), (x - 0.56, 1.0)]), (255, 255, 255)
        )
    light = rays.layer(0.15, wind=(rng.uniform(-0.08, 0.08), 0))
    line = hills(rng, 0.92, 0.025, 2)
    near.ridge(line, tint(rng, (206, 186, 128)))
    for x in spaced(rng, 9):
        weed(
            near,
            x,
            on(line, x) + 0.04,
            rng.uniform(0.16, 0.3),
            tint(rng, [(36, 140, 92), (200, 84, 110)][rng.integers(2)]),
        )
    return [
        sky(rng, size, (72, 204, 220), (22, 120, 182), (8, 56, 120)),
        SceneLayer(light.pixels * np.float32(0.14), light.depth, light.wind),
        mountains(rng, size, 0.76, 0.07, tint(rng, (14, 82, 132))),
        near.layer(1.0, shade=0.3),
        specks(
            rng, size, 40, (0.009, 0.018), (206, 242, 255), 1.0, wind=(0, -rng.uniform(0.2, 0.35)), falls=True
        ),
    ]


def ridge_layer(
    rng: np.random.Generator, size: int, base: float, height: float, rgb: Rgb, depth: float
) -> SceneLayer:
    painter = Painter(size)
    painter.ridge(hills(rng, base, height, 2), rgb)
    return painter.layer(depth, shade=0.2)


def mountains(
    rng: np.random.Generator, size: int, base: float, height: float, rgb: Rgb, depth: float = 0.3
) -> SceneLayer:
    return ridge_layer(rng, size, base, height, rgb, depth)


def forest(
    rng: np.random.Generator,
    size: int,
    base: float,
    ground: Rgb,
    trees: Rgb,
    depth: float = 1.0,
    count: int = 9,
) -> SceneLayer:
    """A hill with pines on it."""
    painter = Painter(size)
    line = hills(rng, base, 0.03, 2)
    for x in spaced(rng, count):
        pine(painter, x, on(line, x) + 0.03, rng.uniform(0.14, 0.24), trees)
    painter.ridge(line, ground)
    return painter.layer(depth, shade=0.15)


def houses(
    rng: np.random.Generator, size: int, tops: tuple[float, float], wall: Rgb, window: Rgb | None, depth: float
) -> SceneLayer:
    painter = Painter(size)
    edges = np.concatenate([[0], np.cumsum(rng.uniform(0.13, 0.22, 20))])
    edges = edges[: np.searchsorted(edges, WIDTH)] * WIDTH / edges[np.searchsorted(edges, WIDTH) - 1]
    for left, right in pairwise(edges):
        top = rng.uniform(*tops)
        painter.box(left, top, right - left - 0.012, 2, tint(rng, wall, 8))
        columns = max(1, round((right - left) / 0.06))
        for row in np.arange(top + 0.04, 1.4, 0.09) if window else ():
            for column in range(columns):
                if rng.uniform() < 0.6:
                    x = left + (column + 0.5) * (right - left - 0.012) / columns
                    painter.box(x - 0.013, row, 0.026, 0.036, window)
    return painter.layer(depth)


SCENES: dict[str, Callable[[np.random.Generator, int], list[SceneLayer]]] = {
    "starry night": starry_night,
    "sunset": sunset,
    "sea": sea,
    "snowy hill": snowy_hill,
    "city at dusk": city_at_dusk,
    "green hills": green_hills,
    "desert": desert,
    "underwater": underwater,
}
