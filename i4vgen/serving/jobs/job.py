"""Jobs for the device, and handles to follow and stop them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace

from i4vgen.errors import I4VGenError, InvalidInputError
from i4vgen.events import Event
from i4vgen.serving.pace import RunClock
from i4vgen.serving.runtime import StopToken

PAGE_LEASE = 120.0
"""Seconds that a page's job continues after the last contact with the page."""

HEARTBEAT = 5.0
"""Seconds between updates of a job without changes."""

MIN_INTERVAL = 0.2
"""Minimum number of seconds between updates."""


class QueueFullError(InvalidInputError):
    """The queue accepts no more jobs.

    Attributes:
        attended: Whether the limit on attended jobs was reached, not the one on unattended jobs.
        per_visitor: The limit per visitor; None if the limit of the server was reached.
    """

    def __init__(self, attended: bool, per_visitor: int | None = None) -> None:
        limit = "the server" if per_visitor is None else f"a visitor, {per_visitor}"
        super().__init__(f"the queue is full: the limit of {limit}")
        self.attended, self.per_visitor = attended, per_visitor


class WaitedTooLongError(I4VGenError):
    """An unattended job did not start in time."""


@dataclass
class Job:
    """Work for the device.

    Attributes:
        owner: The visitor who submitted the job.
        start: Called to start the job. The returned iterator does the work step by step: each item becomes
            the job's snapshot, and a generator's return value its result. The iterator must end soon after
            the token is stopped.
        clock: The time estimates of the job.
        attended: Whether a client follows the job. Unattended jobs continue without listeners.
        lease: Seconds after which an attended job ends unless its lease is renewed, or an unattended job is
            dropped if it has not started.
        context: The context variables of the request, in which every step runs.
    """

    owner: str
    start: Callable[[StopToken], Iterator[object]]
    clock: RunClock
    attended: bool = True
    lease: float = PAGE_LEASE
    context: Context = field(default_factory=copy_context)


@dataclass(frozen=True)
class Place:
    """A job's place in the queue and its progress.

    Attributes:
        position: 0 for a running job, 1 for the next one, and so on; None if the job is over or unknown.
        seconds_left: The estimated seconds until the job ends; None if unknown.
        doing: The latest `Loading` or `Progress` event; None before the first.
        fraction: The completed fraction of a running job, 0 to 1.
        error: The error that ended the job, if any.
    """

    position: int | None
    seconds_left: float | None = None
    doing: Event | None = None
    fraction: float = 0.0
    error: Exception | None = None


class Handle:
    """A handle to follow and stop a submitted job. Thread-safe.

    Attributes:
        job: The job.
        round: The scheduling round of the job. A visitor has at most one job of each kind per round.
        snapshot: The latest item of the job; None before the first.
        result: The return value of the finished job.
        error: The error that ended the job, if any.
        abandoned: Whether the job was stopped by a client or, if attended, because its lease expired.
        token: Tells the job to stop.
    """

    def __init__(
        self, job: Job, round: int, now: Callable[[], float], find_place: Callable[[Handle], Place]
    ) -> None:
        """Creates the handle of a submitted job.

        Args:
            job: The job.
            round: The scheduling round of the job.
            now: Returns the current time in seconds.
            find_place: Returns the place of a job.
        """
        self.job, self.round = job, round
        self.snapshot: object = None
        self.result: object = None
        self.error: Exception | None = None
        self.abandoned = False
        self.token = StopToken()
        self._now, self._find_place = now, find_place
        self._expires = now() + job.lease
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    @property
    def has_expired(self) -> bool:
        return self._now() > self._expires

    @property
    def place(self) -> Place:
        return self._find_place(self)

    def renew(self) -> None:
        """Renews the lease."""
        self._expires = self._now() + self.job.lease

    def stop(self) -> None:
        """Stops the job: immediately if it is waiting, otherwise after the current step."""
        self.abandoned = True
        self.token.stop()
        self._find_place(self)  # drops the job if it is waiting
        self._notify()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the job to finish and returns whether it has.

        Args:
            timeout: Maximum seconds to wait; None for no limit.
        """
        return self._over.wait(timeout)

    async def updates(self, has_listener: Callable[[], bool] = lambda: True) -> AsyncIterator[Place]:
        """Yields the place of the job: immediately, after changes, every few seconds, and at the end.

        Slow consumers miss intermediate snapshots, but never the latest.

        Args:
            has_listener: Returns whether updates still reach a client. The lease is renewed only then.

        Raises:
            Exception: The error that ended the job.
        """
        changed, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            self._listeners[changed] = loop
        try:
            while True:
                changed.clear()
                over = self.is_over
                if has_listener():
                    self.renew()
                if over and self.error is not None:
                    raise self.error
                yield self.place
                if over:
                    return
                await asyncio.sleep(MIN_INTERVAL)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), HEARTBEAT)
        finally:
            with self._lock:
                del self._listeners[changed]

    # Called by the queue

    def publish(self, snapshot: object) -> None:
        self.snapshot = snapshot
        self._notify()

    def finish(self, result: object = None, error: Exception | None = None) -> None:
        self.result, self.error = result, error
        # Both keep what the job began with, such as the candidates that the tab showed then.
        self.job = replace(self.job, start=lambda _: iter(()), context=Context())
        self._over.set()
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            listeners = list(self._listeners.items())
        for changed, loop in listeners:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server is shutting down
                loop.call_soon_threadsafe(changed.set)
