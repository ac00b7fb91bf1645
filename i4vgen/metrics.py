"""What a comparison reports about a video.

Videos of any size are compared at one size, so that a figure does not depend on the resolution, nor on grain
that is finer than an eye would see.

Flicker and motion come from one search, for how each patch of a frame could lie on a straight path from the
frame before to the frame after (bilateral motion estimation, as in frame interpolation: Choi et al., IEEE
Transactions on Circuits and Systems for Video Technology 17(4), 2007). How far the patches travel is the
motion; what no path explains is the flicker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 128
"""Pixels of the longer side at which flicker and motion are measured."""

ANCHOR_SIDE = 64
"""Pixels of the longer side at which a video is compared with its anchor."""

PATCH = 8
"""Side of the square patches that are followed or looked for, in pixels at these sizes."""

REACH = 10
"""How far a patch may travel from one frame to the next, in pixels of `SIDE`: 8 % of the longer side."""

EFFORT = 0.004
"""How much better a path must explain a patch for every pixel that it is longer (mean absolute difference, of
pixels in 0..1). Without that, patches of plain sky would wander.
"""

LEAST_DETAIL = 1e-4
"""Added to the variance of an anchor's patches (pixels in 0..1): an anchor of one colour has none."""


@dataclass(frozen=True)
class Metric:
    """A figure about a video. What it is called and what it means to people is said in `ui.strings`.

    name: the field of `Measures`, but for `REWARD`.
    unit: of the figure; empty where it is a plain number.
    digits: how many decimals are worth showing.
    better: which of two figures is the better one, or None where more is merely different.
    """

    name: str
    unit: str
    digits: int
    better: Literal["higher", "lower"] | None


METRICS = (
    Metric("flicker", "%", 2, "lower"),
    Metric("motion", "%", 2, None),
    Metric("consistency", "%", 1, "higher"),
)
REWARD = Metric("reward", "", 2, "higher")
"""Every score of a reward model."""


@dataclass(frozen=True)
class Measures:
    """All figures of one video.

    flicker, motion: see `flicker_and_motion`. consistency: see `consistency`.
    rewards: by the name of the reward model, the mean score over the frames, on that model's own scale.
    """

    flicker: float
    motion: float
    consistency: float
    rewards: dict[str, float]

    def to_dict(self) -> dict:
        """As JSON types, for run.json: what cannot be measured is None, as JSON knows no nan."""
        figures = {name: None if value != value else value for name, value in asdict(self).items()}
        return figures | {"rewards": dict(self.rewards)}


def measure(frames: np.ndarray, anchor: np.ndarray, rewards: Mapping[str, float]) -> Measures:
    """Measures a video.

    frames: uint8 [F, H, W, 3]. anchor: uint8 [H, W, 3], as the model sees it. rewards: what the reward models
    said of it (`Result.scores`).
    """
    return Measures(*flicker_and_motion(frames), consistency(frames, anchor), dict(rewards))


@torch.inference_mode()
def flicker_and_motion(frames: np.ndarray) -> tuple[float, float]:
    """What changes and comes back, and how much moves, in uint8 frames [F, H, W, 3].

    Every frame but the first and last is predicted as the mean of its two neighbours, one shifted forward by d
    and the other back by d; each patch takes the d, within `REACH`, that predicts it best (and `EFFORT`).

    flicker: the mean absolute difference that remains, in percent of the range of a pixel. Near 0 for a still
    video, for a steady fade and for things that glide; most for light or detail that comes and goes.
    motion: the mean length of d, in percent of the longer side per frame. 0 for a still video.
    Both are nan for fewer than three frames.
    """
    if len(frames) < 3:
        return math.nan, math.nan
    pixels = _small(frames, SIDE)
    middle = pixels[1:-1]
    height, width = middle.shape[2:]
    padded = F.pad(pixels, [REACH] * 4, mode="replicate")

    def unexplained(dy: int, dx: int) -> Tensor:
        """What a path of (dy, dx) per frame leaves of each patch: [F - 2, h / PATCH, w / PATCH]."""
        before = padded[:-2, :, REACH - dy :, REACH - dx :][..., :height, :width]
        after = padded[2:, :, REACH + dy :, REACH + dx :][..., :height, :width]
        return F.avg_pool2d((middle - (before + after) / 2).abs().mean(1), PATCH, ceil_mode=True)

    paths = list(product(range(-REACH, REACH + 1), repeat=2))
    lengths = torch.tensor([math.hypot(*path) for path in paths])
    residuals = torch.stack([unexplained(*path) for path in paths])
    chosen = (residuals + EFFORT * lengths[:, None, None, None]).argmin(0)
    flicker = residuals.gather(0, chosen[None]).mean().item()
    return 100 * flicker, 100 * lengths[chosen].mean().item() / SIDE


@torch.inference_mode()
def consistency(frames: np.ndarray, anchor: np.ndarray) -> float:
    """How much of the anchor is found again in the frames, wherever it is by then; in percent.

    Every patch of the anchor is looked for in all places of every frame (the completeness of Simakov et al.,
    CVPR 2008: each patch's nearest neighbour by squared difference). The result is d / (d + e): the anchor's
    detail d, the mean variance within its patches, against the mean squared error e of what was found.

    frames: uint8 [F, H, W, 3]. anchor: uint8 [H, W, 3]. 100 if every frame holds all of the anchor, towards 0
    the less is found. What moves costs next to nothing; what changes its shape or colour, is covered or leaves
    does.
    """
    patches = F.unfold(_small(anchor[None], ANCHOR_SIDE), PATCH, stride=PATCH)[0].T
    error = 0.0
    for frame in _small(frames, ANCHOR_SIDE):
        places = F.unfold(frame[None], PATCH)[0].T
        distances = torch.cdist(patches, places, compute_mode="donot_use_mm_for_euclid_dist")  # exact near 0
        error += distances.amin(1).square().mean().item() / patches.shape[1] / len(frames)
    detail = patches.var(1, correction=0).mean().item() + LEAST_DETAIL
    return 100 * detail / (detail + error)


def frame_difference(frames: np.ndarray) -> float:
    """Mean absolute difference of neighbouring frames [F, H, W, 3], of pixels in 0..1; F > 1.

    VBench's temporal flickering (Huang et al., CVPR 2024) is one minus this, on videos in which nothing should
    move.
    """
    pixels = torch.from_numpy(frames.astype(np.float32)) / 255
    return pixels.diff(dim=0).abs().mean().item()


def busiest_row(*videos: np.ndarray) -> int:
    """The row in which neighbouring frames differ most, over all of these videos; 0 if nothing moves.

    videos: uint8 [F, H, W, 3] each, of one height.
    """
    changes = [np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(0, 2, 3)) for frames in videos]
    return int(np.argmax(sum(changes)))


def xt_slice(frames: np.ndarray, row: int | None = None) -> np.ndarray:
    """One row of every frame, the first frame on top: uint8 [F, H, W, 3] becomes uint8 [F, W, 3].

    In this picture what stays is a straight line down, what glides a slanted one, and what flickers changes its
    colour from line to line.

    row: the busiest one if it is not given.
    """
    return frames[:, busiest_row(frames) if row is None else row]


def _small(frames: np.ndarray, side: int) -> Tensor:
    """uint8 [F, H, W, 3] as [F, 3, h, w] in 0..1, with max(h, w) = side."""
    height, width = frames.shape[1:3]
    scale = side / max(height, width)
    pixels = torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2) / 255
    return F.interpolate(pixels, (round(height * scale), round(width * scale)), mode="bilinear", antialias=True)
