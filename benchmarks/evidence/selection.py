"""Whether a larger choice has the better anchor: how often the candidate that the reward likes best shows what
the prompt asks for, when it chooses among 1, 4, 16 and 64.

All counts choose from the same candidates: among 64, there are 16 choices of four.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from tqdm import tqdm

from benchmarks.evidence.drawing import Job, read_pool
from benchmarks.evidence.judging import Jury
from benchmarks.evidence.report import cell, gain_cell
from benchmarks.evidence.statistics import mean_of
from training.markdown import table

COUNTS = (1, 4, 16, 64)
TITLES = {"right": "right by our judge", "imagenet_right": "subject right by ImageNet's"}

Selection = dict[str, dict[int, dict]]
"""By figure and count of candidates: its mean and the gain on a single one, with intervals over prompts."""


def chosen(scores: np.ndarray, values: np.ndarray, count: int) -> float:
    """The mean value of the candidates that score highest among each `count` in a row, of [P] in all."""
    groups = len(scores) // count
    best = scores[: groups * count].reshape(groups, count).argmax(1)
    return float(values[: groups * count].reshape(groups, count)[np.arange(groups), best].mean())


def select(jobs: Sequence[Job], jury: Jury, size: int) -> Selection:
    """size: of the jobs' pools. A figure whose heads may not judge is left out."""
    counts = [count for count in COUNTS if count <= size]
    numbers, seeds = (sorted({getattr(job, name) for job in jobs}) for name in ("number", "seed"))
    found: dict[str, np.ndarray] = {}  # by figure: [counts, prompts, seeds]
    for job in tqdm(jobs, desc="judging candidates", disable=None):
        images, scores = read_pool(job)
        number, seed = numbers.index(job.number), seeds.index(job.seed)
        for name, right in jury.right(images, job.shown).items():
            values = found.setdefault(name, np.full((len(counts), len(numbers), len(seeds)), np.nan))
            values[:, number, seed] = [chosen(scores, right, count) for count in counts]
    return {
        name: {
            count: {"mean": asdict(mean_of(of_count)), "gain": asdict(mean_of(of_count - values[0]))}
            for count, of_count in zip(counts, values, strict=True)
        }
        for name, values in found.items()
    }


def selection_table(selection: Selection) -> str:
    def text(of: Mapping[int, Mapping], count: int) -> str:
        mean = cell(of[count]["mean"])
        return mean if count == 1 else f"{mean}; {gain_cell(of[count])}"

    counts = next(iter(selection.values()))
    rows = [
        ["one candidate" if count == 1 else f"best of {count}", *(text(of, count) for of in selection.values())]
        for count in counts
    ]
    words = "The anchor by the number of candidates that the reward chooses among, and the gain on one alone:"
    return f"{words}\n\n{table(['', *(TITLES[name] for name in selection)], rows)}\n"
