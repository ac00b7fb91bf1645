"""The mean clip of everything that a caption can name: the best answer to a prompt of which nothing is shown.

A sampler begins with noise alone, but the schedule leaves a trace of the clip at its noisiest, so that a model
that is only shown clips looks for that trace and does not listen to the prompt. Where there is noise alone, the
best prediction of the clean clip is the mean of all clips that the caption fits. What single clips have of
their own would be noise in that target, and more than what a word changes, so the mean itself is the target.

A scene and the subject's track are drawn independently of each other, given the motion, so the mean of
`scene * (1 - alpha) + subject` is that of its parts, and few draws of each are enough. The encoder is linear,
so the mean of latents is the latents of the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from itertools import accumulate, pairwise, product, starmap
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pocket.presets import Preset
from pocket.scenes import SCENES, travel
from pocket.world import (
    KINDS,
    MOTIONS,
    SETTINGS,
    Shown,
    draw_camera,
    draw_poses,
    draw_subject,
    draw_track,
    tells,
)
from training.data import SEEDS, draw_all, to_latents
from training.patch_pca import PatchPCA

SCENE_DRAWS = 64
TRACK_DRAWS = 16


class MeanClips:
    """latents: float16 [members, settings, motions, F, C, h, w]."""

    def __init__(self, preset: Preset, latents: Tensor):
        self.preset = preset
        self.latents = latents

    @classmethod
    def load_or_draw(cls, path: Path, preset: Preset, pca: PatchPCA, device: torch.device) -> MeanClips:
        """The means, on the device. `path` keeps them for the next call."""
        if not path.exists():
            torch.save(draw_means(preset, pca), path)
        return cls(preset, torch.load(path, weights_only=True, mmap=True).to(device))

    def of(self, shown: Shown, caption: str) -> Tensor:
        """The mean of all clips that this caption fits: float32 [F, C, h, w]. An empty one fits all."""
        if not caption:
            return self.everything
        _, member, setting, motion = self.preset.numbers(shown)
        members = slice(member, member + 1) if shown.member in caption else self._members_of[shown.kind]
        settings = slice(setting, setting + 1) if tells(caption, SETTINGS[shown.setting]) else slice(None)
        motions = slice(motion, motion + 1) if tells(caption, MOTIONS[shown.motion]) else slice(None)
        return self.latents[members, settings, motions].float().mean((0, 1, 2))

    @cached_property
    def everything(self) -> Tensor:
        # A kind comes up as often as any other, however many members it has.
        each = [self.latents[members].float().mean((0, 1, 2)) for members in self._members_of.values()]
        return torch.stack(each).mean(0)

    @cached_property
    def _members_of(self) -> dict[str, slice]:
        """Where every kind's members are in `latents`."""
        ends = list(accumulate((len(KINDS[kind]) for kind in self.preset.kinds), initial=0))
        return dict(zip(self.preset.kinds, starmap(slice, pairwise(ends)), strict=True))


def draw_means(preset: Preset, pca: PatchPCA) -> Tensor:
    pairs = list(product(preset.settings, preset.motions))
    scenes = np.stack(list(draw_all(partial(mean_scene, preset), len(pairs), "averaging scenes", share=1)))
    scenes = scenes.reshape(len(preset.settings), len(preset.motions), *scenes.shape[1:])
    pairs = list(product(preset.members, preset.motions))
    tracks = draw_all(partial(mean_subject, preset), len(pairs), "averaging subjects", share=8)
    height = preset.size // preset.patch
    sizes = len(preset.members), len(preset.settings), len(preset.motions)
    means = torch.empty(*sizes, preset.num_frames, preset.latent_channels, height, height, dtype=torch.float16)
    for (member, motion), subject in zip(pairs, tracks, strict=True):
        number, m = preset.members.index(member), preset.motions.index(motion)
        clips = scenes[:, m] * (1 - subject[..., 3:]) + subject[..., :3]
        means[number, :, m] = to_latents(torch.from_numpy(clips * 255).float(), pca)
    return means


def mean_scene(preset: Preset, index: int) -> np.ndarray:
    """float32 [F, H, W, 3] in 0..1: the mean of a setting's scenes, as a camera passes them."""
    setting, motion = list(product(preset.settings, preset.motions))[index]
    rng = np.random.default_rng([SEEDS["means"], 0, index])

    def draw() -> np.ndarray:
        camera = draw_camera(rng, motion, preset.num_frames)
        return travel(SCENES[setting](rng, preset.size), camera, preset.size)

    return average(draw, SCENE_DRAWS)


def mean_subject(preset: Preset, index: int) -> np.ndarray:
    """float32 [F, H, W, 4]: a member's mean over tracks of a motion, premultiplied."""
    member, motion = list(product(preset.members, preset.motions))[index]
    rng = np.random.default_rng([SEEDS["means"], 1, index])

    def draw() -> np.ndarray:
        track = draw_track(rng, motion, preset.num_frames)
        return draw_subject(member, motion, track, draw_poses(rng, preset.num_frames), preset.size)

    return average(draw, TRACK_DRAWS)


def average(draw: Callable[[], np.ndarray], count: int) -> np.ndarray:
    return sum(draw() for _ in range(count)) / count
