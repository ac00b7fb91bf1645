"""The gallery of candidates: one card each, with a checkbox that adds it to the anchors."""

from __future__ import annotations

import html

import gradio as gr

from i4vgen.studio.captions import caption, score_summary
from i4vgen.studio.components.template import FileComponent
from i4vgen.studio.state import AnchorSelection, CandidateSet, anchor_indices


class CandidateCards(FileComponent):
    """The cards of `cards_value(...)`.

    The `select` event has the index of a candidate and `ticked`: whether the candidate becomes one of the
    anchors, or None if it becomes the only one.
    """

    value_info = "the candidates: cards[].index, cards[].image, cards[].lines"


def cards_value(candidate_set: CandidateSet, selection: AnchorSelection) -> dict | None:
    """Returns the cards in the order of the gallery; None without candidates."""
    if not candidate_set.shown:
        return None
    anchors = anchor_indices(candidate_set, selection)
    cards = [
        {
            "index": candidate.index,
            "image": gr.FileData(
                path=candidate_set.find(candidate.index)[1], mime_type="image/png"
            ).model_dump(),
            "alt": f"Candidate {candidate.index + 1}",
            "tick": f"Animate candidate {candidate.index + 1} as well",
            "lines": html.escape(caption(candidate_set, candidate, selection)),  # contains names of rewards
            "best": candidate.index == candidate_set.best_scored,
            "worst": candidate.index == candidate_set.worst_scored,
            "anchor": candidate.index in anchors,
        }
        for candidate in candidate_set.shown
    ]
    return {"saw": html.escape(score_summary(candidate_set)), "cards": cards}
