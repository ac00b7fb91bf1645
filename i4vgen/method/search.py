"""Test-time search: animates several of the best candidates and keeps the best video.

The quality of an animation is only known once the video is made, which requires stage 2 for each candidate.
Video-T1 (arXiv 2503.18942) also selects among finished videos.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, TypeVar

from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.events import HIGHEST_REWARD, Candidate, Event, Result, Selected, Trial, ranked
from i4vgen.method.anchor import Anchor

T = TypeVar("T")


def video_score(mean: Mapping[str, float], worst: Mapping[str, float]) -> float | None:
    """Returns the score that ranks videos: the average of the frames' mean reward and lowest reward.

    A video whose subject briefly falls apart can thus lose to one that is slightly worse throughout. Only the
    first reward model counts. Returns None without one.

    Args:
        mean: The mean scores of the frames (`Result.scores`).
        worst: The lowest scores of the frames (`Result.worst`).
    """
    first = next(iter(mean), None)
    return None if first is None else (mean[first] + worst[first]) / 2


def check_search(config: GenerationConfig, is_given: bool) -> None:
    """Checks that `animate_best` is not combined with a given anchor.

    Raises:
        InvalidInputError: The anchor is given and `animate_best` is above 1.
    """
    if is_given and config.animate_best > 1:
        raise InvalidInputError(
            f"animate_best {config.animate_best} tries the best candidates, but the anchor is given: leave out"
            " the anchor, or set animate_best to 1"
        )


def best_anchors(candidates: Mapping[int, Candidate], count: int) -> list[Anchor]:
    """Returns the best `count` candidates as anchors, the best first.

    Finished candidates precede sketches. `GenerationConfig.check` ensures that at least `animate_best` of them
    are finished.
    """
    return [Anchor.from_candidate(each, HIGHEST_REWARD) for each in ranked(candidates.values())[:count]]


def trial_of(selected: Selected, first: Result, result: Result) -> Trial:
    """Returns the trial of a candidate.

    Args:
        selected: The candidate as the anchor.
        first: The candidate's video after NI-VSDS.
        result: The candidate's regenerated and scored video.
    """
    score = video_score(result.scores, result.worst)
    assert selected.index is not None and score is not None, "only scored candidates are tried"
    seconds = first.seconds + result.seconds
    return Trial(selected.index, result.frames, result.fps, seconds, score, result.scores, result.worst)


def split_result(events: Generator[Event, None, T]) -> Generator[Event, None, tuple[T, Result]]:
    """Yields a stage's events except its `Result`; returns the generator's return value and the `Result`."""
    result: Any = None
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value, result
        if isinstance(event, Result):
            result = event
        else:
            yield event
