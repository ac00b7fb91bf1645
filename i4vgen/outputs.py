"""What a run made, for callers in Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from i4vgen.anchor import Anchor
from i4vgen.events import Candidate, Event, Result, Selected, latest
from i4vgen.generation_config import GenerationConfig


@dataclass(frozen=True)
class I4VGenOutput:
    """What `I4VGenPipeline.__call__` returns.

    Attributes:
        config: What was run, with the model's defaults filled in.
        candidates: With image, scores, latents and index; empty if the anchor was given.
        anchor: The image that was animated, with the same attributes.
        videos: By name: "ni_vsds", "i4vgen" and those of the comparisons. Each has frames, latents, fps and
            seconds.
    """

    config: GenerationConfig
    candidates: list[Candidate]
    anchor: Anchor
    videos: dict[str, Result]

    @property
    def frames(self) -> np.ndarray:
        """The result, uint8 [F, H, W, 3]."""
        return self.videos["i4vgen"].frames


def collect(config: GenerationConfig, events: Iterable[Event], given: Anchor | None = None) -> I4VGenOutput:
    """Runs events to their end.

    Args:
        config: What is run.
        events: Of `I4VGenPipeline.run`.
        given: The anchor, if it was given rather than chosen among the candidates.
    """
    candidates: list[Candidate] = []
    videos: dict[str, Result] = {}
    for event in events:
        match event:
            case Candidate():
                candidates = latest([*candidates, event])
            case Selected(index, image, reason, latents):
                scores = next((each.scores for each in candidates if each.index == index), {})
                anchor = Anchor(image, latents, index, reason, given.scores if given else scores)
            case Result():
                videos[event.name] = event
    return I4VGenOutput(config, candidates, anchor, videos)
