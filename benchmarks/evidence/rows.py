"""The figures of every video of the pocket model that the documents report, and whether others agree with them.

Devices round differently, and some compute in other precisions, so single videos differ between machines. The
means over prompts should not.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.evidence.report import Measured, title_of

STORED = Path(__file__).parent / "rows.csv"
KEYS = ("prompt", "seed", "method")
NOT_COMPARED = (*KEYS, "seconds")
TOLERANCE = 0.5  # of the deviation of single videos: how far a mean may be from the stored one
EQUAL = 2e-3  # relative difference, which rounding in the file explains

Key = tuple[int, int, str]
Rows = dict[Key, dict[str, float]]


def write_rows(videos: Iterable[Mapping], path: Path = STORED) -> None:
    """videos: rows of results.json. A figure that was not measured is an empty cell."""
    videos = list(videos)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(videos[0]), lineterminator="\n")
        writer.writeheader()
        for row in videos:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def read_rows(path: Path = STORED) -> Rows:
    with path.open(newline="") as file:
        return {
            (int(row["prompt"]), int(row["seed"]), row["method"]): {
                name: float(value or "nan") for name, value in row.items() if name not in NOT_COMPARED
            }
            for row in csv.DictReader(file)
        }


def compare_with_stored(measured: Measured, path: Path = STORED) -> str:
    """Says how many means agree with those of the same videos in the repository's rows."""
    stored = read_rows(path) if path.exists() else {}
    new: Rows = {
        (*job, method): found["figures"]
        for job, by_method in measured.items()
        for method, found in by_method.items()
    }
    shared = sorted(stored.keys() & new.keys())
    if not shared:
        return "The repository has no rows of these videos."
    names = [name for name in stored[shared[0]] if name in new[shared[0]]]
    # [videos, figures]
    old_values, new_values = (
        np.array([[rows[key][name] for name in names] for key in shared]) for rows in (stored, new)
    )
    deviations = np.nanstd(np.array([[row[name] for name in names] for row in stored.values()]), axis=0)
    same = np.isclose(old_values, new_values, rtol=EQUAL, atol=1e-6, equal_nan=True).all(1)
    far, count = [], 0
    for method in dict.fromkeys(key[2] for key in shared):
        of_method = np.array([key[2] == method for key in shared])
        difference = np.abs(nan_mean(new_values[of_method]) - nan_mean(old_values[of_method]))
        count += int((~np.isnan(difference)).sum())
        far += [
            f"{title_of(names[i])} of {method}" for i in np.flatnonzero(difference > TOLERANCE * deviations)
        ]
    text = (
        f"Compared with the repository's rows: {same.sum()} of {len(shared)} videos have the same figures, and"
        f" {count - len(far)} of {count} means differ by at most {TOLERANCE:g} standard deviations of a video."
    )
    return text + (f" Further apart: {', '.join(far)}." if far else "")


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Means over the first dimension of what was measured; nan where nothing was."""
    counts = (~np.isnan(values)).sum(0)
    return np.where(counts, np.nansum(values, axis=0) / np.maximum(counts, 1), np.nan)
