"""The chart of scores: one mark per candidate, from worst to best. A click on a mark picks its candidate."""

from __future__ import annotations

from i4vgen.studio import strings
from i4vgen.studio.components.template import FileComponent
from i4vgen.studio.state import AnchorSelection, CandidateSet, anchor_indices


class ScoreChart(FileComponent):
    """The chart of `chart_value(...)`. The `select` event has the index of the clicked candidate."""

    value_info = "the scores of the candidates"


def chart_value(candidate_set: CandidateSet, selection: AnchorSelection) -> dict | None:
    """Returns the marks of the chart; None with fewer than two scores.

    `height` is the position of a mark on the scale, 0 to 1. `zero` is the position of score 0, or None if it
    is off the scale.
    """
    ranked = [(c, score) for c in reversed(candidate_set.kept) if (score := c.score) is not None]
    if len(ranked) < 2:
        return None
    low, high = min(score for _, score in ranked), max(score for _, score in ranked)
    span = (high - low) or 1.0
    anchors = anchor_indices(candidate_set, selection)

    def state(index: int) -> str:
        holds = {
            "best": index == candidate_set.best,
            "picked": index in anchors,
            "starred": index in candidate_set.stars,
        }
        return " ".join(name for name, does in holds.items() if does)

    marks = [
        {
            "index": c.index,
            "height": (score - low) / span,
            "state": state(c.index),
            "label": f"Candidate {c.index + 1}, score {strings.score(score)}",
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
