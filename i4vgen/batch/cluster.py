"""A batch on a cluster: Ray places the workers, restarts them elsewhere when their node dies, and begins the
runs again that were lost with it.
"""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i4vgen.batch.executor import Outcome, attempt
from i4vgen.batch.folder import BatchFolder
from i4vgen.batch.progress import BatchListener
from i4vgen.batch.tasks import Task
from i4vgen.batch.worker import Message, Site, Worker
from i4vgen.errors import I4VGenError, InvalidInputError, ModelError
from i4vgen.runtime import Runtime

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as error:
    raise InvalidInputError(f"--ray needs Ray ({error}): pip install 'i4vgen[cluster]'") from None

CORES = 2
"""Of a worker that computes on the CPU."""

RETRIES = 3
"""How often a run is begun again whose worker died."""

POLL = 0.1
"""Seconds between two looks at what the workers say."""

LOOK_AROUND = 5
"""Seconds between two looks at the cluster, which may have grown."""

ANSWER = 10
"""Seconds within which the head of a cluster must take a connection."""

VISIBLE = 60
"""Seconds that a finished run may take to be seen here: NFS shows late what other machines have written."""

OBJECT_STORE = 100 * 2**20
"""Bytes of Ray's own memory on one machine: pictures to animate are all that goes through it."""


@dataclass(frozen=True)
class Share:
    """What a worker has of its node, in Ray's terms."""

    num_gpus: int
    num_cpus: int

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, float]], device: str | None) -> Share:
        """A GPU with its part of the cores; without GPUs, or where the CPU is asked for, two cores.

        Args:
            nodes: The resources of each.
            device: "cuda", "cpu" or None for the best there is.

        Raises:
            InvalidInputError: The cluster does not have the device.
        """
        if device not in (None, "cuda", "cpu"):
            raise InvalidInputError(f"with --ray, --device is cuda or cpu, not {device}: Ray says which GPU")
        cores = [node.get("CPU", 0) // node["GPU"] for node in nodes if node.get("GPU", 0) >= 1]
        if cores and device != "cpu":
            return cls(1, int(min(cores)))
        if device == "cuda":
            raise InvalidInputError("the cluster has no GPU: use --device cpu, or add nodes that have one")
        most = max((node.get("CPU", 0) for node in nodes), default=0)
        if most < 1:
            raise InvalidInputError("the cluster has no CPU to compute on: start its nodes with --num-cpus")
        return cls(0, min(CORES, int(most)))

    @property
    def device(self) -> str:
        """As torch calls it."""
        return "cuda" if self.num_gpus else "cpu"

    def fits(self, node: Mapping[str, float]) -> int:
        """How many workers a node with these resources has room for."""
        parts = [
            node.get(name, 0) // wanted
            for name, wanted in (("GPU", self.num_gpus), ("CPU", self.num_cpus))
            if wanted
        ]
        return int(min(parts))


@contextmanager
def connect(where: str, device: str | None) -> Iterator[Share]:
    """Connects this process to a cluster, or starts one on this machine.

    Args:
        where: "local", "auto" for the cluster that this machine is a node of, or the HOST:PORT of one.
        device: See `Share.of`.

    Yields:
        What each worker has.

    Raises:
        InvalidInputError: There is no such cluster, or it does not have the device.
    """
    options: dict[str, Any] = {"address": where}
    if where == "local":
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    elif where != "auto" and not re.fullmatch(r"[^/]+:\d{1,5}", where):
        raise InvalidInputError(f"--ray takes local, auto or HOST:PORT of a cluster's head, not {where!r}")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        if ":" in where:  # Ray itself would try for two minutes
            host, port = where.rsplit(":", 1)
            socket.create_connection((host, int(port)), ANSWER).close()
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise InvalidInputError(
            f"there is no Ray cluster to join ({_line(error)}): start one with `ray start --head`,"
            " or take --ray local"
        ) from None
    try:
        yield Share.of(_nodes(), device)
    finally:
        ray.shutdown()


def _nodes() -> list[dict[str, float]]:
    """The resources of every node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class RayExecutor:
    """Makes the runs on all nodes of the cluster that this process is connected to."""

    def __init__(
        self,
        share: Share,
        runtime: Runtime,
        folder: BatchFolder,
        listener: BatchListener,
        metadata: bool = True,
    ) -> None:
        """
        Args:
            share: From `connect`.
            runtime: Of the model of all tasks. It is not loaded here.
            folder: Of the batch, where all nodes can write to.
            listener: Is told of everything that happens.
            metadata: See `make_run`.
        """
        self.share = share
        self.runtime = runtime
        self.folder = folder
        self.listener = listener
        self.metadata = metadata

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """See `Executor`."""
        if not tasks:
            return
        self._tasks = {task.name: task for task in tasks}
        waiting, over = deque(tasks), 0
        with self.folder.shared() as folder, self._crew(folder) as crew:
            while over < len(tasks):
                crew.grow(len(waiting))
                call = crew.wait()
                self._tell(crew.messages())
                if call is None:
                    continue
                if call.task is None:
                    _check_prepared(call)
                else:
                    over += 1
                    yield attempt(call.task, lambda call=call: self._finish(call))
                while waiting:
                    task = waiting.popleft()
                    given = attempt(task, lambda call=call, task=task: crew.give(call.worker, task))
                    if not given.error:
                        break
                    over += 1
                    yield given
                else:  # leaves its place to a worker whose node died with one of the last runs
                    ray.kill(call.worker)

    @contextmanager
    def _crew(self, folder: BatchFolder) -> Iterator[_Crew]:
        runtime, versions = self.runtime, self.runtime.describe()["versions"]
        site = Site(
            runtime.spec, self.share.device, runtime.compiled, versions, Path.cwd(), folder, self.metadata
        )
        crew = _Crew(self.share, site)
        try:
            yield crew
        finally:
            crew.end()

    def _tell(self, messages: Sequence[Message]) -> None:
        for name, event, file in messages:
            if name is None:
                self.listener.load(event)
            else:
                self.listener.show(self._tasks[name], event, file and self.folder.locate(file))

    def _finish(self, call: _Call) -> None:
        """Waits until what the worker has made can be seen here."""
        assert call.task is not None
        _result(call)
        run = f"{call.task.name}/run.json"
        end = time.monotonic() + VISIBLE
        while not self.folder.sees(run):
            if time.monotonic() > end:
                place = self.folder.locate(run)
                raise InvalidInputError(
                    f"{place} was written, but is not to be seen here: give a shared folder"
                )
            time.sleep(POLL)


@dataclass(frozen=True)
class _Call:
    """What a worker (an actor's handle) is doing. task: None while it loads the model."""

    worker: Any
    task: Task | None
    result: ray.ObjectRef


class _Crew:
    """The workers of a batch. Each has one call under way; one that has none is to be killed."""

    def __init__(self, share: Share, site: Site) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._share = share
        self._site = site
        self._post = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._actor = ray.remote(Worker).options(  # type: ignore[attr-defined]
            num_gpus=share.num_gpus, num_cpus=share.num_cpus, max_restarts=-1, max_task_retries=RETRIES
        )
        self._calls: dict[ray.ObjectRef, _Call] = {}
        self._looked = -math.inf

    def grow(self, waiting: int) -> None:
        """Adds workers, if there is room and work for them: to begin with, and when nodes have joined."""
        if not waiting or time.monotonic() - self._looked < LOOK_AROUND:
            return
        self._looked = time.monotonic()
        room = sum(self._share.fits(node) for node in _nodes()) - len(self._calls)
        loading = sum(call.task is None for call in self._calls.values())
        for _ in range(min(room, waiting - loading)):
            worker = self._actor.remote(self._site)
            self._add(worker, None, worker.prepare.remote(self._post, tell=not self._calls))

    def give(self, worker: Any, task: Task) -> None:
        """Lets a worker make a run.

        Raises:
            InvalidInputError: The picture to animate cannot be read.
        """
        self._add(worker, task, worker.make.remote(self._post, task, task.choice()))

    def _add(self, worker: Any, task: Task | None, result: ray.ObjectRef) -> None:
        self._calls[result] = _Call(worker, task, result)

    def wait(self) -> _Call | None:
        """A call that is over; None if for a moment there is none."""
        over, _ = ray.wait(list(self._calls), timeout=POLL)
        return self._calls.pop(over[0]) if over else None

    def messages(self) -> list[Message]:
        """What the workers have said since."""
        return self._post.get_nowait_batch(self._post.qsize())

    def end(self) -> None:
        """Kills all workers, and waits until they write no more."""
        for call in self._calls.values():
            ray.kill(call.worker)
        if self._calls:
            ray.wait(list(self._calls), num_returns=len(self._calls), timeout=VISIBLE)
        self._post.shutdown(force=True)


def _result(call: _Call) -> None:
    """Waits for a call.

    Raises:
        Exception: What the worker raised.
        I4VGenError: It died, each time.
    """
    try:
        ray.get(call.result)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        reason = f"its worker died {RETRIES + 1} times, for want of memory perhaps ({_line(error)})"
        raise I4VGenError(reason) from None


def _check_prepared(call: _Call) -> None:
    """Raises I4VGenError if the worker cannot work."""
    try:
        _result(call)
    except I4VGenError:
        raise
    except Exception as error:
        reason = f"a worker cannot start ({_line(error)}): is i4vgen installed on all nodes?"
        raise ModelError(reason) from error


def _line(error: Exception) -> str:
    """The first line of its message."""
    return str(error).strip().partition("\n")[0]
