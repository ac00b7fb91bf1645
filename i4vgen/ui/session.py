"""What one browser tab remembers between two clicks. Plain data on the CPU that pickles; no Gradio here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from i4vgen.catalog import Choice
from i4vgen.events import Candidate
from i4vgen.pipeline import Anchor
from i4vgen.request import Request
from i4vgen.ui import texts


@dataclass(frozen=True)
class Round:
    """One round of candidates: what was asked of which model, and what is finished so far, in the order of
    their index.
    """

    request: Request | None = None
    choice: Choice | None = None
    candidates: tuple[Candidate, ...] = ()
    files: tuple[str, ...] = ()
    """Where the picture of each candidate lies for the browser (a path in Gradio's cache)."""

    def with_candidate(self, candidate: Candidate, file: str) -> Round:
        """This round with one more finished candidate."""
        return dataclasses.replace(self, candidates=(*self.candidates, candidate), files=(*self.files, file))


@dataclass(frozen=True)
class Pick:
    """The person's choice: a position in the gallery, a picture of their own, or (neither) the reward's best.

    picture: uint8 [H, W, 3], already in the video's shape.
    """

    position: int | None = None
    picture: np.ndarray | None = None


@dataclass(frozen=True)
class Clip:
    """A finished video, as a file for the browser."""

    name: str
    path: str
    num_frames: int
    fps: int
    seconds: float


@dataclass(frozen=True)
class Baselines:
    """The videos that I4VGen was last compared with, by name: another anchor of the same prompt and seed is
    compared with the same ones.
    """

    key: tuple = ()
    clips: Mapping[str, Clip] = field(default_factory=dict)

    def with_clip(self, clip: Clip) -> Baselines:
        """These and one more."""
        return dataclasses.replace(self, clips={**self.clips, clip.name: clip})


def baseline_key(choice: Choice, request: Request, anchor: Anchor | None) -> tuple:
    """All that a video without I4VGen depends on: not the settings of stage 2, nor the number of candidates.

    anchor: for image-to-video models, which show it in every video; None for the others.
    """
    ignored = {"num_candidates", "candidate_batch_size", "p_ni_vsds", "p_re", "preset"}
    settings = tuple(
        (field.name, getattr(request, field.name))
        for field in dataclasses.fields(request)
        if field.name not in ignored
    )
    return choice, settings, anchor and hash(np.asarray(anchor.image).tobytes())


def best_position(candidates: Sequence[Candidate]) -> int | None:
    """The gallery position with the highest score; the first one without scores; None without candidates."""
    if not candidates:
        return None
    scores = [-np.inf if c.score is None else c.score for c in candidates]
    return int(np.argmax(scores))


def anchor_position(candidates: Sequence[Candidate], pick: Pick) -> int | None:
    """The gallery position of the anchor; None if it is a picture of one's own, or if there is no anchor."""
    if pick.picture is not None:
        return None
    if pick.position is not None and pick.position < len(candidates):
        return pick.position
    return best_position(candidates)


def say_score(score: float | None) -> str:
    """A reward as people read it: two decimals, always signed, a true minus."""
    return "" if score is None else f"{score:+.2f}".replace("-", "\u2212")


def caption(candidates: Sequence[Candidate], position: int, pick: Pick) -> str:
    """The line under a card. The style sheet finds the crown and the tick in it and decorates the card."""
    _, *others = candidates[position].scores.items() or [None]
    parts = [say_score(candidates[position].score) or f"#{position + 1}"]
    parts += [f"\u00b7 {name} {say_score(score)}" for name, score in others]
    if position == best_position(candidates):
        parts.insert(0, texts.CROWN)
    if position == anchor_position(candidates, pick):
        parts.append(texts.PICKED)
    return " ".join(parts)


def describe_anchor(candidates: Sequence[Candidate], pick: Pick) -> str:
    """The anchor in words (HTML)."""
    if pick.picture is not None:
        return texts.OWN_ANCHOR
    position = anchor_position(candidates, pick)
    if position is None:
        return texts.NO_ANCHOR
    return texts.anchor_is(
        position + 1,
        len(candidates),
        say_score(candidates[position].score),
        best=position == best_position(candidates),
    )
