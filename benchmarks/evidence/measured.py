"""What was measured of every video, by prompt, seed and method."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

PROVENANCE = ("weights", "device", "date")
"""What a video was drawn with: a digest of weights and settings, where, and when."""


@dataclass(frozen=True)
class Row:
    """One video, or one choice among candidates.

    figures: by name; one that does not apply is nan or missing.
    seconds: what drawing took; nan where that says nothing.
    provenance: by the names in `PROVENANCE`; real clips have none.
    """

    figures: Mapping[str, float]
    seconds: float = np.nan
    provenance: Mapping[str, str] = field(default_factory=dict)


Key = tuple[int, int]
"""The number of a prompt, and a seed."""

Measured = dict[Key, dict[str, Row]]
"""By prompt and seed, then by method. Some may have more methods than others."""


def merged(first: Measured, second: Measured) -> Measured:
    """Both, in the order of seeds and prompts. Where both have a method, the second counts."""
    keys = sorted(first.keys() | second.keys(), key=lambda key: key[::-1])
    return {key: first.get(key, {}) | second.get(key, {}) for key in keys}


def axes(measured: Measured) -> tuple[list[int], list[int]]:
    """The numbers of its prompts, and its seeds."""
    numbers, seeds = (sorted({key[i] for key in measured}) for i in range(2))
    return numbers, seeds


def only(measured: Measured, numbers: set[int]) -> Measured:
    """What was measured of these prompts."""
    return {key: by_method for key, by_method in measured.items() if key[0] in numbers}


def having(measured: Measured, methods: Collection[str]) -> Measured:
    """What was measured of the prompts and seeds that have all of these methods."""
    return {key: by_method for key, by_method in measured.items() if by_method.keys() >= set(methods)}


def figures_of(measured: Measured, method: str) -> list[str]:
    """The names of all figures of a method."""
    rows = (by_method[method] for by_method in measured.values() if method in by_method)
    return list(dict.fromkeys(name for row in rows for name in row.figures))


def table_of(measured: Measured, method: str, name: str) -> np.ndarray:
    """One figure of one method: [prompts, seeds]; nan where it was not measured."""
    numbers, seeds = axes(measured)
    unmeasured = Row({})
    return np.array(
        [
            [measured.get((n, s), {}).get(method, unmeasured).figures.get(name, np.nan) for s in seeds]
            for n in numbers
        ]
    )


def title_of(name: str) -> str:
    return name.replace("_", " ")
