"""Background runs of queued prompts, which outlive the browser tab and the server.

A queued prompt has the same name as its run in the run store. The name cannot be guessed and suffices to look
up the prompt, cancel it and collect the run. The prompt stays on disk (`JobStore`) until the run is in the
run store, so that restarts and crashes neither lose nor duplicate runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from functools import partial

from i4vgen.config import GenerationConfig
from i4vgen.errors import I4VGenError, StorageError
from i4vgen.models.catalog import ModelSpec
from i4vgen.serving.budget import Budget, RunPlan
from i4vgen.serving.jobs.job import Handle, Job, Place, WaitedTooLongError
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.jobs.store import JobStore, StoredJob
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.run_to_folder import stream_run
from i4vgen.serving.runtime import StopToken
from i4vgen.storage.run_store import RunStore, StoreFullError
from i4vgen.storage.runs import pack_folder

log = logging.getLogger(__name__)

MAX_WAIT = 24 * 3600
"""Maximum number of seconds that a prompt waits to start."""

MAX_FAILURES = 200
"""Maximum number of failures kept."""

MAX_STARTS = 2
"""Maximum number of starts of a run: if the server ends during each of them, the run may be the cause."""


class ServerEndedError(I4VGenError):
    """The server ended during this run `MAX_STARTS` times."""


KNOWN_FAILURES = {error.__name__: error for error in (ServerEndedError, StoreFullError, WaitedTooLongError)}


class PromptQueue:
    """The queue of prompts of all visitors."""

    def __init__(
        self,
        jobs: JobQueue,
        run_store: RunStore,
        budget: Budget,
        models: OfferedModels,
        metadata: bool = True,
    ) -> None:
        """Creates the queue. `resume` loads the prompts stored on disk.

        Args:
            jobs: The queue of the device.
            run_store: The store of finished runs. Its folder also holds the queued prompts.
            budget: The time estimates. Callers of `add` must check the limits themselves.
            models: The offered models.
            metadata: Whether to embed the recipe in pictures and videos (`Recipe`).

        Raises:
            StorageError: The folder of the run store cannot be written.
        """
        self.jobs = jobs
        self.run_store = run_store
        self.budget = budget
        self.models = models
        self.metadata = metadata
        self._lock = threading.RLock()
        self._store = JobStore(run_store.root)
        self._queued: dict[str, Handle] = {}
        self._failed: dict[str, Exception] = {}

    def resume(self) -> None:
        """Queues the stored prompts of earlier server processes again and loads the stored failures.

        Raises:
            StorageError: The stored prompts cannot be read.
        """
        for stored in self._store.jobs():
            try:
                self._resume(stored)
            except Exception as error:  # the other prompts continue
                self._note_failure(stored.name, error)

    def _resume(self, stored: StoredJob) -> None:
        if stored.failure is not None:
            self._failed[stored.name] = failure_of(stored)
        elif self.run_store.path(stored.name) is not None:
            self._store.remove(stored.name)
        elif stored.begun >= MAX_STARTS:
            raise ServerEndedError
        else:
            runtime = self.models.runtime_for(ModelSpec.from_dict(stored.request["model"]))
            config = GenerationConfig.from_dict(stored.request["config"])
            lease = MAX_WAIT - (time.time() - stored.added)
            plan = RunPlan.whole(runtime, config, stored.request["compare"])
            job = self._job(stored.name, plan, stored.owner, lease)
            with self._lock:
                self._queued[stored.name] = self.jobs.submit(job, accepted=True)

    def close(self) -> None:
        """Releases the stored prompts for another server process."""
        self._store.close()

    def add(self, plan: RunPlan, owner: str) -> str:
        """Queues a prompt.

        Returns:
            The name of the prompt and of its run.

        Raises:
            QueueFullError: The queue of the owner or of the server is full.
            StorageError: The prompt cannot be stored.
        """
        name, spec = self.run_store.new_token(), plan.runtime.spec
        request = {"config": plan.config.to_dict(), "model": spec.to_dict(), "compare": list(plan.compare)}
        with self._lock:
            self._settle()
            job = self._job(name, plan, owner, MAX_WAIT)
            self._store.add(name, owner, request)  # must precede the start
            try:
                self._queued[name] = self.jobs.submit(job)
            except I4VGenError:
                self._store.remove(name)
                raise
        return name

    def leave(self, runs: Iterable[str]) -> None:
        """Removes prompts and failures by name. Active runs stop after their current step.

        Raises:
            StorageError: The prompts cannot be removed from the disk.
        """
        with self._lock:
            for run in runs:
                if handle := self._queued.pop(run, None):
                    handle.stop()
                elif self._failed.pop(run, None) is None:
                    continue
                self._store.remove(run)

    def places_of(self, runs: Iterable[str]) -> dict[str, Place]:
        """Returns the places of queued and failed prompts by name. Omits finished and unknown ones."""
        with self._lock:
            self._settle()
            places = {run: self._queued[run].place for run in runs if run in self._queued}
            return places | {run: Place(None, error=self._failed[run]) for run in runs if run in self._failed}

    def _settle(self) -> None:
        """Removes finished prompts and records failures."""
        for run, handle in list(self._queued.items()):
            handle.place  # noqa: B018  drops the job if it has waited too long
            if handle.is_over:
                del self._queued[run]
                if handle.error is not None:
                    self._note_failure(run, handle.error)

    def _note_failure(self, run: str, error: Exception) -> None:
        if not isinstance(error, I4VGenError):  # expected errors need no traceback
            log.error("a queued run failed", exc_info=error)
        self._failed[run] = error
        with suppress(StorageError):  # the failure is then lost on restart
            self._store.fail(run, described(error))
        while len(self._failed) > MAX_FAILURES:
            oldest = next(iter(self._failed))
            del self._failed[oldest]
            with suppress(StorageError):
                self._store.remove(oldest)

    def _job(self, name: str, plan: RunPlan, owner: str, lease: float) -> Job:
        clock = self.budget.clock(plan)

        def start(token: StopToken) -> Generator[None, None, None]:
            self._store.begin(name)
            with self.run_store.workspace() as folder:
                steps = stream_run(
                    plan.runtime, plan.config, None, list(plan.compare), folder / "run", self.metadata
                )
                with closing(steps):
                    try:
                        while True:
                            event, _ = next(steps)
                            clock.follow(event)
                            yield None
                            if token.stopped:
                                return
                    except StopIteration as end:
                        path = end.value
                self.run_store.keep(partial(pack_folder, path.parent), owner, name)
            with suppress(StorageError):  # if this fails, `resume` removes it
                self._store.remove(name)

        return Job(owner, start, clock, attended=False, lease=lease)


def described(error: Exception) -> dict[str, str]:
    """Returns what is stored of an error: its kind, text and, for a `StorageError`, reason."""
    reason = {"reason": error.reason} if isinstance(error, StorageError) else {}
    return {"kind": type(error).__name__, "text": str(error)} | reason


def failure_of(stored: StoredJob) -> Exception:
    """Returns the error of a failed stored job."""
    failure = stored.failure or {}
    kind, text = failure.get("kind", ""), failure.get("text", "")
    if "reason" in failure:
        return StorageError(text, failure["reason"])
    return KNOWN_FAILURES[kind]() if kind in KNOWN_FAILURES else I4VGenError(text or kind)
