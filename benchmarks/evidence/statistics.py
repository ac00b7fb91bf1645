"""Means with intervals, and who wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2_000


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; all are nan where there is nothing to average."""

    mean: float
    low: float
    high: float


def bootstrap(
    count: int, figure: Callable[[np.ndarray], np.ndarray], resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """95 % percentile interval of a figure of prompts.

    Args:
        count: The number of prompts.
        figure: Gets the numbers of the prompts that are drawn, [..., count], and returns the figure of each
            draw, [...].
        resamples: The number of draws.
        seed: Of the draws.
    """
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    low, high = np.nanpercentile(figure(drawn), (2.5, 97.5))
    return Interval(float(figure(np.arange(count))), float(low), float(high))


def mean_of(values: np.ndarray) -> Interval:
    """values: [prompts, seeds]; nan where there is none."""
    by_prompt = np.array([np.nanmean(row) for row in values if not np.isnan(row).all()])
    if not len(by_prompt):
        return Interval(np.nan, np.nan, np.nan)
    return bootstrap(len(by_prompt), lambda prompts: by_prompt[prompts].mean(-1))


def wins(values: np.ndarray, against: np.ndarray) -> float:
    """The share of pairs in which the first is higher; equal ones count half."""
    pairs = ~(np.isnan(values) | np.isnan(against))
    if not pairs.any():
        return np.nan
    return float(((values > against) + 0.5 * (values == against))[pairs].mean())
