"""Whether a larger choice has the better anchor: how often the candidate that the reward likes best shows what
the prompt asks for, when it chooses among 1, 4, 16 and 64.

All counts choose from the same candidates: among 64, there are 16 choices of four. Each count is kept
like a method, `choice of 4`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from tqdm import tqdm

from benchmarks.evidence.drawing import Case, read_pool
from benchmarks.evidence.judging import Jury
from benchmarks.evidence.measured import Measured, Row, figures_of, table_of
from benchmarks.evidence.report import cell, gain_cell
from benchmarks.evidence.statistics import mean_of
from training.markdown import table

COUNTS = (1, 4, 16, 64)
TITLES = {"right": "right by our judge", "imagenet_right": "subject right by ImageNet's"}


def chosen(scores: np.ndarray, values: np.ndarray, count: int) -> float:
    """The mean value of the candidates that score highest among each `count` in a row, of [P] in all."""
    groups = len(scores) // count
    best = scores[: groups * count].reshape(groups, count).argmax(1)
    return float(values[: groups * count].reshape(groups, count)[np.arange(groups), best].mean())


def choice_of(count: int) -> str:
    """What the choice among as many candidates is called among the methods."""
    return f"choice of {count}"


def select(cases: Sequence[Case], jury: Jury) -> Measured:
    """The choices from every case's pool. A figure whose heads may not judge is left out."""
    measured: Measured = {}
    for case in tqdm(cases, desc="judging candidates", disable=None):
        images, scores, provenance = read_pool(case)
        found = jury.right(images, case.shown)
        measured[case.key] = {
            choice_of(count): Row(
                {name: chosen(scores, right, count) for name, right in found.items()}, provenance=provenance
            )
            for count in COUNTS
            if count <= len(scores)
        }
    return measured


def selection_table(measured: Measured) -> str:
    """By the number of candidates. Empty if no choices were measured."""
    counts = [count for count in COUNTS if figures_of(measured, choice_of(count))]
    if not counts:
        return ""
    names = figures_of(measured, choice_of(1))
    single = {name: table_of(measured, choice_of(1), name) for name in names}

    def text(name: str, count: int) -> str:
        right = table_of(measured, choice_of(count), name)
        mean, gain = (asdict(mean_of(values)) for values in (right, right - single[name]))
        return cell(mean) if count == 1 else f"{cell(mean)}; {gain_cell({'gain': gain})}"

    rows = [
        ["one candidate" if count == 1 else f"best of {count}", *(text(name, count) for name in names)]
        for count in counts
    ]
    words = "The anchor by the number of candidates that the reward chooses among, and the gain on one alone:"
    return f"{words}\n\n{table(['', *(TITLES[name] for name in names)], rows)}\n"
