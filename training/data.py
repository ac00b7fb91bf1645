"""Rendered clips, their latents and their captions, ready for training."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training.config import Preset
from training.patch_pca import PatchPCA
from training.world import Clip, caption, random_clip

# Who sees which clips: a model and those that judge it never share any.
SEEDS = {"generator": 1, "reward": 2, "referee": 3, "referee-test": 4, "vae": 5, "vae-test": 6}

ENCODE_AT_ONCE = 64  # clips
SHARE = 64  # clips that a core draws at a time

T = TypeVar("T")


def render(preset: Preset, split: str, index: int) -> Clip:
    """Clip number `index` of a split, the same on every machine."""
    rng = np.random.default_rng([SEEDS[split], index])
    return random_clip(rng, preset.subjects, preset.settings, preset.motions, preset.num_frames, preset.size)


def render_all(preset: Preset, split: str, count: int) -> Iterator[Clip]:
    return draw_all(partial(render, preset, split), count, f"drawing {split} clips")


def draw_all(draw: Callable[[int], T], count: int, title: str) -> Iterator[T]:
    """draw(0), draw(1), ... in order, by all cores if there is more than one core's share."""
    if count <= SHARE:
        yield from map(draw, range(count))
        return
    with multiprocessing.get_context("forkserver").Pool() as pool:
        yield from tqdm(pool.imap(draw, range(count), chunksize=SHARE), total=count, desc=title, disable=None)


def to_tensor(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., 3, H, W] in -1..1."""
    return torch.from_numpy(frames).movedim(-1, -3).float() / 127.5 - 1


@dataclass
class LatentClips:
    """The generator's training set: latents fp16 [N, F, C, h, w] and what each clip shows."""

    latents: Tensor
    labels: list[tuple[str, str, str]]  # subject, setting, motion

    @classmethod
    def load_or_draw(cls, path: Path, preset: Preset, pca: PatchPCA) -> LatentClips:
        if path.exists():
            return cls(**torch.load(path, weights_only=True, mmap=True))
        height = preset.size // preset.patch
        latents = torch.empty(
            preset.clips, preset.num_frames, preset.latent_channels, height, height, dtype=torch.float16
        )
        labels = []
        clips = render_all(preset, "generator", preset.clips)
        for first in range(0, preset.clips, ENCODE_AT_ONCE):
            chunk = list(islice(clips, ENCODE_AT_ONCE))
            frames = to_tensor(np.stack([clip.frames for clip in chunk]))
            latents[first : first + len(chunk)] = pca.encode(frames.flatten(0, 1)).unflatten(
                0, frames.shape[:2]
            )
            labels += [(clip.subject, clip.setting, clip.motion) for clip in chunk]
        torch.save({"latents": latents, "labels": labels}, path)
        return cls(latents, labels)

    def __len__(self) -> int:
        return len(self.latents)

    def means(self, preset: Preset) -> Tensor:
        """The mean clip of every subject, setting and motion: [subjects, settings, motions, F, C, h, w]."""
        sizes = (len(preset.subjects), len(preset.settings), len(preset.motions))
        numbers = np.array([preset.numbers(*label) for label in self.labels])
        group = torch.from_numpy(np.ravel_multi_index(numbers.T, sizes))
        count = group.bincount(minlength=math.prod(sizes))
        if not count.all():
            raise ValueError(f"{len(self)} clips do not show every subject, setting and motion: draw more")
        total = torch.zeros(len(count), *self.latents.shape[1:])
        for latents, groups in zip(self.latents.split(1_000), group.split(1_000), strict=True):
            total.index_add_(0, groups, latents.float())
        return (total / count.view(-1, 1, 1, 1, 1)).unflatten(0, sizes)

    def captions(self, rng: np.random.Generator, indices: Tensor) -> list[str]:
        """A fresh wording for each clip."""
        return [caption(rng, *self.labels[i]) for i in indices.tolist()]
