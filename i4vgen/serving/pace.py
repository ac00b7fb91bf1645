"""Estimates the duration of runs on this device from the measured stages of earlier runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from statistics import median

from i4vgen.events import Event, Loading, Progress, Stage

WINDOW = 8
"""Number of latest measurements kept per stage."""

MIN_SAMPLES = 3
"""Minimum number of measurements for a lower bound: the first ones may include warming up."""

MAX_AGE = 3600
"""Seconds for which a measurement is valid: the load of the device changes."""

MAX_MODELS = 32
"""Maximum number of models with stored measurements."""

MIN_FRACTION = 0.05
"""Minimum completed fraction of a run to extrapolate from it: the first steps are not representative."""


class Pace:
    """Records seconds per unit of `comparisons.stage_work`, by model and stage. Thread-safe."""

    def __init__(self) -> None:
        # (time of measurement, seconds per unit of work) by model, then by (stage, is_large).
        self._measured: dict[str, dict[tuple[str, bool], deque[tuple[float, float]]]] = {}
        self._lock = threading.Lock()

    def record(self, model: str, stage: str, work: int, seconds: float, is_large: bool = True) -> None:
        """Records how long a stage took.

        Args:
            model: The key of the model (`RunPlan.model`).
            stage: The name of the stage.
            work: The work of the stage (`comparisons.stage_work`).
            seconds: The duration of the stage.
            is_large: Whether the stage is so large that larger ones have the same pace. A small stage spends
                much of its time on the fixed cost of each step.
        """
        with self._lock:
            stages = self._measured.pop(model, {})
            stages.setdefault((stage, is_large), deque(maxlen=WINDOW)).append(
                (time.monotonic(), seconds / work)
            )
            self._measured[model] = stages  # moved to the end: ordered by use
            while len(self._measured) > MAX_MODELS:
                del self._measured[next(iter(self._measured))]

    def estimate(self, model: str, stages: Mapping[str, int]) -> float | None:
        """Estimates the total seconds of stages.

        Stages without measurements are assumed to be as slow as the slowest measured stage.

        Args:
            model: The key of the model (`RunPlan.model`).
            stages: The work of each stage.

        Returns:
            The estimate; None if no stage of the model was measured within `MAX_AGE`.
        """
        recent = self._recent(model)
        measured = {stage: recent.get((stage, True)) or paces for (stage, _), paces in recent.items()}
        paces = {stage: median(paces) for stage, paces in measured.items()}
        if not paces:
            return None
        slowest = max(paces.values())
        return sum(work * paces.get(stage, slowest) for stage, work in stages.items())

    def lower_bound(self, model: str, stages: Mapping[str, int]) -> float:
        """Returns a lower bound on the total seconds of stages.

        Only measurements of large stages within `MAX_AGE` are used. Stages with fewer than `MIN_SAMPLES` of
        them count as 0.

        Args:
            model: The key of the model (`RunPlan.model`).
            stages: The work of each stage.
        """
        recent = self._recent(model)
        measured = {stage: recent.get((stage, True), []) for stage in stages}
        return sum(stages[stage] * min(paces) for stage, paces in measured.items() if len(paces) >= MIN_SAMPLES)

    def _recent(self, model: str) -> dict[tuple[str, bool], list[float]]:
        """Returns the valid paces by (stage, is_large), without empty lists."""
        since = time.monotonic() - MAX_AGE
        with self._lock:
            measured = self._measured.get(model, {})
            recent = {key: [pace for when, pace in both if when > since] for key, both in measured.items()}
        return {key: paces for key, paces in recent.items() if paces}


class RunClock:
    """Tracks a run: records its stages in `Pace` and estimates its progress and remaining time.

    Attributes:
        model: The key of the model (`RunPlan.model`).
        work: The work of the whole run (`comparisons.stage_work`).
        doing: The latest `Loading` or `Progress` event; None before the first.
    """

    def __init__(
        self,
        pace: Pace,
        model: str,
        stages: Mapping[str, int],
        large: Mapping[str, float],
        times: Mapping[str, int] | None = None,
    ) -> None:
        """Creates the clock of one run.

        Args:
            pace: The store of measurements.
            model: The key of the model (`RunPlan.model`).
            stages: The work of one pass through each stage.
            large: The minimum work of each stage to count as large (`Pace.record`).
            times: The number of passes through each stage; None for one each.
        """
        self.model = model
        self.doing: Loading | Progress | None = None
        self._pace = pace
        self._once = dict(stages)
        self._all = {stage: work * (1 if times is None else times[stage]) for stage, work in stages.items()}
        self._large = dict(large)
        self._spent = dict.fromkeys(stages, 0.0)
        self._done = dict.fromkeys(stages, 0.0)
        self._began: float | None = None
        self._estimate: float | None = None

    @property
    def work(self) -> int:
        return sum(self._all.values())

    def estimate(self) -> float | None:
        """Estimates the duration of the whole run in seconds, from recent measurements of the same model.

        Returns:
            The estimate; 0 for a run without work; None if the model has no measurement within `MAX_AGE`.
        """
        return self._pace.estimate(self.model, self._all) if self.work else 0.0

    def watch(self, events: Generator[Event, None, None]) -> Iterator[Event]:
        """Passes on the events of the run and follows them.

        Closes the events at the end, also if the caller fails: the traceback of an error keeps the caller's
        variables, so a stream of a runtime would block the device until the error is forgotten.
        """
        with closing(events):
            for event in events:
                self.follow(event)
                yield event

    def follow(self, event: Event) -> None:
        """Updates the clock with an event. Time counts from the first `Stage`, when the model is loaded."""
        match event:
            case Loading():
                self.doing = event
            case Stage():
                if self._began is None:
                    self._began, self._estimate = time.monotonic(), self.estimate()
            case Progress(stage, step, total, _, seconds):
                self.doing = event
                if work := self._once.get(stage):
                    self._done[stage] = min(self._done[stage] + work / total, self._all[stage])
                    self._spent[stage] += seconds
                    if step == total:
                        spent, self._spent[stage] = self._spent[stage], 0.0
                        self._pace.record(self.model, stage, work, spent, work >= self._large[stage])

    @property
    def elapsed(self) -> float:
        """Seconds since the first stage began."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    @property
    def fraction(self) -> float:
        """Completed fraction of the work, 0 to 1."""
        return sum(self._done.values()) / self.work if self.work else 0.0

    @property
    def total(self) -> float | None:
        """Estimated seconds of the whole run; None if unknown.

        Relies on earlier runs at first and increasingly on this run's own pace.
        """
        fraction, elapsed = self.fraction, self.elapsed
        usual = self._estimate if self._began is not None else self.estimate()
        if usual is not None:
            return elapsed + (1 - fraction) * usual
        return elapsed / fraction if fraction >= MIN_FRACTION else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining seconds; None if unknown."""
        total = self.total
        return None if total is None else (1 - self.fraction) * total
