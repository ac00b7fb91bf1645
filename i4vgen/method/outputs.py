"""Collects the events of a run into the output of `I4VGenPipeline.__call__`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from i4vgen.config import GenerationConfig
from i4vgen.events import Candidate, Event, Result, Selected, Trial
from i4vgen.method.anchor import Anchor


@dataclass(frozen=True)
class I4VGenOutput:
    """The output of `I4VGenPipeline.__call__`.

    Attributes:
        config: The run's configuration, with the model's defaults filled in.
        candidates: The candidates; empty if the anchor is not one of this run's candidates.
        anchor: The image that was animated.
        videos: The videos by name: "ni_vsds", "i4vgen" and the names of the comparisons.
        trials: The animated candidates if `animate_best` is above 1. The anchor is the one with the highest
            score.
    """

    config: GenerationConfig
    candidates: list[Candidate]
    anchor: Anchor
    videos: dict[str, Result]
    trials: list[Trial] = field(default_factory=list)

    @property
    def frames(self) -> np.ndarray:
        """The I4VGen video, uint8 [F, H, W, 3]."""
        return self.videos["i4vgen"].frames


def collect(config: GenerationConfig, events: Iterable[Event], given: Anchor | None = None) -> I4VGenOutput:
    """Runs an iterator of events to its end and collects the results.

    Args:
        config: The run's configuration.
        events: The events of `I4VGenPipeline.run`.
        given: The anchor, if it was not chosen among the candidates.
    """
    candidates: dict[int | None, Candidate] = {}
    videos: dict[str, Result] = {}
    trials: list[Trial] = []
    for event in events:
        match event:
            case Candidate():
                candidates[event.index] = event  # finished candidates replace their sketches
            case Selected(index, image, reason, latents):
                scores = given.scores if given else candidates[index].scores
                anchor = Anchor(image, latents, index, reason, scores)
            case Trial():
                trials.append(event)
            case Result():
                videos[event.name] = event
    return I4VGenOutput(config, list(candidates.values()), anchor, videos, trials)
