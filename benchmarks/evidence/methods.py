"""What is compared: the method, the paper's ablations, and the model without it, all from one seed's noise."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from i4vgen.events import Candidate, Event, Result
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.request import Request

METHODS = {
    "vanilla": "the model as it is",
    "freeinit": "FreeInit",
    "i4vgen": "I4VGen",
    "random_anchor": "I4VGen without selection: candidate 0",
    "no_ni_vsds": "I4VGen without NI-VSDS: the still anchor, regenerated",
    "no_regeneration": "I4VGen without regeneration",
    "fast": "I4VGen, preset `fast`",
}


@dataclass(frozen=True)
class Outcome:
    """frames: uint8 [F, H, W, 3]. seconds: of everything that this method needs for it, candidates included.
    anchor: the index of the candidate that it began with, or None.
    """

    frames: np.ndarray
    seconds: float
    anchor: int | None = None


class Comparison:
    """All methods on one prompt and seed. What several of them need is made once, and counted for each."""

    def __init__(self, pipeline: I4VGenPipeline, request: Request):
        self.pipeline = pipeline
        self.request = request

    def outcome(self, method: str) -> Outcome:
        return getattr(self, f"_{method}")()

    def _vanilla(self) -> Outcome:
        frames, _, seconds = finish(self.pipeline.vanilla(self.request))
        return Outcome(frames, seconds)

    def _freeinit(self) -> Outcome:
        frames, _, seconds = finish(self.pipeline.freeinit(self.request))
        return Outcome(frames, seconds)

    def _i4vgen(self) -> Outcome:
        candidates, drawing = self._drawn
        frames, latents, moving = self._moved
        frames, _, regenerating = finish(self.pipeline.regenerate(self.request, latents))
        return Outcome(frames, drawing + moving + regenerating, best(candidates).index)

    def _no_regeneration(self) -> Outcome:
        candidates, drawing = self._drawn
        frames, _, moving = self._moved
        return Outcome(frames, drawing + moving, best(candidates).index)

    def _no_ni_vsds(self) -> Outcome:
        candidates, drawing = self._drawn
        still = self.pipeline.backbone.still_video(self._latents(best(candidates)), self.request.num_frames)
        frames, _, seconds = finish(self.pipeline.regenerate(self.request, still))
        return Outcome(frames, drawing + seconds, best(candidates).index)

    def _random_anchor(self) -> Outcome:
        # Candidate 0 alone: the seed has drawn it, so it is as random as any.
        candidates, drawing = self._draw(replace(self.request, num_candidates=1))
        _, latents, moving = finish(self.pipeline.distill(self.request, self._latents(candidates[0])))
        frames, _, regenerating = finish(self.pipeline.regenerate(self.request, latents))
        return Outcome(frames, drawing + moving + regenerating, 0)

    def _fast(self) -> Outcome:
        return Comparison(self.pipeline, replace(self.request, preset="fast"))._i4vgen()

    @cached_property
    def _drawn(self) -> tuple[list[Candidate], float]:
        return self._draw(self.request)

    @cached_property
    def _moved(self) -> tuple[np.ndarray, torch.Tensor, float]:
        latents = self._latents(best(self._drawn[0]))
        return finish(self.pipeline.distill(self.request, latents))

    def _draw(self, request: Request) -> tuple[list[Candidate], float]:
        start = time.perf_counter()
        events = list(self.pipeline.candidates(request))
        return [e for e in events if isinstance(e, Candidate)], time.perf_counter() - start

    def _latents(self, candidate: Candidate) -> torch.Tensor:
        anchor = Anchor.from_candidate(candidate)
        return torch.from_numpy(anchor.latents)[None].to(self.pipeline.backbone.device)


def best(candidates: list[Candidate]) -> Candidate:
    return max(candidates, key=lambda candidate: candidate.score)


def finish(events: Generator[Event, None, torch.Tensor]) -> tuple[np.ndarray, torch.Tensor, float]:
    """The frames, the latents and the seconds of one stage."""
    start, frames = time.perf_counter(), None
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return frames, end.value, time.perf_counter() - start
        if isinstance(event, Result):
            frames = event.frames
