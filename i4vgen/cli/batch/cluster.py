"""Runs a batch on a Ray cluster.

Ray places the workers. If a node dies, Ray restarts its workers elsewhere and repeats their unfinished runs.
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

from i4vgen.cli.batch.executor import TaskOutcome, attempt
from i4vgen.cli.batch.folder import BatchFolder
from i4vgen.cli.batch.progress import BatchListener
from i4vgen.cli.batch.tasks import Task
from i4vgen.cli.batch.worker import Message, Site, Worker
from i4vgen.errors import I4VGenError, InvalidInputError, ModelError
from i4vgen.serving.runtime import Runtime

try:
    import ray
    from ray.exceptions import RayActorError, RayError, RayTaskError
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as error:
    raise InvalidInputError(f"--ray needs Ray ({error}): pip install 'i4vgen[cluster]'") from None

CORES = 2
"""Maximum number of cores of a CPU worker."""

RETRIES = 3
"""Maximum number of times a run is repeated after its worker dies."""

POLL = 0.1
"""Seconds between checks for finished calls, new messages and visible runs."""

CHECK_NODES_EVERY = 5
"""Seconds between checks for new nodes."""

CONNECT_TIMEOUT = 10
"""Timeout in seconds for connecting to the head of a cluster."""

VISIBLE_WITHIN = 60
"""Timeout in seconds for a finished run to become visible here: NFS shows files of other machines late."""

OBJECT_STORE = 100 * 2**20
"""Size in bytes of Ray's object store in local mode. It holds only the pictures to animate."""


@dataclass(frozen=True)
class Share:
    """The resources of a worker, as Ray counts them.

    Attributes:
        num_gpus: Number of GPUs: 1, or 0 to run on the CPU.
        num_cpus: Number of cores.
    """

    num_gpus: int
    num_cpus: int

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, float]], device: str | None) -> Share:
        """Returns one GPU with its share of the cores, or up to `CORES` cores to run on the CPU.

        Args:
            nodes: The resources of each node.
            device: "cuda", "cpu" or None for the best available.

        Raises:
            InvalidInputError: The device is not one of these, or the cluster does not have it.
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
        """The torch device that workers use."""
        return "cuda" if self.num_gpus else "cpu"

    def fits(self, node: Mapping[str, float]) -> int:
        """Returns how many workers fit on a node with these resources."""
        wanted = {"GPU": self.num_gpus, "CPU": self.num_cpus}
        return int(min(node.get(name, 0) // count for name, count in wanted.items() if count))


@contextmanager
def connect(where: str, device: str | None) -> Iterator[Share]:
    """Connects this process to a cluster, or starts one on this machine.

    Args:
        where: "local" to start a cluster, "auto" to join the one this machine belongs to, or HOST:PORT of a
            cluster's head.
        device: "cuda", "cpu" or None for the best available.

    Yields:
        The resources of each worker.

    Raises:
        InvalidInputError: An argument is invalid, or the cluster cannot be reached or lacks the device.
    """
    options: dict[str, Any] = {"address": where}
    if where == "local":
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    elif where != "auto" and not re.fullmatch(r"[^/]+:\d{1,5}", where):
        raise InvalidInputError(f"--ray takes local, auto or HOST:PORT of a cluster's head, not {where!r}")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        if ":" in where:  # fail early: Ray itself tries for two minutes
            host, port = where.rsplit(":", 1)
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
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
    """Returns the resources of every live node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@dataclass
class RayExecutor:
    """Makes runs on all nodes of the connected cluster.

    Attributes:
        share: The resources of each worker, from `connect`.
        runtime: The runtime of all tasks. Its model is not loaded in this process.
        folder: The folder of the batch, writable from all nodes.
        listener: Receives the events of all runs, with empty arrays, and of the first worker's loading.
        metadata: Whether to embed the recipe in pictures and videos (`Recipe`).
    """

    share: Share
    runtime: Runtime
    folder: BatchFolder
    listener: BatchListener
    metadata: bool = True

    def run(self, tasks: Sequence[Task]) -> Generator[TaskOutcome, None, None]:
        """Makes the runs of the tasks and yields their outcomes, in the order of completion.

        Raises:
            I4VGenError: A worker cannot start or load the model.
            StorageError: The folder cannot be written to.
        """
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
                else:  # frees the resources for workers that restart after their node died
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
        """Waits until the run of a finished call is visible on this machine.

        Raises:
            Exception: The error of the call (`_result`).
            InvalidInputError: The run is not visible within `VISIBLE_WITHIN` seconds.
            StorageError: The folder cannot be read.
        """
        assert call.task is not None
        _result(call)
        run = f"{call.task.name}/run.json"
        end = time.monotonic() + VISIBLE_WITHIN
        while not self.folder.sees(run):
            if time.monotonic() > end:
                place = self.folder.locate(run)
                raise InvalidInputError(f"{place} was written, but is not visible here: give a shared folder")
            time.sleep(POLL)


@dataclass(frozen=True)
class _Call:
    """A call to a worker.

    Attributes:
        worker: The actor handle.
        task: The run to make; None for the call that loads the model.
        result: The reference to the call's result.
    """

    worker: Any
    task: Task | None
    result: ray.ObjectRef


class _Crew:
    """The workers of a batch, each with one pending call."""

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
        """Starts workers on free nodes, including nodes that joined later.

        Args:
            waiting: The number of runs without a worker.
        """
        if not waiting or time.monotonic() - self._looked < CHECK_NODES_EVERY:
            return
        self._looked = time.monotonic()
        room = sum(self._share.fits(node) for node in _nodes()) - len(self._calls)
        loading = sum(call.task is None for call in self._calls.values())
        for _ in range(min(room, waiting - loading)):
            worker = self._actor.remote(self._site)
            self._add(worker, None, worker.prepare.remote(self._post, tell=not self._calls))

    def give(self, worker: Any, task: Task) -> None:
        """Assigns a run to a worker.

        Raises:
            InvalidInputError: The picture to animate cannot be read.
        """
        self._add(worker, task, worker.make.remote(self._post, task, task.choice()))

    def _add(self, worker: Any, task: Task | None, result: ray.ObjectRef) -> None:
        self._calls[result] = _Call(worker, task, result)

    def wait(self) -> _Call | None:
        """Removes and returns a finished call; None if none finishes within `POLL` seconds."""
        over, _ = ray.wait(list(self._calls), timeout=POLL)
        return self._calls.pop(over[0]) if over else None

    def messages(self) -> list[Message]:
        """Returns the workers' new messages."""
        return self._post.get_nowait_batch(self._post.qsize())

    def end(self) -> None:
        """Kills the workers with a pending call and waits for these calls to end."""
        for call in self._calls.values():
            ray.kill(call.worker)
        if self._calls:
            ray.wait(list(self._calls), num_returns=len(self._calls), timeout=VISIBLE_WITHIN)
        self._post.shutdown(force=True)


def _result(call: _Call) -> None:
    """Waits for a call to finish.

    Raises:
        Exception: The error raised in the worker.
        ModelError: The worker cannot start.
        I4VGenError: The worker died at every attempt.
    """
    try:
        ray.get(call.result)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        if isinstance(error, RayActorError) and error.actor_init_failed:
            raise _cannot_start(str(error).strip().splitlines()[-1]) from None  # after the worker's traceback
        reason = f"its worker died {RETRIES + 1} times, perhaps out of memory ({_line(error)})"
        raise I4VGenError(reason) from None


def _check_prepared(call: _Call) -> None:
    """Checks that the worker has loaded the model.

    Raises:
        I4VGenError: The model cannot be loaded, or the worker cannot start.
    """
    try:
        _result(call)
    except I4VGenError:
        raise
    except Exception as error:
        raise _cannot_start(_line(error)) from error


def _cannot_start(reason: str) -> ModelError:
    return ModelError(f"a worker cannot start ({reason}): is i4vgen installed on all nodes?")


def _line(error: Exception) -> str:
    """Returns the first line of an error's message."""
    return str(error).strip().partition("\n")[0]
