"""What one browser tab remembers between two clicks. Plain data on the CPU that pickles; no Gradio here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from i4vgen.catalog import ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.errors import InvalidInputError
from i4vgen.events import HIGHEST_REWARD, PICKED, Candidate, Selected, best
from i4vgen.generation_config import BASELINES, GenerationConfig, parameters
from i4vgen.metrics import Measures
from i4vgen.pipeline import Anchor
from i4vgen.ui import strings


@dataclass(frozen=True)
class CandidateSet:
    """The candidates on the page, and what a person did with them.

    config, choice: what was asked of which model. made: on what, `Runtime.describe()`.
    candidates: what is drawn so far, in the order of their index. files: where the picture of each lies for
    the browser (a path in Gradio's cache). judged_by: the prompt that the scores were given for.
    stars, dropped: indices of candidates.
    by_score: whether the gallery is sorted by score rather than by index.
    """

    config: GenerationConfig | None = None
    spec: ModelSpec | None = None
    made: Mapping = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    files: tuple[str, ...] = ()
    judged_by: str = ""
    stars: frozenset[int] = frozenset()
    dropped: frozenset[int] = frozenset()
    by_score: bool = False

    @property
    def asked(self) -> tuple[GenerationConfig, ModelSpec]:
        """What was asked of which model. Raises `LookupError` before anything was."""
        if self.config is None or self.spec is None:
            raise LookupError("no candidates were asked for")
        return self.config, self.spec

    def with_candidate(self, candidate: Candidate, file: str) -> CandidateSet:
        """This set with one more candidate, or with a finished one instead of its sketch."""
        pairs = {c.index: (c, f) for c, f in zip(self.candidates, self.files, strict=True)}
        pairs[candidate.index] = (candidate, file)
        candidates, files = zip(*pairs.values(), strict=True)
        return dataclasses.replace(self, candidates=candidates, files=files)

    def with_scores(self, prompt: str, scores: Sequence[Mapping[str, float]]) -> CandidateSet:
        """The same candidates, judged against another prompt."""
        judged = (dataclasses.replace(c, scores=dict(s)) for c, s in zip(self.candidates, scores, strict=True))
        return dataclasses.replace(self, candidates=tuple(judged), judged_by=prompt)

    def toggle_star(self, index: int) -> CandidateSet:
        """Makes a candidate a favourite, or no favourite any more."""
        return dataclasses.replace(self, stars=self.stars ^ {index})

    def drop(self, index: int) -> CandidateSet:
        """Takes a candidate out of the gallery. It can be brought back."""
        return dataclasses.replace(self, dropped=self.dropped | {index})

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The candidates that were not dropped, best first."""
        return tuple(
            sorted((c for c in self.candidates if c.index not in self.dropped), key=lambda c: c.rank_key)
        )

    @property
    def shown(self) -> tuple[Candidate, ...]:
        """The gallery's candidates, in its order."""
        return self.kept if self.by_score else tuple(sorted(self.kept, key=lambda c: c.index))

    @property
    def best(self) -> int | None:
        """The index of the candidate with the highest score (the first one, without scores), or None."""
        return best(self.kept).index if self.kept else None

    @property
    def next_index(self) -> int:
        """Where further candidates begin."""
        return 1 + max((c.index for c in self.candidates), default=-1)

    @property
    def crowned(self) -> int | None:
        """The index of the best candidate, if anybody judged them."""
        return self.best if self.kept and best(self.kept).scores else None

    def rank(self, index: int) -> int:
        """1 for the best of those that were not dropped."""
        return 1 + [c.index for c in self.kept].index(index)

    def find(self, index: int) -> tuple[Candidate, str]:
        """A candidate and its file. Raises `LookupError`."""
        known = {pair[0].index: pair for pair in zip(self.candidates, self.files, strict=True)}
        return known[index]


MAX_ANCHORS = 4
"""Maximum number of candidates that one run animates: as many as can be looked at side by side."""


@dataclass(frozen=True)
class AnchorSelection:
    """The person's choice: candidates by their index, a picture of their own, or (neither) the reward's best.

    index: of the candidate that the anchor's card shows. picture: uint8 [H, W, 3], already in the video's
    shape. others: the candidates that are animated beside it.
    """

    index: int | None = None
    picture: np.ndarray | None = None
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Clip:
    """A finished video, or the still anchor, as a file for the browser.

    frames: uint8 [F, H, W, 3], to measure and to export.
    scores: the mean reward of its frames, by the name of the reward.
    anchor: where several anchors were animated, the index of the one that this was made from. best: whether
    its frames have the highest reward of all that these became.
    """

    name: str
    path: str
    num_frames: int
    fps: int
    seconds: float
    frames: np.ndarray
    scores: Mapping[str, float] = field(default_factory=dict)
    anchor: int | None = None
    best: bool = False

    @property
    def key(self) -> str:
        """What tells it from the other clips of the player."""
        return self.name if self.anchor is None else f"{self.name}-{self.anchor + 1}"


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


@dataclass(frozen=True)
class Animation:
    """An animation as far as it was finished.

    candidate_set: what its anchor came from. made: on what, `Runtime.describe()`. compare: what it was to be
    compared with. clips: the anchor and the videos, in the order of the player. measures: by the names of the
    videos. token: of the run in the run store, once it is kept there.
    """

    candidate_set: CandidateSet
    config: GenerationConfig
    spec: ModelSpec
    made: Mapping
    anchor: Selected
    compare: tuple[str, ...]
    clips: tuple[Clip, ...]
    measures: Mapping[str, Measures] = field(default_factory=dict)
    token: str = ""

    @property
    def videos(self) -> tuple[Clip, ...]:
        """The clips that move."""
        return tuple(clip for clip in self.clips if clip.name != "anchor")

    @property
    def result(self) -> Clip | None:
        """I4VGen's video, once it is finished."""
        return next((clip for clip in self.clips if clip.name == "i4vgen"), None)


@dataclass(frozen=True)
class AnimationSet:
    """What a run has animated: an animation for each of its anchors.

    animations: those that are finished, in the order of their anchors; the only one may be finished in part.
    choice: the position of the one that the person keeps, or None for the best.
    """

    animations: tuple[Animation, ...] = ()
    choice: int | None = None

    @property
    def best(self) -> int | None:
        """The position of the one whose frames have the highest reward; None if there is nothing to compare."""
        results = [each.result for each in self.animations]
        scores = [next(iter(result.scores.values()), None) if result else None for result in results]
        judged = [score for score in scores if score is not None]
        return scores.index(max(judged)) if len(judged) > 1 else None

    @property
    def kept_at(self) -> int:
        """The position of the one that is kept."""
        return next((at for at in (self.choice, self.best) if at is not None), 0)

    @property
    def kept(self) -> Animation | None:
        """The one that is kept: which is saved, and which the address leads to."""
        return self.animations[self.kept_at] if self.animations else None

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The panes of the player: all there is of one animation, or of several what became of each anchor."""
        if len(self.animations) < 2:
            return tuple(clip for each in self.animations for clip in each.clips)
        return tuple(clip for _, clip in self._compared)

    @property
    def videos(self) -> tuple[Clip, ...]:
        """The clips that move."""
        return tuple(clip for clip in self.clips if clip.name != "anchor")

    @property
    def measures(self) -> dict[str, Measures]:
        """Of the videos, by their keys. How much of its anchor a video keeps is nothing that can be said of one
        that was made without an anchor and is compared with several.
        """
        if len(self.animations) < 2:
            return {name: figures for each in self.animations for name, figures in each.measures.items()}
        known = {clip.key: (clip, each.measures.get(clip.name)) for each, clip in self._compared}
        return {
            key: figures if clip.anchor is not None else dataclasses.replace(figures, consistency=math.nan)
            for key, (clip, figures) in known.items()
            if figures is not None
        }

    @property
    def _compared(self) -> list[tuple[Animation, Clip]]:
        """The baselines and the results of several animations. A baseline that they share is there once, and of
        no anchor.
        """
        best = None if self.best is None else self.animations[self.best]
        panes: list[tuple[Animation, Clip]] = []
        for name in (*COMPARISONS, "i4vgen"):
            made = [(each, clip) for each in self.animations for clip in each.clips if clip.name == name]
            if len({clip.path for _, clip in made}) == 1:
                panes += made[:1]
                continue
            for each, clip in made:
                is_best = name == "i4vgen" and each is best
                panes.append((each, dataclasses.replace(clip, anchor=each.anchor.index, best=is_best)))
        return panes


def baseline_key(spec: ModelSpec, config: GenerationConfig, anchor: Anchor | None) -> tuple:
    """All that a video without I4VGen depends on: not the settings of stage 2, nor the number of candidates.

    anchor: for image-to-video models, which show it in every video; None for the others.
    """
    settings = tuple(
        (name, getattr(config, name)) for name, about in parameters().items() if BASELINES in about.affects
    )
    return spec, settings, anchor and hash(np.asarray(anchor.image).tobytes())


def anchor_index(candidate_set: CandidateSet, selection: AnchorSelection) -> int | None:
    """Which candidate is the anchor; None if it is a picture of one's own, or if there is no anchor."""
    if selection.picture is not None:
        return None
    if selection.index in {candidate.index for candidate in candidate_set.kept}:
        return selection.index
    return candidate_set.best


def anchor_indices(candidate_set: CandidateSet, selection: AnchorSelection) -> tuple[int, ...]:
    """Which candidates are animated, in this order; none if it is a picture of one's own, or no anchor."""
    shown = anchor_index(candidate_set, selection)
    kept = {candidate.index for candidate in candidate_set.kept}
    return () if shown is None else tuple(sorted({shown, *kept.intersection(selection.others)}))


def toggle_anchor(candidate_set: CandidateSet, selection: AnchorSelection, index: int) -> AnchorSelection:
    """Adds a candidate to the anchors, or takes it away. Without any, the best is the anchor again.

    Raises:
        InvalidInputError: There are `MAX_ANCHORS` already.
    """
    anchors = anchor_indices(candidate_set, selection)
    if index not in anchors:
        if len(anchors) == MAX_ANCHORS:
            raise InvalidInputError(strings.too_many_anchors(MAX_ANCHORS))
        return AnchorSelection(index, others=anchors)
    rest = tuple(other for other in anchors if other != index)
    if not rest:
        return AnchorSelection()
    shown = anchor_index(candidate_set, selection)
    return AnchorSelection(shown if shown in rest else rest[0], others=rest)


def reason(candidate_set: CandidateSet, index: int) -> str:
    """Why a candidate is the anchor, in the words of `events.Selected`.

    `HIGHEST_REWARD` only where drawing the same candidates again would choose it: not after some were dropped
    or all were judged by another prompt.
    """
    as_drawn = not candidate_set.dropped and candidate_set.judged_by in (
        "",
        candidate_set.config and candidate_set.config.prompt,
    )
    return HIGHEST_REWARD if as_drawn and index == candidate_set.crowned else PICKED


def make_anchor(candidate_set: CandidateSet, selection: AnchorSelection) -> Anchor | None:
    """The anchor for the pipeline, or None if nothing was drawn and nothing was uploaded."""
    if selection.picture is not None:
        return Anchor.from_image(Image.fromarray(selection.picture))
    index = anchor_index(candidate_set, selection)
    if index is None:
        return None
    return Anchor.from_candidate(candidate_set.find(index)[0], reason(candidate_set, index))


def make_anchors(candidate_set: CandidateSet, selection: AnchorSelection) -> tuple[Anchor, ...]:
    """All anchors for the pipeline, in the order in which they are animated."""
    shown = make_anchor(candidate_set, selection)
    if shown is None or shown.index is None:
        return () if shown is None else (shown,)
    indices = anchor_indices(candidate_set, selection)
    return tuple(
        Anchor.from_candidate(candidate_set.find(index)[0], reason(candidate_set, index)) for index in indices
    )


def settled(candidate_set: CandidateSet) -> dict[str, object]:
    """The settings that candidates settle for their animation, whatever the form says by then."""
    names = ("prompt", "negative_prompt", "seed", "height", "width") if candidate_set.candidates else ()
    return {name: getattr(candidate_set.config, name) for name in names}


def in_order(anchor: Clip, videos: Mapping[str, Clip]) -> tuple[Clip, ...]:
    """The panes of the player from left to right: the baselines, then the anchor and what was made of it."""
    panes = {"anchor": anchor, **videos}
    order = (*COMPARISONS, "anchor", "ni_vsds", "i4vgen")
    return tuple(panes[name] for name in order if name in panes)
