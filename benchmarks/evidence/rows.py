"""The figures of every video of the pocket model that the documents report, and whether others agree with them.

Devices round differently, and some compute in other precisions, so single videos differ between machines. The
means over prompts should not.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmarks.evidence.measured import PROVENANCE, Measured, Row, figures_of, title_of

STORED = Path(__file__).parent / "rows.csv"
KEYS = ("prompt", "seed", "method", "seconds")
TOLERANCE = 0.5  # of the deviation of single videos: how far a mean may be from the stored one
EQUAL = 2e-3  # relative difference, which rounding in the file explains


def write_rows(measured: Measured, path: Path = STORED) -> None:
    """A figure that was not measured is an empty cell."""
    rows = [
        dict(zip(KEYS, (*key, method, number_in(row.seconds)), strict=True))
        | {name: row.provenance.get(name, "") for name in PROVENANCE}
        | {name: number_in(value) for name, value in row.figures.items()}
        for key, by_method in measured.items()
        for method, row in by_method.items()
    ]
    with path.open("w", newline="") as file:
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def number_in(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"


def read_rows(path: Path = STORED, weights: str | None = None) -> Measured:
    """The stored rows; with `weights`, those of this digest and of real clips. None where there is no file."""
    measured: Measured = {}
    if not path.exists():
        return measured
    with path.open(newline="") as file:
        for cells in csv.DictReader(file):
            provenance = {name: value for name in PROVENANCE if (value := cells.pop(name))}
            if weights and provenance.get("weights", weights) != weights:
                continue
            prompt, seed, method, seconds = (cells.pop(name) for name in KEYS)
            figures = {name: float(value) for name, value in cells.items() if value}
            row = Row(figures, float(seconds or "nan"), provenance)
            measured.setdefault((int(prompt), int(seed)), {})[method] = row
    return measured


def compare_with_stored(measured: Measured, path: Path = STORED) -> str:
    """Says how many means agree with those of the same videos in the repository's rows."""
    stored = read_rows(path)
    methods = {method: None for by_method in stored.values() for method in by_method}
    same, videos, means, far = 0, 0, 0, []
    for method in methods:
        keys = [k for k in stored if method in stored[k] and method in measured.get(k, {})]
        if not keys:
            continue
        known = figures_of(measured, method)
        names = [name for name in figures_of(stored, method) if name in known]
        # [videos, figures]
        before, after = (
            np.array([[part[key][method].figures.get(name, np.nan) for name in names] for key in keys])
            for part in (stored, measured)
        )
        videos += len(keys)
        same += int(np.isclose(before, after, rtol=EQUAL, atol=1e-6, equal_nan=True).all(1).sum())
        difference = np.abs(nan_mean(after) - nan_mean(before))
        means += int((~np.isnan(difference)).sum())
        far += [
            f"{title_of(name)} of {method}"
            for name, apart in zip(names, difference, strict=True)
            if apart > TOLERANCE * deviation_of(stored, name)
        ]
    if not videos:
        return "The repository has no rows of these videos."
    text = (
        f"Compared with the repository's rows: {same} of {videos} videos have the same figures, and"
        f" {means - len(far)} of {means} means differ by at most {TOLERANCE:g} standard deviations of a video."
    )
    return text + (f" Further apart: {', '.join(far)}." if far else "")


def deviation_of(measured: Measured, name: str) -> float:
    """The standard deviation of a figure over all videos of all methods."""
    rows = (row for by_method in measured.values() for row in by_method.values())
    return float(np.nanstd([row.figures.get(name, np.nan) for row in rows]))


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Means over the first dimension of what was measured; nan where nothing was."""
    counts = (~np.isnan(values)).sum(0)
    return np.where(counts, np.nansum(values, axis=0) / np.maximum(counts, 1), np.nan)
