"""Fair scheduling of the jobs of a device.

Attended and unattended jobs alternate, so that neither kind starves the other. Within each kind, visitors
take turns with one job per round.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import chain

from i4vgen.errors import I4VGenError
from i4vgen.serving.jobs.job import Handle, Job, Place, QueueFullError, WaitedTooLongError
from i4vgen.serving.limits import PRIVATE, Limits

log = logging.getLogger(__name__)

IDLE = 10.0
"""Seconds after which an idle worker exits."""

NICENESS = 10
"""Added to that of the workers, so that clicks go first where jobs run on the CPU."""


class JobQueue:
    """The job queue of one device, with its worker threads. Thread-safe."""

    def __init__(
        self, limits: Limits = PRIVATE, workers: int = 1, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Creates an empty queue. Workers are started on demand.

        Args:
            limits: The limits on pending jobs.
            workers: Maximum number of concurrent jobs.
            now: Returns the current time in seconds.
        """
        self.limits = limits
        self._workers = workers
        self._now = now
        self._changed = threading.Condition()
        self._waiting: list[Handle] = []  # in order of submission
        self._running: list[Handle] = []
        self._busy_workers = 0
        self._rounds = {True: 0, False: 0}  # round of the last started job, by `attended`
        self._attended_was_last = False

    def submit(self, job: Job, accepted: bool = False) -> Handle:
        """Adds a job to the queue and returns its handle.

        Args:
            job: The job.
            accepted: Whether an earlier server process accepted the job. If so, limits do not apply.

        Raises:
            QueueFullError: Too many jobs of this kind are pending, for this visitor or in total.
        """
        with self._changed:
            self._drop_expired()
            same = [each for each in chain(self._running, self._waiting) if each.job.attended is job.attended]
            own = [each for each in same if each.job.owner == job.owner]
            if not accepted:
                self._check_limits(job, len(own), len(same))
            scheduled = 1 + max((each.round for each in own), default=self._rounds[job.attended])
            handle = Handle(job, scheduled, self._now, self.place_of)
            self._waiting.append(handle)
            if self._busy_workers < self._workers:
                self._busy_workers += 1
                threading.Thread(target=self._work, name="device", daemon=True).start()
            self._changed.notify()
        self._update_waiting()
        return handle

    def _check_limits(self, job: Job, own: int, same: int) -> None:
        limits = self.limits
        in_all, per_visitor = limits.waiting, limits.waiting_per_visitor
        if not job.attended:
            in_all, per_visitor = limits.queued, limits.queued_per_visitor
        if own >= per_visitor:
            raise QueueFullError(job.attended, per_visitor)
        if same >= in_all:
            raise QueueFullError(job.attended)

    def place_of(self, handle: Handle) -> Place:
        """Returns the place of a job."""
        with self._changed:
            self._drop_expired()
            if handle.is_over:
                return Place(None, error=handle.error)
            if handle in self._running:
                clock = handle.job.clock
                return Place(0, clock.seconds_left, clock.doing, clock.fraction)
            return self._places().get(handle, Place(None))

    def __len__(self) -> int:
        """Returns the number of waiting and running jobs."""
        with self._changed:
            self._drop_expired()
            return len(self._waiting) + len(self._running)

    def _order(self) -> list[Handle]:
        """Returns the waiting jobs in starting order."""
        kinds: dict[bool, list[Handle]] = {True: [], False: []}
        for handle in sorted(self._waiting, key=lambda each: each.round):
            kinds[handle.job.attended].append(handle)
        order, attended = [], not self._attended_was_last
        while any(kinds.values()):
            kind = kinds[attended] or kinds[not attended]
            order.append(kind.pop(0))
            attended = not order[-1].job.attended
        return order

    def _places(self) -> dict[Handle, Place]:
        """Returns the place of each waiting job."""
        busy = [each.job.clock.seconds_left for each in self._running]
        left: float | None = 0.0
        if len(busy) >= self._workers:
            known = [seconds for seconds in busy if seconds is not None]
            left = min(known) if len(known) == len(busy) else None
        places = {}
        for position, handle in enumerate(self._order(), 1):
            seconds = self._estimate(handle)
            left = None if left is None or seconds is None else left + seconds
            places[handle] = Place(position, left)
        return places

    def _estimate(self, handle: Handle) -> float | None:
        """Estimates the seconds of a job from earlier runs or a running job of the model; None if unknown."""
        clock = handle.job.clock
        known = clock.estimate()
        if known is None:
            for other in (each.job.clock for each in self._running):
                if other.model == clock.model and other.total is not None and other.work:
                    return other.total * clock.work / other.work
        return known

    def _drop_expired(self) -> None:
        """Drops waiting jobs that were stopped or whose lease has expired."""
        for handle in list(self._waiting):
            if handle.token.stopped or handle.has_expired:
                self._waiting.remove(handle)
                handle.abandoned = handle.abandoned or handle.job.attended
                handle.finish(error=None if handle.abandoned else WaitedTooLongError())

    def _update_waiting(self) -> None:
        """Notifies the listeners of all waiting jobs about changed places."""
        with self._changed:
            waiting = list(self._waiting)
        for handle in waiting:
            handle.publish(handle.snapshot)

    def _work(self) -> None:
        """Runs jobs until none has arrived for `IDLE` seconds."""
        if sys.platform == "linux":  # threads there have a niceness of their own, which their threads inherit
            thread = os.PRIO_PROCESS, threading.get_native_id()
            with suppress(OSError):  # in a sandbox
                os.setpriority(*thread, os.getpriority(*thread) + NICENESS)
        while (handle := self._next()) is not None:
            self._update_waiting()
            result, error = None, None
            try:
                result = self._run(handle)
            except Exception as failure:
                error = failure
                if not isinstance(failure, I4VGenError):  # expected errors need no traceback
                    log.debug("a job failed", exc_info=failure)
                clear_variables(failure)
            with self._changed:
                self._running.remove(handle)
                handle.finish(result, error)

    def _next(self) -> Handle | None:
        """Waits for the next job and returns it as running; None if none arrives within `IDLE` seconds."""
        with self._changed:
            while True:
                self._drop_expired()
                if order := self._order():
                    handle = order[0]
                    self._waiting.remove(handle)
                    self._running.append(handle)
                    self._attended_was_last = handle.job.attended
                    self._rounds[handle.job.attended] = handle.round
                    return handle
                if not self._changed.wait(IDLE):
                    self._busy_workers -= 1  # under the lock, so that the next submitted job starts a worker
                    return None

    def _run(self, handle: Handle) -> object:
        """Runs a job and returns its result."""
        job = handle.job
        steps = job.context.run(job.start, handle.token)
        try:
            while True:
                handle.publish(job.context.run(next, steps))
                if job.attended and handle.has_expired:
                    handle.stop()
        except StopIteration as end:
            return end.value
        finally:
            if isinstance(steps, Generator):
                job.context.run(steps.close)


def clear_variables(error: BaseException | None) -> None:
    """Clears the variables in the frames of an error and its causes.

    The handle of a failed job keeps the error, whose frames would keep the model and its latents.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
