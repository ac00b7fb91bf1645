"""Prompts that wait for the device while nobody has to stay: the server makes their runs one after the other.

Runs that somebody watches wait in Gradio's queue and end when nobody listens to them any more. These go on, so
they have bounds of their own. The two take turns on the device: whoever clicks waits for one queued run at most
before every run that is watched, and clicks never keep the queue from moving.

Each queued prompt has the name that its run will have in the run store. Nobody can guess it; whoever has it
may see where the prompt is, take it out, and collect the run. No Gradio here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from i4vgen.errors import I4VGenError, InvalidInputError
from i4vgen.events import Event
from i4vgen.generation_config import GenerationConfig
from i4vgen.making import make_run
from i4vgen.runs import pack_folder
from i4vgen.runtime import Runtime
from i4vgen.ui import recipes, strings
from i4vgen.ui.limits import Budget
from i4vgen.ui.pace import RunClock, Stopwatch
from i4vgen.ui.run_store import RunStore

log = logging.getLogger(__name__)

WAIT_AT_MOST = 24 * 3600
"""Seconds after which a prompt whose turn has not come is given up."""

REMEMBER_FAILED = 200
"""Maximum number of failures that are told to whoever asks for them."""

LOOK_EVERY = 0.1
"""Seconds between two looks at whether the device is free."""


@dataclass(frozen=True)
class WatchedRuns:
    """The runs that somebody watches, each as the seconds that it still takes; None where that is not known.

    Attributes:
        under_way: The one on the device, if any.
        waiting: In their order.
    """

    under_way: Sequence[float | None] = ()
    waiting: Sequence[float | None] = ()


@dataclass(frozen=True)
class Place:
    """Where a queued prompt is.

    Attributes:
        position: 0 if its run is under way; 1 if it is next on the device, of all that wait; None if it failed.
        seconds_left: To the end of its run; None if that cannot be said yet.
        words: What its run does now, or why it failed.
        fraction: Share of its run that is done, 0 to 1.
    """

    position: int | None
    seconds_left: float | None = None
    words: str = ""
    fraction: float = 0.0


class QueueFullError(InvalidInputError):
    """Another prompt than the most that may be queued."""


class GivenUpError(Exception):
    """Whoever queued the prompt took it out while its run was under way."""


@dataclass
class QueuedPrompt:
    """A prompt that waits, or whose run is under way.

    Attributes:
        run: The name that its run will have in the run store.
        owner: Whose it is, see `visitors.current_visitor`.
        turn: The round in which it comes. Every owner has one prompt in each.
        stopwatch: Measures its run.
        since: Seconds on the monotonic clock.
        clock: Of its run, once that is under way.
        given_up: Whether it was taken out.
    """

    run: str
    owner: str
    runtime: Runtime
    config: GenerationConfig
    compare: tuple[str, ...]
    turn: int
    stopwatch: Stopwatch
    since: float = field(default_factory=time.monotonic)
    clock: RunClock | None = None
    given_up: bool = False


class PromptQueue:
    """One for the whole app. A thread of its own works it off, for as long as anything is in it.

    Attributes:
        watched: Gives the runs that somebody watches.
    """

    def __init__(self, run_store: RunStore, budget: Budget) -> None:
        """
        Args:
            run_store: Where finished runs are kept.
            budget: How many prompts may be in it, and how long runs take. Whoever adds a run has it checked.
        """
        self.run_store = run_store
        self.budget = budget
        self.watched: Callable[[], WatchedRuns] = WatchedRuns
        self._lock = threading.RLock()
        self._queued: dict[str, QueuedPrompt] = {}  # in the order in which they were added
        self._failed: dict[str, str] = {}
        self._running: QueuedPrompt | None = None
        self._watched_was_last = False
        self._turn = 0  # of the last prompt that was begun
        self._worker: threading.Thread | None = None

    # What visitors do

    def add(self, runtime: Runtime, config: GenerationConfig, compare: Iterable[str], owner: str) -> str:
        """Queues a prompt.

        Returns:
            Its name, which is that of its run.

        Raises:
            QueueFullError: Too many are queued already, of this owner or in all.
        """
        with self._lock:
            own = [prompt for prompt in self._queued.values() if prompt.owner == owner]
            if len(own) >= self.budget.limits.queued_per_visitor:
                raise QueueFullError(strings.too_many_queued(self.budget.limits.queued_per_visitor))
            if len(self._queued) >= self.budget.limits.queued:
                raise QueueFullError(strings.PROMPTS_FULL)
            turn = 1 + max((prompt.turn for prompt in own), default=self._turn)
            stopwatch = self.budget.stopwatch(runtime, config, compare)
            prompt = QueuedPrompt(
                self.run_store.new_token(), owner, runtime, config, tuple(compare), turn, stopwatch
            )
            self._queued[prompt.run] = prompt
            if self._worker is None:
                self._worker = threading.Thread(target=self._work_off, name="queued prompts", daemon=True)
                self._worker.start()
            return prompt.run

    def leave(self, runs: Iterable[str]) -> None:
        """Takes prompts out. The run of one that is under way ends with its step; a failure is forgotten."""
        with self._lock:
            for run in runs:
                prompt = self._queued.get(run)
                self._failed.pop(run, None)
                if prompt is not None:
                    prompt.given_up = True
                    if prompt is not self._running:
                        del self._queued[run]

    def look(self, runs: Iterable[str]) -> dict[str, Place]:
        """Where these prompts are. What is finished, was taken out or has never been here is left out."""
        with self._lock:
            self._give_up_old()
            failed = {run: Place(None, words=words) for run, words in self._failed.items()}
            known = failed | self._places()
            return {run: known[run] for run in runs if run in known}

    # Whose turn it is

    def let_watched_run_begin(self) -> bool:
        """Whether a run that somebody watches may begin, which it then does. Asked while none is under way."""
        with self._lock:
            if self._running or (self._watched_was_last and self._worker and self._waiting()):
                return False
            self._watched_was_last = True
            return True

    def _waiting(self) -> list[QueuedPrompt]:
        """What waits, in its order: every owner's first before anybody's second."""
        waiting = [prompt for prompt in self._queued.values() if prompt is not self._running]
        return sorted(waiting, key=lambda prompt: prompt.turn)  # a stable sort: else as they were added

    def _next(self) -> QueuedPrompt | None:
        """The next one, if it may begin."""
        waiting, watched = self._waiting(), self.watched()
        if not waiting or watched.under_way or (watched.waiting and not self._watched_was_last):
            return None
        self._watched_was_last, self._turn = False, waiting[0].turn
        return waiting[0]

    def _places(self) -> dict[str, Place]:
        """Where everything is that waits or is under way, with those runs before it that somebody watches."""
        places, watched, running = {}, self.watched(), self._running
        sooner: list[float | None] = list(watched.under_way)
        if running is not None and running.clock is not None:
            clock = running.clock
            sooner.append(clock.seconds_left)
            places[running.run] = Place(0, clock.seconds_left, clock.words, clock.fraction)
        left = sum(seconds for seconds in sooner if seconds is not None) if None not in sooner else None
        others, own, others_next = list(watched.waiting), self._waiting(), not self._watched_was_last
        position = 0
        while own:
            position += 1
            if others and others_next:
                left = add(left, others.pop(0))
            else:
                prompt = own.pop(0)
                left = add(left, self._expected(prompt))
                places[prompt.run] = Place(position, left)
            others_next = not others_next
        return places

    def _expected(self, prompt: QueuedPrompt) -> float | None:
        """Seconds that its run will take: as measured, if need be from the one under way."""
        spec, running = prompt.runtime.spec, self._running
        known = prompt.stopwatch.usual()
        if known is None and running and running.clock and running.runtime.spec == spec:
            total = running.clock.total
            share = sum(prompt.stopwatch.stages.values()) / sum(running.stopwatch.stages.values())
            return None if total is None else total * share
        return known

    # The runs

    def _work_off(self) -> None:
        """Makes the runs until nothing waits any more."""
        try:
            self._make_all()
        finally:
            with self._lock:
                if self._worker is threading.current_thread():  # it broke: nobody shall wait for it
                    self._worker = self._running = None

    def _make_all(self) -> None:
        while True:
            with self._lock:
                self._give_up_old()
                if not self._waiting():
                    self._worker = None  # with the lock: whoever adds a prompt now starts another thread
                    return
                self._running = prompt = self._next()
                if prompt is not None:
                    prompt.clock = RunClock(prompt.stopwatch)
            if prompt is None:
                time.sleep(LOOK_EVERY)
                continue
            failure = self._make(prompt)
            with self._lock:
                self._running = None
                del self._queued[prompt.run]
                if failure and not prompt.given_up:
                    self._note_failure(prompt.run, failure)

    def _make(self, prompt: QueuedPrompt) -> str:
        """Makes a run and keeps it. Returns why it failed, or an empty text."""
        try:
            with self.run_store.workspace() as folder:
                made = make_run(
                    prompt.runtime,
                    prompt.config,
                    None,
                    prompt.compare,
                    folder / "run",
                    partial(follow, prompt),
                    not recipes.left_out,
                )
                self.run_store.keep(partial(pack_folder, made.parent), prompt.owner, prompt.run)
        except GivenUpError:
            return ""
        except I4VGenError as error:  # whose words say all
            return str(error)
        except Exception as error:
            log.exception("a queued run failed")
            return str(error).strip().partition("\n")[0] or type(error).__name__
        return ""

    def _give_up_old(self) -> None:
        """Gives up what has waited for too long."""
        for prompt in self._waiting():
            if time.monotonic() - prompt.since > WAIT_AT_MOST:
                del self._queued[prompt.run]
                self._note_failure(prompt.run, strings.WAITED_TOO_LONG)

    def _note_failure(self, run: str, words: str) -> None:
        self._failed[run] = words
        while len(self._failed) > REMEMBER_FAILED:
            del self._failed[next(iter(self._failed))]


def follow(prompt: QueuedPrompt, event: Event, _file: object) -> None:
    """Is told of every event of a prompt's run. Raises `GivenUpError` once the prompt was taken out."""
    if prompt.given_up:
        raise GivenUpError
    if prompt.clock is not None:
        prompt.clock.follow(event)


def add(seconds: float | None, more: float | None) -> float | None:
    """The sum of two times, of which either may be unknown."""
    return None if seconds is None or more is None else seconds + more
