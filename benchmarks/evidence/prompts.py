"""The prompts that models are measured on. Nothing was tuned on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from training.config import Preset
from training.world import Shown

DRAW = 20_261_124
FIRST_SEED = 1_000  # of the videos
OF_THE_REAL_WORLD = Path(__file__).parent / "prompts.txt"


def make_prompts(preset: Preset, count: int) -> list[Shown]:
    """What random prompts to a pocket model ask for. Every subject, colour, setting and motion comes up about
    equally often; the first prompts are the same for any count.
    """
    lists = (preset.subjects, preset.dyes, preset.settings, preset.motions)
    streams = (shuffled(names, np.random.default_rng([DRAW, i])) for i, names in enumerate(lists))
    return [Shown(*names) for names in islice(zip(*streams, strict=False), count)]


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
