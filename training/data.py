"""Rendered clips, their latents and their captions, ready for training."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pocket.presets import Preset
from pocket.world import RenderedClip, Shown, caption, random_clip
from training.patch_pca import PatchPCA

# Who sees which clips: a model and those that judge it never share any.
SEEDS = {
    "generator": 1,
    "reward": 2,
    "judge": 3,
    "judge-test": 4,
    "vae": 5,
    "vae-test": 6,
    "means": 7,
    "probe": 8,
}

ENCODE_AT_ONCE = 64  # clips
SHARE = 64  # clips that a core draws at a time

T = TypeVar("T")


def render(preset: Preset, split: str, index: int) -> RenderedClip:
    """Clip number `index` of a split, the same on every machine."""
    rng = np.random.default_rng([SEEDS[split], index])
    names = preset.kinds, preset.settings, preset.motions
    return random_clip(rng, *names, preset.num_frames, preset.size)


def render_frame(preset: Preset, split: str, index: int) -> tuple[np.ndarray, Shown]:
    """One frame of clip number `index`, uint8 [H, W, 3], and what it shows."""
    clip = render(preset, split, index)
    return clip.frames[index % len(clip.frames)], clip.shown


def render_all(preset: Preset, split: str, count: int) -> Iterator[RenderedClip]:
    return draw_all(partial(render, preset, split), count, f"drawing {split} clips")


def draw_all(draw: Callable[[int], T], count: int, title: str, share: int = SHARE) -> Iterator[T]:
    """draw(0), draw(1), ... in order, by all cores if there is more than one core's share."""
    if count <= share:
        yield from map(draw, range(count))
        return
    with multiprocessing.get_context("forkserver").Pool() as pool:
        yield from tqdm(pool.imap(draw, range(count), chunksize=share), total=count, desc=title, disable=None)


def to_tensor(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., 3, H, W] in -1..1."""
    return torch.from_numpy(frames).movedim(-1, -3).float() / 127.5 - 1


def to_latents(frames: Tensor, pca: PatchPCA) -> Tensor:
    """[..., H, W, 3] in 0..255 -> [..., C, h, w]."""
    pixels = frames.movedim(-1, -3).float() / 127.5 - 1
    return pca.encode(pixels.flatten(0, -4)).unflatten(0, pixels.shape[:-3])


@dataclass
class LatentClips:
    """The generator's training set: latents fp16 [N, F, C, h, w] and what each clip shows."""

    latents: Tensor
    shown: list[Shown]

    @classmethod
    def load_or_draw(cls, path: Path, preset: Preset, pca: PatchPCA, device: torch.device) -> LatentClips:
        """The clips, on the device. `path` keeps them for the next call."""
        if not path.exists():
            torch.save(cls.draw(preset, pca), path)
        saved = torch.load(path, weights_only=True, mmap=True)
        return cls(saved["latents"].to(device), [Shown(*names) for names in saved["shown"]])

    @staticmethod
    def draw(preset: Preset, pca: PatchPCA) -> dict[str, object]:
        height = preset.size // preset.patch
        latents = torch.empty(
            preset.clips, preset.num_frames, preset.latent_channels, height, height, dtype=torch.float16
        )
        shown: list[Shown] = []
        clips = render_all(preset, "generator", preset.clips)
        for first in range(0, preset.clips, ENCODE_AT_ONCE):
            chunk = list(islice(clips, ENCODE_AT_ONCE))
            frames = torch.from_numpy(np.stack([clip.frames for clip in chunk]))
            latents[first : first + len(chunk)] = to_latents(frames, pca)
            shown += [clip.shown for clip in chunk]
        return {"latents": latents, "shown": [astuple(names) for names in shown]}

    def __len__(self) -> int:
        return len(self.latents)

    def captions(self, rng: np.random.Generator, indices: Tensor) -> list[str]:
        """A fresh wording for each clip."""
        return [caption(rng, self.shown[i]) for i in indices.tolist()]
