"""The state of a browser tab: plain data on the CPU that can be pickled. Does not import Gradio."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from i4vgen.config import BASELINES, MAX_ANCHORS, GenerationConfig, parameters
from i4vgen.errors import InvalidInputError
from i4vgen.events import HIGHEST_REWARD, PICKED, Candidate, Selected, best, ranked
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.method.search import video_score
from i4vgen.metrics import Measures, Steadiness
from i4vgen.models.catalog import ModelSpec
from i4vgen.pipeline import Anchor


@dataclass(frozen=True)
class CandidateSet:
    """The candidates on the page, as the visitor has curated them.

    Attributes:
        config: The configuration of the run that draws the candidates; None before the first run.
        spec: The model of the run; None before the first run.
        made: The output of `Runtime.describe` for the run.
        candidates: The candidates so far, in the order of their index.
        files: The paths of the candidates' pictures in Gradio's cache.
        scored_prompt: The prompt that the scores are for.
        stars: The indices of the starred candidates.
        dropped: The indices of the dropped candidates.
        by_score: Whether the gallery is sorted by score rather than by index.
    """

    config: GenerationConfig | None = None
    spec: ModelSpec | None = None
    made: Mapping = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    files: tuple[str, ...] = ()
    scored_prompt: str = ""
    stars: frozenset[int] = frozenset()
    dropped: frozenset[int] = frozenset()
    by_score: bool = False

    @property
    def request(self) -> tuple[GenerationConfig, ModelSpec]:
        """The configuration and the model of the run that draws the candidates.

        Raises:
            LookupError: There has been no run yet.
        """
        if self.config is None or self.spec is None:
            raise LookupError("no candidates were asked for")
        return self.config, self.spec

    def with_candidate(self, candidate: Candidate, file: str) -> CandidateSet:
        """Returns the set with another candidate, or with a finished one in place of its sketch."""
        pairs = {c.index: (c, f) for c, f in zip(self.candidates, self.files, strict=True)}
        pairs[candidate.index] = (candidate, file)
        candidates, files = zip(*pairs.values(), strict=True)
        return dataclasses.replace(self, candidates=candidates, files=files)

    def with_scores(self, prompt: str, scores: Sequence[Mapping[str, float]]) -> CandidateSet:
        """Returns the same candidates with scores for another prompt."""
        judged = (dataclasses.replace(c, scores=dict(s)) for c, s in zip(self.candidates, scores, strict=True))
        return dataclasses.replace(self, candidates=tuple(judged), scored_prompt=prompt)

    def with_star(self, index: int, is_starred: bool = True) -> CandidateSet:
        """Returns the set with a candidate starred, or without its star."""
        stars = self.stars | {index} if is_starred else self.stars - {index}
        return dataclasses.replace(self, stars=stars)

    def drop(self, index: int) -> CandidateSet:
        """Returns the set with a candidate dropped from the gallery. It can be restored."""
        return dataclasses.replace(self, dropped=self.dropped | {index})

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The candidates that were not dropped, best first."""
        return tuple(ranked(each for each in self.candidates if each.index not in self.dropped))

    @property
    def shown(self) -> tuple[Candidate, ...]:
        """The candidates in the order of the gallery."""
        return self.kept if self.by_score else tuple(sorted(self.kept, key=lambda c: c.index))

    @property
    def best(self) -> int | None:
        """The index of the best candidate, which is the first one if there are no scores; None if empty."""
        return best(self.kept).index if self.kept else None

    @property
    def next_index(self) -> int:
        """The index of the next candidate to draw."""
        return 1 + max((c.index for c in self.candidates), default=-1)

    @property
    def best_scored(self) -> int | None:
        """The index of the best candidate; None without scores."""
        return self.best if self.kept and best(self.kept).scores else None

    @property
    def worst_scored(self) -> int | None:
        """The index of the worst candidate; None without scores or if its score is that of the best."""
        if self.best_scored is None or self.kept[-1].score == self.kept[0].score:
            return None
        return self.kept[-1].index

    def rank(self, index: int) -> int:
        """Returns the rank of a candidate among those that were not dropped, 1 for the best."""
        return 1 + [c.index for c in self.kept].index(index)

    def find(self, index: int) -> tuple[Candidate, str]:
        """Returns a candidate and the path of its picture.

        Raises:
            LookupError: There is no candidate with this index.
        """
        known = {pair[0].index: pair for pair in zip(self.candidates, self.files, strict=True)}
        return known[index]


@dataclass(frozen=True)
class AnchorSelection:
    """The visitor's choice of anchors: candidates, an uploaded picture, or neither for the reward's choice.

    Attributes:
        index: The index of the candidate on the anchor's card.
        picture: The uploaded picture, uint8 [H, W, 3], in the video's shape.
        others: The indices of the candidates to animate in addition to `index`.
        best: The maximum number of candidates to animate if the reward chooses
            (`GenerationConfig.animate_best`).
    """

    index: int | None = None
    picture: np.ndarray | None = None
    others: tuple[int, ...] = ()
    best: int = 1

    @property
    def is_automatic(self) -> bool:
        """Whether the reward chooses the anchors."""
        return self.index is None and self.picture is None

    @property
    def automatic(self) -> AnchorSelection:
        """This selection, reset to the reward's choice."""
        return AnchorSelection(best=self.best)

    def pick(self, index: int, others: tuple[int, ...] = ()) -> AnchorSelection:
        """Returns the selection of a candidate, with others to animate in addition."""
        return AnchorSelection(index, others=others, best=self.best)


@dataclass(frozen=True)
class Clip:
    """A finished video, or the still anchor, as a file for the browser.

    Attributes:
        name: A name from `events.VIDEOS` or `COMPARISONS`, or "anchor".
        path: The path of the file in Gradio's cache.
        num_frames: The number of frames.
        fps: The frames per second.
        seconds: The duration of the video's stage in seconds; 0 for the anchor.
        frames: The frames, uint8 [F, H, W, 3], for metrics and exports.
        scores: The mean reward of the frames by reward model.
        anchor: The index of the clip's anchor, if several were animated.
        best: Whether the video has the highest score of several results.
        worst: The lowest reward of the frames by reward model.
        steadiness: The steadiness of the video; None if unknown.
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
    worst: Mapping[str, float] = field(default_factory=dict)
    steadiness: Steadiness | None = None

    @property
    def score(self) -> float | None:
        """The score that ranks results; None without scores."""
        return video_score(self.scores, self.worst)

    @property
    def key(self) -> str:
        """The name of the clip in the player."""
        return self.name if self.anchor is None else f"{self.name}-{self.anchor + 1}"


@dataclass(frozen=True)
class Baselines:
    """The latest comparison videos, which all anchors and runs with the same key share.

    Attributes:
        key: The output of `baseline_key`.
        clips: The videos by name.
    """

    key: tuple = ()
    clips: Mapping[str, Clip] = field(default_factory=dict)

    def with_clip(self, clip: Clip) -> Baselines:
        """Returns a copy with the clip added, replacing any clip of the same name."""
        return dataclasses.replace(self, clips={**self.clips, clip.name: clip})


@dataclass(frozen=True)
class Animation:
    """The animation of an anchor, which may be unfinished.

    Attributes:
        candidate_set: The candidates of the run.
        config: The configuration of the run.
        spec: The model of the run.
        made: The output of `Runtime.describe` for the run.
        anchor: The anchor.
        compare: The names of the run's comparisons.
        clips: The anchor and the finished videos, in the order of the player.
        measures: The metrics by video name.
        token: The token of the run in the run store; empty until it is stored.
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
        """The clips without the still anchor."""
        return tuple(clip for clip in self.clips if clip.name != "anchor")

    @property
    def result(self) -> Clip | None:
        """I4VGen's video; None until it is finished."""
        return next((clip for clip in self.clips if clip.name == "i4vgen"), None)


@dataclass(frozen=True)
class AnimationSet:
    """The animations of a run, one for each anchor.

    Attributes:
        animations: The animations in the order of their anchors. If there are several, all have a `result`.
        choice: The position of the animation that the visitor keeps; None for the best.
    """

    animations: tuple[Animation, ...] = ()
    choice: int | None = None

    @property
    def best(self) -> int | None:
        """The position of the animation with the highest `video_score`; None with fewer than two scores."""
        results = [each.result for each in self.animations]
        scores = [result.score if result else None for result in results]
        judged = [score for score in scores if score is not None]
        return scores.index(max(judged)) if len(judged) > 1 else None

    @property
    def kept_index(self) -> int:
        """The position of the animation that is kept: the choice, else the best, else the first."""
        return next((at for at in (self.choice, self.best) if at is not None), 0)

    @property
    def kept(self) -> Animation | None:
        """The animation that is saved and that the link opens; None without animations."""
        return self.animations[self.kept_index] if self.animations else None

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The panes of the player: all clips of a single animation, or comparisons and results of several."""
        if len(self.animations) < 2:
            return tuple(clip for each in self.animations for clip in each.clips)
        return tuple(clip for _, clip in self._compared)

    @property
    def videos(self) -> tuple[Clip, ...]:
        """The clips without the still anchors."""
        return tuple(clip for clip in self.clips if clip.name != "anchor")

    @property
    def measures(self) -> dict[str, Measures]:
        """The metrics by clip key. A comparison that several anchors share has no consistency."""
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
        """The comparisons and results of several animations. Shared comparisons appear once, without anchor."""
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
    """Returns all values that a comparison video depends on.

    Args:
        spec: The model.
        config: The configuration of the run.
        anchor: The anchor for image-to-video models, which show it in every video; None for other models.
    """
    settings = tuple(
        (name, getattr(config, name)) for name, about in parameters().items() if BASELINES in about.affects
    )
    return spec, settings, anchor and hash(np.asarray(anchor.image).tobytes())


def anchor_index(candidate_set: CandidateSet, selection: AnchorSelection) -> int | None:
    """Returns the index of the candidate that is the anchor; None for an uploaded picture or no anchor."""
    if selection.picture is not None:
        return None
    if selection.index in {candidate.index for candidate in candidate_set.kept}:
        return selection.index
    return candidate_set.best


def anchor_indices(candidate_set: CandidateSet, selection: AnchorSelection) -> tuple[int, ...]:
    """Returns the indices of the candidates to animate, ascending; empty if the anchor is not a candidate.

    If the reward chooses several, they are all finished.
    """
    if selection.is_automatic and selection.best > 1:
        judged = [
            candidate.index for candidate in candidate_set.kept if candidate.scores and not candidate.sketch
        ]
        best = judged[: min(selection.best, MAX_ANCHORS)]
    else:
        best = []
    shown = anchor_index(candidate_set, selection)
    kept = {candidate.index for candidate in candidate_set.kept}
    return () if shown is None else tuple(sorted({shown, *best, *kept.intersection(selection.others)}))


def toggle_anchor(candidate_set: CandidateSet, selection: AnchorSelection, index: int) -> AnchorSelection:
    """Adds a candidate to the anchors or removes it. If none is left, the reward chooses.

    Raises:
        InvalidInputError: There are `MAX_ANCHORS` anchors already.
    """
    anchors = anchor_indices(candidate_set, selection)
    if index not in anchors:
        if len(anchors) == MAX_ANCHORS:
            raise InvalidInputError(
                f"One run animates {MAX_ANCHORS} candidates at most. Untick one of them first."
            )
        return selection.pick(index, anchors)
    rest = tuple(other for other in anchors if other != index)
    if not rest:
        return selection.automatic
    shown = anchor_index(candidate_set, selection)
    return selection.pick(shown if shown in rest else rest[0], rest)


def reason(candidate_set: CandidateSet, index: int) -> str:
    """Returns the reason of `events.Selected` for a candidate.

    It is `HIGHEST_REWARD` only if a run with the same settings would also choose the candidate. Once candidates
    have been dropped or scored for another prompt, it is always `PICKED`.
    """
    as_drawn = not candidate_set.dropped and candidate_set.scored_prompt in (
        "",
        candidate_set.config and candidate_set.config.prompt,
    )
    return HIGHEST_REWARD if as_drawn and index == candidate_set.best_scored else PICKED


def make_anchor(candidate_set: CandidateSet, selection: AnchorSelection) -> Anchor | None:
    """Returns the anchor for the pipeline; None with neither candidates nor an uploaded picture."""
    if selection.picture is not None:
        return Anchor.from_image(Image.fromarray(selection.picture))
    index = anchor_index(candidate_set, selection)
    if index is None:
        return None
    return Anchor.from_candidate(candidate_set.find(index)[0], reason(candidate_set, index))


def make_anchors(candidate_set: CandidateSet, selection: AnchorSelection) -> tuple[Anchor, ...]:
    """Returns the anchors to animate, in the order in which they are animated; empty if there are none."""
    shown = make_anchor(candidate_set, selection)
    if shown is None or shown.index is None:
        return () if shown is None else (shown,)
    indices = anchor_indices(candidate_set, selection)
    return tuple(
        Anchor.from_candidate(candidate_set.find(index)[0], reason(candidate_set, index)) for index in indices
    )


def fixed_settings(candidate_set: CandidateSet) -> dict[str, object]:
    """Returns the candidates' settings that override the form's in an animation; empty without candidates."""
    names = ("prompt", "negative_prompt", "seed", "height", "width") if candidate_set.candidates else ()
    return {name: getattr(candidate_set.config, name) for name in names}


def pane_order(anchor: Clip, videos: Mapping[str, Clip]) -> tuple[Clip, ...]:
    """Returns the panes of the player from left to right: comparisons, the anchor and its videos."""
    panes = {"anchor": anchor, **videos}
    order = (*COMPARISONS, "anchor", "ni_vsds", "i4vgen")
    return tuple(panes[name] for name in order if name in panes)
