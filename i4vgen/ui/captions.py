"""Prompts and candidates in words: what the model will not draw, the caption of a card, what is said of the
anchor, and of what became of it. No Gradio here.
"""

from __future__ import annotations

import html

from i4vgen.comparisons import COMPARISONS
from i4vgen.events import Candidate
from i4vgen.runtime import Runtime
from i4vgen.ui import strings
from i4vgen.ui.state import AnchorSelection, CandidateSet, Clip, anchor_index, anchor_indices


def doubts(runtime: Runtime, prompt: str) -> list[str]:
    """What the model will not draw of a prompt (HTML)."""
    unknown, unread = runtime.unknown_words(prompt), runtime.unread(prompt)
    words = [strings.unknown_words([html.escape(word) for word in unknown])] if unknown else []
    return [*words, strings.unread(html.escape(unread))] if unread else words


def caption(candidate_set: CandidateSet, candidate: Candidate, selection: AnchorSelection) -> str:
    """The lines under a card."""
    others = list(candidate.scores.items())[1:]
    marks = [strings.CROWN] if candidate.index == candidate_set.crowned else []
    marks += [strings.STAR] if candidate.index in candidate_set.stars else []
    marks += [strings.score(candidate.score)] if candidate.scores else []
    marks += [strings.PICKED] if candidate.index in anchor_indices(candidate_set, selection) else []
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
    others = [other + 1 for other in anchor_indices(candidate_set, selection) if other != index]
    return words + (strings.animated_with(others) if others else "")


def clip_label(clip: Clip) -> str:
    """What a video, or the anchor, is called beside the others."""
    if clip.anchor is None:
        return strings.clip_label(clip.name)
    if clip.name in COMPARISONS:
        return strings.of_candidate(strings.clip_label(clip.name), clip.anchor + 1)
    return strings.candidate(clip.anchor + 1)


def clip_hint(clip: Clip) -> str:
    """What a video, or the anchor, is."""
    if clip.anchor is None or clip.name in COMPARISONS:
        return strings.clip_hint(clip.name)
    return strings.candidate_hint(next(iter(clip.scores.values()), None), clip.best)
