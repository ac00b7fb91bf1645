"""The gallery of candidates: a card for each, and in its corner a box to tick it as one of several anchors."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from i4vgen.ui import strings
from i4vgen.ui.captions import caption
from i4vgen.ui.components.template import template
from i4vgen.ui.state import AnchorSelection, CandidateSet, anchor_indices


class CandidateCards(gr.HTML):
    """Shows `cards_value(...)`. Its `select` event carries the index of a candidate, and `toggle`: whether it
    joins the other anchors, or leaves them, rather than being the only one.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            value=None,
            **template(__file__),
            words={"gallery": strings.GALLERY, "key": strings.TICK_KEY},
            **kwargs,
        )

    def api_info(self) -> dict:
        """The shape of the value, for Gradio."""
        return {"type": "object", "description": "the candidates: cards[].index, cards[].image, cards[].lines"}


def cards_value(candidate_set: CandidateSet, selection: AnchorSelection) -> dict | None:
    """What the gallery shows, in its order; None without candidates."""
    if not candidate_set.shown:
        return None
    anchors = anchor_indices(candidate_set, selection)
    cards = []
    for candidate in candidate_set.shown:
        _, file = candidate_set.find(candidate.index)
        number = candidate.index + 1
        cards.append(
            {
                "index": candidate.index,
                "image": FileData(path=file, mime_type="image/png").model_dump(),
                "alt": strings.candidate(number),
                "tick": strings.tick(number),
                "lines": html.escape(
                    caption(candidate_set, candidate, selection)
                ),  # names of rewards are in it
                "best": candidate.index == candidate_set.crowned,
                "anchor": candidate.index in anchors,
            }
        )
    return {"cards": cards}
