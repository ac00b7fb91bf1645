"""What is compared: the method, the paper's ablations, and the model without it, all from one seed's noise."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from i4vgen.config import GenerationConfig
from i4vgen.events import Candidate, Event, Result, Selected, best, latest, ranked
from i4vgen.method.inputs import RunInputs
from i4vgen.pipeline import I4VGenPipeline

METHODS = {
    "vanilla": "the model as it is",
    "freeinit": "FreeInit",
    "i4vgen": "I4VGen",
    "random_anchor": "I4VGen without selection: one candidate",
    "no_ni_vsds": "I4VGen without NI-VSDS: the still anchor, regenerated",
    "no_regeneration": "I4VGen without regeneration",
    "fast": "I4VGen, preset `fast`",
    "best_of_4": "I4VGen, best of 4",
    "best_of_64": "I4VGen, best of 64",
    "other_candidate": "I4VGen from another candidate, at random",
    "animate_best_4": "I4VGen, the best 4 animated, the best video kept",
}
REAL = "real"
"""No method: clips that were rendered, not generated. What they get is what a figure is to be compared with."""
TITLES = METHODS | {REAL: "real clips"}
COMPUTE = ("vanilla", "random_anchor", "best_of_4", "i4vgen", "best_of_64", "fast", "animate_best_4")


@dataclass(frozen=True)
class Outcome:
    """frames: uint8 [F, H, W, 3]. seconds: of everything that this method needs for it, candidates included.
    anchor: the picture that it began with, or is compared with if it began with none: uint8 [H, W, 3].
    """

    frames: np.ndarray
    seconds: float
    anchor: np.ndarray


class Contest:
    """All methods on one prompt and seed. What several of them need is made once, and counted for each."""

    def __init__(self, pipeline: I4VGenPipeline, config: GenerationConfig):
        self.pipeline = pipeline
        self.config = config
        self._sets: dict[int, tuple[list[Candidate], float]] = {}

    def outcome(self, method: str) -> Outcome:
        """Raises `KeyError` for a method that is not in `METHODS`."""
        return {
            "vanilla": lambda: self._whole(self.pipeline.comparison("vanilla", self.config)),
            "freeinit": lambda: self._whole(self.pipeline.comparison("freeinit", self.config)),
            "i4vgen": lambda: self._best_of(self.config.num_candidates),
            "random_anchor": lambda: self._best_of(1),  # the seed has drawn it, so it is as random as any
            "no_ni_vsds": self._no_ni_vsds,
            "no_regeneration": self._no_regeneration,
            "fast": lambda: self._in_preset("fast"),
            "best_of_4": lambda: self._best_of(4),
            "best_of_64": lambda: self._best_of(64),
            "other_candidate": self._other_candidate,
            "animate_best_4": lambda: self._animate_best(4),
        }[method]()

    @property
    def anchor(self) -> torch.Tensor:
        """The latents of the anchor that I4VGen begins with, [1, C, 1, h, w]."""
        return self._latents(best(self._drawn[0]))

    def candidates(self, count: int) -> tuple[list[Candidate], float]:
        """As many candidates, and the seconds that they took. Drawn once, however often they are asked for."""
        if count not in self._sets:
            start = time.perf_counter()
            events = list(self.pipeline.candidates(replace(self.config, num_candidates=count)))
            found = latest(e for e in events if isinstance(e, Candidate))
            self._sets[count] = found, time.perf_counter() - start
        return self._sets[count]

    def _whole(self, events: Generator[Event, None, torch.Tensor]) -> Outcome:
        frames, _, seconds = finish(events)
        return Outcome(frames, seconds, best(self._drawn[0]).image)

    def _best_of(self, count: int) -> Outcome:
        if count == self.config.num_candidates:
            (candidates, drawing), (_, latents, moving) = self._drawn, self._moved
        else:
            candidates, drawing = self.candidates(count)
            _, latents, moving = self._move(best(candidates))
        return self._regenerate(best(candidates), latents, drawing + moving)

    def _other_candidate(self) -> Outcome:
        """What a person may choose: any candidate but the best."""
        candidates, drawing = self._drawn
        others = ranked(candidates)[1:]
        chosen = others[np.random.default_rng(self.config.seed).integers(len(others))]
        _, latents, moving = self._move(chosen)
        return self._regenerate(chosen, latents, drawing + moving)

    def _animate_best(self, count: int) -> Outcome:
        start = time.perf_counter()
        events = list(self.pipeline.run(replace(self.config, animate_best=count), compare=()))
        seconds = time.perf_counter() - start
        (anchor,) = (event.image for event in events if isinstance(event, Selected))
        (frames,) = (event.frames for event in events if isinstance(event, Result) and event.name == "i4vgen")
        return Outcome(frames, seconds, anchor)

    def _regenerate(self, candidate: Candidate, latents: torch.Tensor, seconds: float) -> Outcome:
        """seconds: of what led to these latents, [1, C, F, h, w]."""
        frames, _, regenerating = finish(self.pipeline.regenerate(self._inputs, latents))
        return Outcome(frames, seconds + regenerating, candidate.image)

    def _in_preset(self, preset: str) -> Outcome:
        return Contest(self.pipeline, replace(self.config, preset=preset)).outcome("i4vgen")

    def _no_regeneration(self) -> Outcome:
        (candidates, drawing), (frames, _, moving) = self._drawn, self._moved
        return Outcome(frames, drawing + moving, best(candidates).image)

    def _no_ni_vsds(self) -> Outcome:
        candidates, drawing = self._drawn
        still = self.pipeline.backbone.still_video(self.anchor, self.config.num_frames)
        frames, _, seconds = finish(self.pipeline.regenerate(self._inputs, still))
        return Outcome(frames, drawing + seconds, best(candidates).image)

    @cached_property
    def _inputs(self) -> RunInputs:
        return self.pipeline.prepare(self.config)

    @property
    def _drawn(self) -> tuple[list[Candidate], float]:
        return self.candidates(self.config.num_candidates)

    @cached_property
    def _moved(self) -> tuple[np.ndarray, torch.Tensor, float]:
        return self._move(best(self._drawn[0]))

    def _move(self, candidate: Candidate) -> tuple[np.ndarray, torch.Tensor, float]:
        return finish(self.pipeline.distill(self._inputs, self._latents(candidate)))

    def _latents(self, candidate: Candidate) -> torch.Tensor:
        """[1, C, 1, h, w]."""
        return torch.from_numpy(candidate.latents)[None].to(self.pipeline.backbone.device)


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
