"""How long runs take on this device, from the stages that were measured. No Gradio here."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from statistics import median

from i4vgen.events import Event, Loading, Progress, Stage
from i4vgen.ui import strings

WINDOW = 8
"""So many latest measurements of a stage are its pace."""

SURE = 3
"""So many of them say what a stage takes at least: the first ones may have met a device that was warming up."""

RECENT = 3600
"""Seconds for which a measurement counts: a device that was busy is not so for ever."""

MAX_MODELS = 32
"""Maximum number of models whose pace is remembered."""

TELLING = 0.05
"""Share of a run that says how long the whole of it takes: its very first steps do not."""


class Pace:
    """Seconds per unit of `comparisons.stage_work`, by model and stage. For all threads."""

    def __init__(self) -> None:
        # By model, then by stage and whether there was much to do: when, and the pace.
        self._measured: dict[str, dict[tuple[str, bool], deque[tuple[float, float]]]] = {}
        self._lock = threading.Lock()

    def note(self, model: str, stage: str, work: int, seconds: float, much: bool = True) -> None:
        """A stage of so much work took so many seconds. much: whether that says how long more would take: of
        little work, what a step costs besides is a large part.
        """
        with self._lock:
            stages = self._measured.pop(model, {})
            stages.setdefault((stage, much), deque(maxlen=WINDOW)).append((time.monotonic(), seconds / work))
            self._measured[model] = stages  # last: the order is that of their use
            while len(self._measured) > MAX_MODELS:
                del self._measured[next(iter(self._measured))]

    def usual(self, model: str, stages: Mapping[str, int]) -> float | None:
        """Seconds that these stages take; None for a model that was not measured.

        stages: the work of each. One that was not measured is taken for as slow as the slowest that was.
        """
        recent = self._recent(model)
        measured = {stage: recent.get((stage, True)) or paces for (stage, _), paces in recent.items()}
        paces = {stage: median(paces) for stage, paces in measured.items()}
        if not paces:
            return None
        slowest = max(paces.values())
        return sum(work * paces.get(stage, slowest) for stage, work in stages.items())

    def at_least(self, model: str, stages: Mapping[str, int]) -> float:
        """Seconds that these stages take when nothing else slows the device down, as far as that is known.

        stages: the work of each. One that was measured less often than `SURE` does not count.
        """
        recent = self._recent(model)
        measured = {stage: recent.get((stage, True), []) for stage in stages}
        return sum(stages[stage] * min(paces) for stage, paces in measured.items() if len(paces) >= SURE)

    def _recent(self, model: str) -> dict[tuple[str, bool], list[float]]:
        """The paces that were measured lately; none of the lists is empty."""
        since = time.monotonic() - RECENT
        with self._lock:
            measured = self._measured.get(model, {})
            recent = {key: [pace for when, pace in both if when > since] for key, both in measured.items()}
        return {key: paces for key, paces in recent.items() if paces}


class Stopwatch:
    """Adds up the sampler's own time in each stage of a run, and tells the pace of those that are finished."""

    def __init__(self, pace: Pace, model: str, stages: Mapping[str, int], much: Mapping[str, float]) -> None:
        """
        Args:
            pace: Is told.
            model: What the pace is of.
            stages: The work of each stage, see `comparisons.stage_work`.
            much: The work of each from which on it is much, see `Pace.note`.
        """
        self.stages = dict(stages)
        self._pace, self._model, self._much = pace, model, dict(much)
        self._spent = dict.fromkeys(stages, 0.0)

    def usual(self) -> float | None:
        """Seconds that such a run takes, as measured before; None if no such run was."""
        return self._pace.usual(self._model, self.stages)

    def follow(self, event: Event) -> None:
        """Is told of every event of the run."""
        if isinstance(event, Progress) and (work := self.stages.get(event.stage)):
            self._spent[event.stage] += event.seconds
            if event.step == event.total:
                much = work >= self._much[event.stage]
                self._pace.note(self._model, event.stage, work, self._spent[event.stage], much)

    def watch(self, events: Iterable[Event]) -> Iterator[Event]:
        """Passes on the events of the run, and follows them."""
        for event in events:
            self.follow(event)
            yield event


class RunClock:
    """Follows a run: how much of its work is done, how long that took, and how long the rest takes.

    Attributes:
        words: What it does now.
    """

    def __init__(self, stopwatch: Stopwatch) -> None:
        """stopwatch: of this run."""
        self.words = strings.STARTING
        self._stopwatch = stopwatch
        self._work = stopwatch.stages
        self._done = dict.fromkeys(self._work, 0.0)
        self._usual = stopwatch.usual()
        self._began: float | None = None

    def follow(self, event: Event) -> None:
        """Is told of every event of the run. The clock starts when the model is loaded."""
        self._stopwatch.follow(event)
        match event:
            case Loading(repo_or_path, done, total):
                self.words = strings.downloading(repo_or_path, done, total)
            case Stage():
                self._began = self._began or time.monotonic()
            case Progress(stage, step, total):
                self._done[stage] = step / total
                self.words = strings.stage(stage)

    @property
    def elapsed(self) -> float:
        """Seconds since the model is at work."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    @property
    def fraction(self) -> float:
        """Share of the work that is done, 0 to 1."""
        return sum(self._work[stage] * done for stage, done in self._done.items()) / sum(self._work.values())

    @property
    def total(self) -> float | None:
        """Seconds that the whole run takes: first as such runs usually do, in the end as this one does. None
        before there is anything to tell from.
        """
        fraction, elapsed = self.fraction, self.elapsed
        if self._usual is not None:
            return elapsed + (1 - fraction) * self._usual
        return elapsed / fraction if fraction >= TELLING else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end; None before there is anything to tell from."""
        total = self.total
        return None if total is None else (1 - self.fraction) * total
