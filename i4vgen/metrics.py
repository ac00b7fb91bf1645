"""The metrics of a video: flicker, motion, consistency with the anchor, and steadiness.

For the first three, videos are first scaled to one size, so that the values depend neither on the resolution
nor on fine grain. Steadiness is measured on image features rather than pixels.

Flicker and motion come from bilateral motion estimation (as in frame interpolation: Choi et al., IEEE
Transactions on Circuits and Systems for Video Technology 17(4), 2007): each patch of a frame is matched along
straight paths from the previous frame to the next. Motion is the length of the best paths; flicker is the
difference that remains.
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
"""The longer side at which flicker and motion are measured, in pixels."""

ANCHOR_SIDE = 64
"""The longer side at which a video is compared with its anchor, in pixels."""

PATCH = 8
"""Side of the square patches, in pixels at these sizes."""

REACH = 10
"""The largest motion of a patch between two frames, per axis, in pixels: 8 % of `SIDE`."""

LENGTH_PENALTY = 0.004
"""Penalty per pixel of path length, added to the mean absolute difference to keep uniform patches at rest."""

UNLIKE = 0.5
"""Frames with at most this cosine similarity are drawn as entirely different."""

MIN_DETAIL = 1e-4
"""Added to the variance of an anchor's patches (pixels in 0..1), which is 0 for a uniform anchor."""


@dataclass(frozen=True)
class Metric:
    """A metric of a video. `studio.components.report` has its label and explanation.

    Attributes:
        name: The name of the attribute of `Measures`, except for `REWARD`.
        unit: The unit; empty for a plain number.
        digits: The number of decimals to show.
        better: Whether the higher or the lower value is better; None if neither.
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
STEADINESS = Metric("subject_consistency", "", 2, "higher")
REWARD = Metric("reward", "", 2, "higher")
"""The metric for the scores of all reward models."""


@dataclass(frozen=True)
class Steadiness:
    """The similarity of a video to its beginning in image features, as defined by `steadiness`.

    Attributes:
        by: The name of the reward model that computed the features.
        from_anchor: Whether the frames are compared with the anchor rather than the first frame.
        frames: Each frame's cosine similarity to that image, at most 1.
        subject_consistency: The subject consistency of the whole video, 0 to 1.
    """

    by: str
    from_anchor: bool
    frames: tuple[float, ...]
    subject_consistency: float

    @property
    def shades(self) -> tuple[float, ...]:
        """The similarities scaled for drawing: 1 for a cosine of 1, and 0 for `UNLIKE` or less."""
        return tuple(min(max((cosine - UNLIKE) / (1 - UNLIKE), 0.0), 1.0) for cosine in self.frames)


@dataclass(frozen=True)
class Measures:
    """All metrics of one video.

    Attributes:
        flicker: Flicker in percent (`flicker_and_motion`).
        motion: Motion in percent (`flicker_and_motion`).
        consistency: Consistency with the anchor in percent (`consistency`).
        rewards: Mean score of the frames, by reward model.
        steadiness: The steadiness; None without a reward model that has image features.
    """

    flicker: float
    motion: float
    consistency: float
    rewards: dict[str, float]
    steadiness: Steadiness | None = None

    @property
    def subject_consistency(self) -> float:
        """`Steadiness.subject_consistency`; nan without steadiness."""
        return math.nan if self.steadiness is None else self.steadiness.subject_consistency

    def to_dict(self) -> dict:
        """Returns the metrics for run.json. nan becomes None, and missing steadiness is omitted."""
        named = {name: getattr(self, name) for name in ("flicker", "motion", "consistency")}
        figures = {name: None if math.isnan(value) else value for name, value in named.items()}
        steady = {"steadiness": asdict(self.steadiness)} if self.steadiness else {}
        return figures | {"rewards": dict(self.rewards)} | steady


def measure(
    frames: np.ndarray,
    anchor: np.ndarray,
    rewards: Mapping[str, float],
    steadiness: Steadiness | None = None,
) -> Measures:
    """Measures a video.

    Args:
        frames: uint8 [F, H, W, 3].
        anchor: uint8 [H, W, 3], as the model sees it.
        rewards: The video's scores (`Result.scores`).
        steadiness: The video's steadiness (`Result.steadiness`).
    """
    return Measures(*flicker_and_motion(frames), consistency(frames, anchor), dict(rewards), steadiness)


@torch.inference_mode()
def flicker_and_motion(frames: np.ndarray) -> tuple[float, float]:
    """Measures flicker and motion of uint8 frames [F, H, W, 3].

    Every frame except the first and last is predicted as the mean of its two neighbours, one shifted forward by
    d and the other back by d. Each patch uses the d within `REACH` for which the difference plus
    `LENGTH_PENALTY` times the length of d is smallest.

    Returns:
        Flicker, the mean absolute difference that remains, in percent of a pixel's range: near 0 for still
        videos, steady fades and gliding objects, high for light or detail that comes and goes. Motion, the mean
        length of d, in percent of the longer side per frame. Both are nan for fewer than three frames.
    """
    if len(frames) < 3:
        return math.nan, math.nan
    pixels = _small(frames, SIDE)
    middle = pixels[1:-1]
    height, width = middle.shape[2:]
    padded = F.pad(pixels, [REACH] * 4, mode="replicate")

    def unexplained(dy: int, dx: int) -> Tensor:
        """Returns each patch's difference for (dy, dx) per frame, [F - 2, ceil(h / PATCH), ceil(w / PATCH)]."""
        before = padded[:-2, :, REACH - dy :, REACH - dx :][..., :height, :width]
        after = padded[2:, :, REACH + dy :, REACH + dx :][..., :height, :width]
        return F.avg_pool2d((middle - (before + after) / 2).abs().mean(1), PATCH, ceil_mode=True)

    paths = list(product(range(-REACH, REACH + 1), repeat=2))
    lengths = torch.tensor([math.hypot(*path) for path in paths])
    residuals = torch.stack([unexplained(*path) for path in paths])
    chosen = (residuals + LENGTH_PENALTY * lengths[:, None, None, None]).argmin(0)
    flicker = residuals.gather(0, chosen[None]).mean().item()
    return 100 * flicker, 100 * lengths[chosen].mean().item() / SIDE


@torch.inference_mode()
def consistency(frames: np.ndarray, anchor: np.ndarray) -> float:
    """Measures how much of the anchor appears in the frames, at any position, in percent.

    Every patch of the anchor is searched for at all positions of every frame (the completeness of Simakov et
    al., CVPR 2008: each patch's nearest neighbour by squared difference). The result is 100 d / (d + e):
    d is the anchor's detail (the mean variance within its patches) and e the mean squared error of the
    matches. It is 100 if every frame contains the whole anchor. Motion barely lowers it; changes of shape or
    colour, occlusion and leaving the frame do.

    Args:
        frames: uint8 [F, H, W, 3].
        anchor: uint8 [H, W, 3].
    """
    patches = F.unfold(_small(anchor[None], ANCHOR_SIDE), PATCH, stride=PATCH)[0].T
    error = 0.0
    for frame in _small(frames, ANCHOR_SIDE):
        places = F.unfold(frame[None], PATCH)[0].T
        distances = torch.cdist(patches, places, compute_mode="donot_use_mm_for_euclid_dist")  # exact near 0
        error += distances.amin(1).square().mean().item() / patches.shape[1] / len(frames)
    detail = patches.var(1, correction=0).mean().item() + MIN_DETAIL
    return 100 * detail / (detail + error)


def steadiness(by: str, features: np.ndarray, anchor: np.ndarray | None = None) -> Steadiness:
    """Measures how similar a video stays to its beginning.

    For each frame: the cosine of its features to the anchor's, or to the first frame's without an anchor.

    For the video: VBench's subject consistency (Huang et al., CVPR 2024, arXiv 2311.17982) with these features
    in place of DINO's: over all frames t but the first, the mean of
    (max(0, cos(t, first)) + max(0, cos(t, t - 1))) / 2. It ignores the anchor, so that videos with and without
    one are comparable, and is 1 for a still video or a single frame.

    Both favour static videos, so neither proves quality on its own.

    Args:
        by: The name of the reward model that computed the features.
        features: The frames' features, [F, D], of any norm.
        anchor: The anchor's features, [D].
    """
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    reference = rows[0] if anchor is None else anchor / np.linalg.norm(anchor)
    to_first, to_last = rows[1:] @ rows[0], (rows[1:] * rows[:-1]).sum(axis=1)
    both = (to_first.clip(min=0) + to_last.clip(min=0)) / 2
    whole = float(both.mean()) if len(both) else 1.0
    cosines = tuple(_rounded(cosine) for cosine in rows @ reference)
    return Steadiness(by, anchor is not None, cosines, _rounded(whole))


def frame_difference(frames: np.ndarray) -> float:
    """Returns the mean absolute difference of neighbouring frames, for pixels in 0..1.

    VBench's temporal flickering (Huang et al., CVPR 2024) is one minus this, on static scenes.

    Args:
        frames: uint8 [F, H, W, 3], at least two frames.
    """
    pixels = torch.from_numpy(frames.astype(np.float32)) / 255
    return pixels.diff(dim=0).abs().mean().item()


def busiest_row(*videos: np.ndarray) -> int:
    """Returns the index of the row in which neighbouring frames differ most, over all videos.

    Args:
        videos: uint8 [F, H, W, 3] each, of the same height.
    """
    changes = [np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(0, 2, 3)) for frames in videos]
    return int(np.argmax(sum(changes)))


def xt_slice(frames: np.ndarray, row: int | None = None) -> np.ndarray:
    """Stacks one row of every frame, the first frame on top: uint8 [F, H, W, 3] becomes uint8 [F, W, 3].

    Static objects become vertical lines, gliding ones slanted lines, and flicker changes colour from line to
    line.

    Args:
        row: The index of the row; None selects the busiest one.
    """
    return frames[:, busiest_row(frames) if row is None else row]


def _rounded(cosine: float) -> float:
    """Rounds to four digits, so that all devices agree, and clips rounding errors above 1."""
    return min(round(float(cosine), 4), 1.0)


def _small(frames: np.ndarray, side: int) -> Tensor:
    """Scales uint8 [F, H, W, 3] to float [F, 3, h, w] in 0..1, with max(h, w) = side."""
    height, width = frames.shape[1:3]
    scale = side / max(height, width)
    pixels = torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2) / 255
    return F.interpolate(pixels, (round(height * scale), round(width * scale)), mode="bilinear", antialias=True)
