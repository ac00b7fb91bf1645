"""How long runs take on this device, from the stages that were measured. No Gradio here."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from statistics import median

from i4vgen.catalog import ModelSpec
from i4vgen.events import Event, Loading, Progress, Stage
from i4vgen.ui import strings

WINDOW = 8
"""So many latest runs of a stage are its pace."""

MAX_MODELS = 32
"""Maximum number of models whose pace is remembered: every LoRA makes another one."""

TELLING = 0.05
"""Share of a run that says how long the whole of it takes: its very first steps do not."""


class Pace:
    """Seconds per unit of `comparisons.stage_work`, by model and stage. For all threads."""

    def __init__(self) -> None:
        self._paces: dict[ModelSpec, dict[str, deque[float]]] = {}
        self._lock = threading.Lock()

    def note(self, spec: ModelSpec, stage: str, work: int, seconds: float) -> None:
        """A stage of so much work took so many seconds."""
        with self._lock:
            paces = self._paces.pop(spec, None) or defaultdict(lambda: deque(maxlen=WINDOW))
            paces[stage].append(seconds / work)
            self._paces[spec] = paces  # last: the order is that of their use
            while len(self._paces) > MAX_MODELS:
                del self._paces[next(iter(self._paces))]

    def seconds(self, spec: ModelSpec, stages: Mapping[str, int]) -> float | None:
        """What a run of these stages takes; None for a model that was not measured.

        stages: the work of each. One that was not measured is taken for as slow as the slowest that was.
        """
        with self._lock:
            paces = {stage: median(measured) for stage, measured in self._paces.get(spec, {}).items()}
        if not paces:
            return None
        slowest = max(paces.values())
        return sum(work * paces.get(stage, slowest) for stage, work in stages.items())


class RunClock:
    """Follows a run: how much of its work is done, how long that took, and how long the rest takes.

    Attributes:
        words: What it does now.
    """

    def __init__(self, pace: Pace, spec: ModelSpec, stages: Mapping[str, int]) -> None:
        """
        Args:
            pace: Says how long such runs took before, and is told how long the stages of this one take.
            spec: The model.
            stages: The work of each stage, see `comparisons.stage_work`.
        """
        self.words = strings.STARTING
        self._pace, self._spec = pace, spec
        self._work = dict(stages)
        self._done = dict.fromkeys(stages, 0.0)
        self._usual = pace.seconds(spec, stages)
        self._stage: str | None = None
        self._stage_began = 0.0
        self._began: float | None = None

    def watch(self, events: Iterable[Event]) -> Iterator[Event]:
        """Passes on the events of the run, and follows them."""
        for event in events:
            self.follow(event)
            yield event
        self.end()

    def follow(self, event: Event) -> None:
        """Is told of every event of the run. The clock starts when the model is loaded."""
        match event:
            case Loading(repo_or_path, done, total):
                self.words = strings.downloading(repo_or_path, done, total)
            case Stage(name):
                self.end()
                self._stage, self._stage_began = name, time.monotonic()
                self._began = self._began or self._stage_began
            case Progress(stage, step, total):
                self._done[stage] = step / total
                self.words = strings.stage(stage)

    def end(self) -> None:
        """The stage under way is over, and with the last one the run. Counts if all its steps were done."""
        work = self._work.get(self._stage or "")
        if self._stage and work and self._done[self._stage] == 1:
            self._pace.note(self._spec, self._stage, work, time.monotonic() - self._stage_began)
        self._stage = None

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
