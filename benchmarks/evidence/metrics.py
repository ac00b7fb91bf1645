"""Figures of one video, named after VBench's dimensions (Huang et al., CVPR 2024).

Computed as VBench does where its definition needs no network. Where it has one look at optical flow (RAFT) or
at frames between frames (AMT), OpenCV's DIS flow stands in, which changes the figures' scale, not what they
mean.
Every figure is better the higher it is, but for `dynamic_degree` and `mean_flow`, which VBench has not: more of
them is merely different.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

MOST_MOVING = 0.05  # VBench: of a frame's pixels, those that move most
PIXELS_PER_FRAME = 6 / 256  # VBench: moving at all, in shares of the shorter side


def temporal_flickering(frames: np.ndarray) -> float:
    """1 - the mean absolute difference of neighbouring frames uint8 [F, H, W, 3], of pixels in 0..1."""
    return 1 - float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean()) / 255


def motion_smoothness(frames: np.ndarray) -> float:
    """1 - the mean absolute error of every other frame, predicted from its two neighbours along the flow."""
    errors = []
    for before, frame, after in zip(frames[:-2:2], frames[1:-1:2], frames[2::2], strict=False):
        predicted = halfway(before, after)
        errors.append(np.abs(predicted - frame.astype(np.float32)).mean() / 255)
    return 1 - float(np.mean(errors))


def dynamic_degree(frames: np.ndarray) -> float:
    """1 if it moves, else 0: whether in a quarter of the frames those pixels that move most, move enough."""
    least = PIXELS_PER_FRAME * min(frames.shape[1:3])
    moving = [speed_of_the_fastest(a, b) > least for a, b in pairwise(frames)]
    return float(sum(moving) >= max(1, round(4 * len(frames) / 16)))


def speed_of_the_fastest(a: np.ndarray, b: np.ndarray) -> float:
    """Pixels per frame, the mean over the fastest pixels."""
    speed = np.linalg.norm(flow(a, b), axis=-1).ravel()
    count = max(1, int(MOST_MOVING * speed.size))
    return float(np.partition(speed, -count)[-count:].mean())


def mean_flow(frames: np.ndarray) -> float:
    """How far the pixels go, in pixels per frame: all of them, flicker included."""
    return float(np.mean([np.linalg.norm(flow(a, b), axis=-1).mean() for a, b in pairwise(frames)]))


def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where the pixels of a go in b: float32 [H, W, (x, y)]."""
    engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return engine.calc(*(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (a, b)), None)


def halfway(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """float32 [H, W, 3]: the frame between two, each moved half of the way to the other."""
    forward, backward = flow(before, after), flow(after, before)
    return (moved(before, -forward / 2) + moved(after, -backward / 2)) / 2


def moved(frame: np.ndarray, by: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        frame.astype(np.float32),
        x + by[..., 0],
        y + by[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


METRICS = {f.__name__: f for f in (temporal_flickering, motion_smoothness, dynamic_degree, mean_flow)}
