"""Candidates in words: the caption of a card, and what is said of the anchor. No Gradio here."""

from __future__ import annotations

import html

from i4vgen.events import Candidate
from i4vgen.ui import strings
from i4vgen.ui.state import AnchorSelection, CandidateSet, anchor_index


def caption(candidate_set: CandidateSet, candidate: Candidate, selection: AnchorSelection) -> str:
    """The lines under a card.

    Gradio's gallery takes no class for a card, but repeats the caption as the picture's alternative text:
    style.css finds the best candidate by `strings.CROWN` in it and the anchor by `strings.PICKED`. Nothing
    else on the page is styled by a glyph.
    """
    others = list(candidate.scores.items())[1:]
    marks = [strings.CROWN] if candidate.index == candidate_set.crowned else []
    marks += [strings.STAR] if candidate.index in candidate_set.stars else []
    marks += [strings.score(candidate.score)] if candidate.scores else []
    marks += [strings.PICKED] if candidate.index == anchor_index(candidate_set, selection) else []
    lines = [" ".join(marks)] if marks else []
    lines += [f"{name} {strings.score(score)}" for name, score in others]
    lines += [strings.SKETCH] if candidate.sketch else []
    seed = candidate_set.config.seed if candidate_set.config else 0
    lines.append(strings.card(candidate_set.rank(candidate.index), seed, candidate.index))
    return "\n".join(lines)


def describe_anchor(candidate_set: CandidateSet, selection: AnchorSelection) -> str:
    """The anchor in words (HTML)."""
    if selection.picture is not None:
        return strings.OWN_ANCHOR
    index = anchor_index(candidate_set, selection)
    if index is None:
        return strings.NO_ANCHOR
    candidate, _ = candidate_set.find(index)
    is_best = index == candidate_set.crowned
    words = strings.anchor_is(index + 1, len(candidate_set.kept), strings.score(candidate.score), is_best)
    if candidate_set.config and candidate_set.judged_by not in ("", candidate_set.config.prompt):
        words += strings.judged_by(html.escape(candidate_set.judged_by))
    return words
