"""The report: a table of the finished videos' metrics, and one row of their pixels over time."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from i4vgen.metrics import METRICS, REWARD, STEADINESS, Measures, Metric, busiest_row, xt_slice
from i4vgen.studio import pictures, strings
from i4vgen.studio.components.template import FileComponent

COLUMNS = {
    "flicker": (
        "Flicker",
        "Mean difference between frames that steady motion or a fade does not explain, in percent of the range "
        "from black to white.",
    ),
    "motion": (
        "Motion",
        "Mean displacement from one frame to the next, over the whole picture, in percent of its longer side.",
    ),
    "consistency": (
        "Anchor kept",
        "How much of the anchor is found again in each frame, wherever it has moved to.",
    ),
    "subject_consistency": (
        "Subject consistency",
        "Similarity of each frame to the first and the previous one: VBench's definition, with the reward "
        "model's image features. It favours videos in which little happens.",
    ),
}
"""The label and the meaning of each metric except rewards, by name."""

BETTER = {
    "higher": ("\u2191", "Higher is better."),
    "lower": ("\u2193", "Lower is better."),
    None: ("", "Neither is better: higher means livelier."),
}
"""The arrow and the text for the better end of a metric."""


class Report(FileComponent):
    """The report of `report_value(...)`; empty for None."""

    value_info = "figures of the finished videos: columns, rows[].cells[].text"


def report_value(
    videos: Mapping[str, np.ndarray], measures: Mapping[str, Measures], labels: Mapping[str, str] | None = None
) -> dict | None:
    """Returns the table and the pixel rows of a report; None without videos.

    Marks the best figure of each column that has a better end, if the figures differ in the digits shown.

    Args:
        videos: The frames of each video by name, uint8 [F, H, W, 3], all of one height. Each video becomes a
            row.
        measures: The metrics of each video, all with the same reward models.
        labels: The label of each video. By default the usual label of its name.
    """
    if not videos:
        return None
    labels = labels or {name: strings.label(name) for name in videos}
    measured = [measures[name] for name in videos]
    columns, figures = [], []
    is_steady = any(measure.steadiness for measure in measured)
    for metric in (*METRICS, STEADINESS) if is_steady else METRICS:
        columns.append(_column(metric, *COLUMNS[metric.name]))
        figures.append(_cells(metric, [getattr(measure, metric.name) for measure in measured]))
    for name in measured[0].rewards:
        meaning = "How well the frames show the prompt: the mean score that this reward model gives them."
        columns.append(_column(REWARD, f"Reward: {html.escape(name)}", meaning))
        figures.append(_cells(REWARD, [measure.rewards[name] for measure in measured]))
    row = busiest_row(*videos.values())
    rows = [
        {
            "name": name,
            "label": labels[name],
            "cells": cells,
            "slice": pictures.data_uri(Image.fromarray(xt_slice(frames, row)), lossless=True),
            "alt": f"{labels[name]}: one row of pixels from every frame, the first frame on top",
        }
        for (name, frames), cells in zip(videos.items(), zip(*figures, strict=True), strict=True)
    ]
    height = next(iter(videos.values())).shape[1]
    hint = (
        f"Row {row + 1} of {height} of every frame, the first frame on top. What stands still is a vertical "
        "band, what moves steadily a slanted one; flicker makes edges ragged."
    )
    return {"columns": columns, "rows": rows, "hint": hint}


def _column(metric: Metric, label: str, meaning: str) -> dict:
    """Returns the header of a column.

    Args:
        metric: The metric.
        label: The label as HTML.
        meaning: The explanation of the metric.
    """
    arrow, better = BETTER[metric.better]
    return {"label": label, "arrow": arrow, "meaning": f"{meaning} {better}"}


def _cells(metric: Metric, figures: Sequence[float]) -> list[dict]:
    """Returns the cells of a column, each with its text and whether it is the best."""
    shown = [round(figure, metric.digits) for figure in figures]
    known = {figure for figure in shown if not math.isnan(figure)}
    best = None
    if len(known) > 1 and metric.better:
        best = max(known) if metric.better == "higher" else min(known)
    return [{"text": _text(metric, figure), "best": figure == best} for figure in shown]


def _text(metric: Metric, figure: float) -> str:
    if math.isnan(figure):
        return "\u2013"
    if metric is REWARD:
        return strings.score(figure)
    unit = f"\u00a0{metric.unit}" if metric.unit else ""
    return f"{figure:.{metric.digits}f}{unit}"
