"""How long runs take on this device, from those that were measured. No Gradio here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from statistics import median

from i4vgen.catalog import ModelSpec
from i4vgen.events import Event, Loading, Progress, Stage
from i4vgen.ui import strings

WINDOW = 8
"""So many latest runs of a model are its pace."""

MAX_MODELS = 32
"""Maximum number of models whose pace is remembered: every LoRA makes another one."""

TELLING = 0.05
"""Share of a run that says how long the whole of it takes: its very first steps do not."""


class Pace:
    """Seconds per unit of `comparisons.work`, by model."""

    def __init__(self) -> None:
        self._paces: dict[ModelSpec, deque[float]] = {}

    def note(self, spec: ModelSpec, work: int, seconds: float) -> None:
        """A run of so much work took so many seconds."""
        paces = self._paces.pop(spec, deque(maxlen=WINDOW))
        paces.append(seconds / work)
        self._paces[spec] = paces  # last: the order is that of their use
        while len(self._paces) > MAX_MODELS:
            del self._paces[next(iter(self._paces))]

    def seconds(self, spec: ModelSpec, work: int) -> float | None:
        """What a run of so much work takes; None for a model that was not measured."""
        return median(self._paces[spec]) * work if spec in self._paces else None


class RunClock:
    """Follows a run: how much of its work is done, how long that took, and how long the rest takes.

    Attributes:
        words: What it does now.
    """

    def __init__(self, stages: Mapping[str, int], usual: float | None) -> None:
        """
        Args:
            stages: The work of each stage, see `comparisons.stage_work`.
            usual: Seconds that such a run takes, as measured before; None if no such run was.
        """
        self.words = strings.STARTING
        self._work = dict(stages)
        self._done = dict.fromkeys(stages, 0.0)
        self._usual = usual
        self._began: float | None = None

    def follow(self, event: Event) -> None:
        """Is told of every event of the run. The clock starts when the model is loaded."""
        match event:
            case Loading(repo_or_path, done, total):
                self.words = strings.downloading(repo_or_path, done, total)
            case Stage():
                self._began = self._began or time.monotonic()
            case Progress(stage, step, total):
                self._done[stage] = step / total
                self.words = strings.stage(stage)

    @property
    def began(self) -> bool:
        """Whether the model is at work: not before it is loaded."""
        return self._began is not None

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
