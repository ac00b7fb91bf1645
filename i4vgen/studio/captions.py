"""Captions and warnings for prompts, candidates, anchors and clips. Does not import Gradio."""

from __future__ import annotations

import html

from i4vgen.events import Candidate
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.serving.runtime import Runtime
from i4vgen.studio import strings
from i4vgen.studio.state import AnchorSelection, CandidateSet, Clip, anchor_index, anchor_indices
from i4vgen.weights.prompt_syntax import named_loras


def prompt_warnings(runtime: Runtime, prompt: str, negative_prompt: str = "") -> list[str]:
    """Returns warnings (HTML) about the parts of the prompts that the model ignores or reads as plain words."""
    notes = []
    if unknown := runtime.unknown_words(prompt):
        verb = "is a word" if len(unknown) == 1 else "are words"
        notes.append(f"{_bold(unknown)} {verb} this model has never seen. It will draw the rest of the prompt.")
    for name, text in (("This prompt", prompt), ("The negative prompt", negative_prompt)):
        if unread := runtime.unread(text):
            notes.append(f"{name} is longer than what the model reads: {_bold([unread])} is cut off.")
    texts = (prompt, negative_prompt)
    if literal := [part for text in texts for part in runtime.literal_syntax(text)]:
        loras = " ".join(lora for text in texts for lora in named_loras(text))
        advice = f" Put {_bold([loras])} in the LoRA field instead." if loras else ""
        notes.append(f"The model reads {_bold(literal)} as plain words.{advice}")
    return notes


def _bold(parts: list[str]) -> str:
    return ", ".join(f"<b>{html.escape(part)}</b>" for part in parts)


def caption(candidate_set: CandidateSet, candidate: Candidate, selection: AnchorSelection) -> str:
    """Returns the lines of text under a candidate's picture."""
    marks = [
        strings.CROWN if candidate.index == candidate_set.best_scored else "",
        "\u2605" if candidate.index in candidate_set.stars else "",
        strings.score(candidate.score),
        "\u2713" if candidate.index in anchor_indices(candidate_set, selection) else "",
    ]
    lines = [" ".join(filter(None, marks))]
    lines += [f"{name} {strings.score(score)}" for name, score in list(candidate.scores.items())[1:]]
    lines += ["sketch"] if candidate.sketch else []
    seed = candidate_set.config.seed if candidate_set.config else 0
    rank = candidate_set.rank(candidate.index)
    lines.append(f"rank {rank} \u00b7 seed {seed}#{candidate.index + 1}")
    return "\n".join(filter(None, lines))


def anchor_caption(candidate_set: CandidateSet, selection: AnchorSelection) -> str:
    """Returns the description of the anchor (HTML)."""
    if selection.picture is not None:
        return "<b>Uploaded image</b>, cropped to the shape of the video"
    index = anchor_index(candidate_set, selection)
    if index is None:
        return strings.NO_ANCHOR
    score = strings.score(candidate_set.find(index)[0].score)
    words = f"<b>Candidate {index + 1}</b> of {len(candidate_set.kept)}{f', score {score}' if score else ''}"
    words += f" \u2013 {'highest reward' if index == candidate_set.best_scored else 'your pick'}"
    if candidate_set.config and candidate_set.scored_prompt not in ("", candidate_set.config.prompt):
        words += f". Scored against \u201c{html.escape(candidate_set.scored_prompt)}\u201d"
    if others := [str(each + 1) for each in anchor_indices(candidate_set, selection) if each != index]:
        *most, last = others
        others_words = f"candidates {', '.join(most)} and {last}" if most else f"candidate {last}"
        words += f"<br>Animated together with {others_words}"
    return words


def label_of_clip(clip: Clip) -> str:
    """Returns the label of a clip."""
    if clip.anchor is None:
        return strings.label(clip.name)
    if clip.name in COMPARISONS:
        return f"{strings.label(clip.name)}, candidate {clip.anchor + 1}"
    return f"Candidate {clip.anchor + 1}"


def hint_of_clip(clip: Clip) -> str:
    """Returns a short explanation of a clip."""
    if clip.name in COMPARISONS:
        return COMPARISONS[clip.name].hint
    if clip.anchor is None:
        return {
            "anchor": "the still picture it came from",
            "i4vgen": "from your anchor",
            "ni_vsds": "before regeneration",
        }[clip.name]
    parts = [strings.label("i4vgen")]
    if clip.scores:
        reward, worst = (strings.score(next(iter(each.values()), None)) for each in (clip.scores, clip.worst))
        parts.append(f"reward {reward}, worst frame {worst}")
    return " \u00b7 ".join([*parts, *(["best"] if clip.best else [])])


def score_summary(candidate_set: CandidateSet) -> str:
    """Returns one line about the scores of the candidates; empty with fewer than two scores."""
    ranked = [candidate for candidate in candidate_set.kept if candidate.scores]
    if len(ranked) < 2:
        return ""
    by = next(iter(ranked[0].scores))
    scores = [candidate.scores[by] for candidate in ranked]
    best, mean, worst = map(strings.score, (scores[0], sum(scores) / len(scores), scores[-1]))
    return (
        f"{by} judged {len(ranked)}: best {best} (candidate {ranked[0].index + 1}), mean {mean}, "
        f"worst {worst} (candidate {ranked[-1].index + 1})"
    )
