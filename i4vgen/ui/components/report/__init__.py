"""The report: the figures of the finished videos in a table, and a row of their pixels over time."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from i4vgen.metrics import METRICS, REWARD, Measures, Metric, busiest_row, xt_slice
from i4vgen.ui import pictures, strings
from i4vgen.ui.components.template import template


class Report(gr.HTML):
    """Shows `report_value(...)`, or nothing for None."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            value=None,
            **template(__file__),
            words={
                "caption": strings.REPORT,
                "video": strings.REPORT_VIDEO,
                "best": strings.REPORT_BEST,
                "slices": strings.SLICES,
            },
            **kwargs,
        )

    def api_info(self) -> dict:
        """The shape of the value, for the API page."""
        return {"type": "object", "description": "figures of the finished videos: columns, rows[].cells[].text"}


def report_value(
    videos: Mapping[str, np.ndarray], measures: Mapping[str, Measures], labels: Mapping[str, str] | None = None
) -> dict | None:
    """What a report shows: one row per video, in the order of `videos`; None without videos.

    videos: uint8 frames [F, H, W, 3] by their name; all of one height.
    measures: the figures of each, with the same reward models. In every column that has a better end the best
    figure is marked, as far as the digits on the page tell it from the others.
    labels: what each is called; by default as a run names its videos.
    """
    if not videos:
        return None
    labels = labels or {name: strings.clip_label(name) for name in videos}
    measured = [measures[name] for name in videos]
    columns, figures = [], []
    for metric in METRICS:
        label, meaning = strings.METRIC_LABELS[metric.name], strings.METRIC_MEANINGS[metric.name]
        columns.append(_column(metric, label, meaning))
        figures.append(_cells(metric, [getattr(measure, metric.name) for measure in measured]))
    for name in measured[0].rewards:
        columns.append(_column(REWARD, html.escape(strings.reward_label(name)), strings.REWARD_MEANING))
        figures.append(_cells(REWARD, [measure.rewards[name] for measure in measured]))
    row = busiest_row(*videos.values())
    rows = [
        {
            "name": name,
            "label": labels[name],
            "cells": cells,
            "slice": pictures.data_uri(Image.fromarray(xt_slice(frames, row)), lossless=True),
            "alt": strings.slice_alt(labels[name]),
        }
        for (name, frames), cells in zip(videos.items(), zip(*figures, strict=True), strict=True)
    ]
    height = next(iter(videos.values())).shape[1]
    return {"columns": columns, "rows": rows, "hint": strings.slices_hint(row + 1, height)}


def _column(metric: Metric, label: str, meaning: str) -> dict:
    """The head of a column. label: safe to show as HTML."""
    return {
        "label": label,
        "arrow": strings.BETTER_ARROWS[metric.better],
        "meaning": f"{meaning} {strings.BETTER[metric.better]}",
    }


def _cells(metric: Metric, figures: Sequence[float]) -> list[dict]:
    """The cells of a column: what they say, and whether it is the best."""
    shown = [round(figure, metric.digits) for figure in figures]
    known = {figure for figure in shown if not math.isnan(figure)}
    best = None
    if len(known) > 1 and metric.better:
        best = max(known) if metric.better == "higher" else min(known)
    return [{"text": _say(metric, figure), "best": figure == best} for figure in shown]


def _say(metric: Metric, figure: float) -> str:
    if math.isnan(figure):
        return strings.NO_FIGURE
    if metric is REWARD:
        return strings.score(figure)
    return f"{figure:.{metric.digits}f}\u00a0{metric.unit}"
