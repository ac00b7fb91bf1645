"""Who makes the runs of a batch. Here: this process, one after the other, with one loaded model."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from i4vgen.anchor import Anchor
from i4vgen.batch.folder import BatchFolder
from i4vgen.batch.tasks import Task
from i4vgen.errors import I4VGenError
from i4vgen.events import Event
from i4vgen.making import make_run
from i4vgen.runtime import Runtime

if TYPE_CHECKING:
    from i4vgen.batch.progress import BatchListener

Listen = Callable[[Event, str | None], object]
"""Called with every event of a run, and the name in the batch's folder of the file that was written for it."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task. error: why it failed; empty if it did not."""

    task: Task
    error: str = ""


class Executor(Protocol):
    """Makes runs. What is made of a task is the same whoever makes it (`make`)."""

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """Makes these runs in any order. Yields each when it is over.

        Raises:
            InvalidInputError, ModelError, OutOfMemoryError: The model cannot be loaded. That is found out
                first, before anything can be blamed on a prompt.
        """
        ...


class LocalExecutor:
    """Makes the runs in this process."""

    def __init__(
        self, runtime: Runtime, folder: BatchFolder, listener: BatchListener, metadata: bool = True
    ) -> None:
        """
        Args:
            runtime: Of the model of all tasks.
            folder: Of the batch.
            listener: Is told of everything that happens.
            metadata: See `make_run`.
        """
        self.metadata = metadata
        self.runtime = runtime
        self.folder = folder
        self.listener = listener

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """See `Executor`. One after the other, in order."""
        for event in self.runtime.stream(lambda _: iter(())) if tasks else ():
            self.listener.load(event)
        for task in tasks:
            yield attempt(task, lambda task=task: self._make(task))

    def _make(self, task: Task) -> None:
        def listen(event: Event, file: str | None) -> None:
            self.listener.show(task, event, file and self.folder.locate(file))

        make(task, task.choice(), self.runtime, self.folder, listen, self.metadata)


def attempt(task: Task, work: Callable[[], object]) -> Outcome:
    """What becomes of a task by doing this for it."""
    try:
        work()
    except I4VGenError as error:
        return Outcome(task, str(error))
    except Exception as error:  # of a driver, say: the other runs may fare better
        traceback.print_exc()
        return Outcome(task, f"{type(error).__name__}: {error}")
    return Outcome(task)


def make(
    task: Task,
    anchor: Anchor | int | None,
    runtime: Runtime,
    folder: BatchFolder,
    listen: Listen,
    metadata: bool = True,
) -> None:
    """Makes a run into the folder of a batch, where it appears when all of it is there, and then stays: where
    somebody else has made the same run meanwhile, theirs is kept.

    Args:
        anchor: The task's `choice`.
        metadata: See `make_run`.

    Raises:
        Whatever a run may raise, see `make_run`, and `BatchFolder`. The run is not there then.
    """
    with folder.draft() as draft:
        made = draft / "run"
        make_run(
            runtime,
            task.config,
            anchor,
            task.compare,
            made,
            lambda event, file: listen(event, file and f"{task.name}/{file.relative_to(made).as_posix()}"),
            metadata,
        )
        folder.publish(made, task)
