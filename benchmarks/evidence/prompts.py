"""The prompts that models are measured on. Nothing was tuned on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pocket.presets import Preset
from pocket.world import KINDS, Shown

DRAW = 20_261_124
FIRST_SEED = 1_000  # of the videos
FIRST_PAIRS = 8  # of the prompts that name a kind: those of the contact sheet
NAMED = (1, 3)  # of five prompts: those that name a member
OF_THE_REAL_WORLD = Path(__file__).parent / "prompts.txt"


def make_prompts(preset: Preset, count: int) -> list[Shown]:
    """What random prompts to a pocket model ask for: of every five, three name a kind and two a member.

    In either sort, every kind, setting and motion comes up about equally often. The first prompts are the same
    for any count.
    """
    of_kinds, of_members = (draw_prompts(preset, sort) for sort in range(2))
    members = np.random.default_rng(DRAW)
    prompts = []
    for number in range(count):
        if number % 5 in NAMED:
            shown = next(of_members)
            prompts.append(replace(shown, member=str(members.choice(list(KINDS[shown.kind])))))
        else:
            prompts.append(next(of_kinds))
    return prompts


def draw_prompts(preset: Preset, sort: int) -> Iterator[Shown]:
    """Random prompts without end. sort: of the prompts, each with a seed of its own."""
    lists = (preset.kinds, preset.settings, preset.motions)
    streams = [shuffled(names, np.random.default_rng([DRAW, sort, i])) for i, names in enumerate(lists)]
    for kind, setting, motion in zip(*streams, strict=True):
        yield Shown(kind, None, setting, motion)


def shuffled(names: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """All names in random order, again and again."""
    while True:
        yield from (str(name) for name in rng.permutation(names))


def read_prompts(path: Path, count: int) -> list[str]:
    """The first prompts of a file with one on each line. Raises `ValueError` if it has fewer."""
    prompts = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if len(prompts) < count:
        raise ValueError(f"{path} has {len(prompts)} prompts, not {count}")
    return prompts[:count]
