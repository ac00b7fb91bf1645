"""The chart of scores: one mark per candidate, from the worst to the best. A click on a mark picks it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from i4vgen.ui import strings
from i4vgen.ui.components.template import template
from i4vgen.ui.state import AnchorSelection, CandidateSet, anchor_indices


class ScoreChart(gr.HTML):
    """Shows `chart_value(...)`. Its `select` event carries the index of the candidate that was clicked."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            value=None,
            **template(__file__),
            title=strings.CHART,
            **kwargs,
        )

    def api_info(self) -> dict:
        """The shape of the value, for Gradio."""
        return {"type": "object", "description": "the scores of the candidates"}


def chart_value(candidate_set: CandidateSet, selection: AnchorSelection) -> dict | None:
    """What the chart shows; None where there is nothing to compare.

    `height` is the share of the scale, 0 to 1, at which a mark lies; `zero` is where the score is 0, if that
    is on the scale.
    """
    ranked = [(c, score) for c in reversed(candidate_set.kept) if (score := c.score) is not None]
    if len(ranked) < 2:
        return None
    low, high = min(score for _, score in ranked), max(score for _, score in ranked)
    span = (high - low) or 1.0
    anchors = anchor_indices(candidate_set, selection)
    marks = [
        {
            "index": c.index,
            "height": (score - low) / span,
            "state": " ".join(
                name
                for name, holds in {
                    "best": c.index == candidate_set.best,
                    "picked": c.index in anchors,
                    "starred": c.index in candidate_set.stars,
                }.items()
                if holds
            ),
            "label": strings.chart_mark(c.index + 1, strings.score(score)),
        }
        for c, score in ranked
    ]
    zero = -low / span
    return {
        "marks": marks,
        "low": strings.score(low),
        "high": strings.score(high),
        "zero": zero if 0 < zero < 1 else None,
    }
