"""Makes the runs of a batch in this process, one after the other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from i4vgen.cli.batch.folder import BatchFolder
from i4vgen.cli.batch.tasks import Task
from i4vgen.errors import I4VGenError
from i4vgen.events import Event
from i4vgen.method.anchor import Anchor
from i4vgen.serving.run_to_folder import run_to_folder
from i4vgen.serving.runtime import Runtime

if TYPE_CHECKING:
    from i4vgen.cli.batch.progress import BatchListener

Listen = Callable[[Event, str | None], object]
"""Callback for each event of a run and its file, relative to the batch's folder, or None without a file."""


@dataclass(frozen=True)
class TaskOutcome:
    """The outcome of a task.

    Attributes:
        task: The task.
        error: The error message; empty if the task succeeded.
    """

    task: Task
    error: str = ""


@dataclass(frozen=True)
class LocalExecutor:
    """Makes the runs in this process.

    Attributes:
        runtime: The runtime of all tasks.
        folder: The folder of the batch.
        listener: Receives all events.
        metadata: Whether to embed the recipe in pictures and videos (`Recipe`).
    """

    runtime: Runtime
    folder: BatchFolder
    listener: BatchListener
    metadata: bool = True

    def run(self, tasks: Sequence[Task]) -> Generator[TaskOutcome, None, None]:
        """Makes the runs of the tasks in order and yields their outcomes.

        Raises:
            I4VGenError: The model cannot be loaded. It is loaded first, so that such an error is not reported
                as the failure of a prompt.
        """
        for event in self.runtime.stream(lambda _: iter(())) if tasks else ():
            self.listener.load(event)
        for task in tasks:
            yield attempt(task, lambda task=task: self._make(task))

    def _make(self, task: Task) -> None:
        def listen(event: Event, file: str | None) -> None:
            self.listener.show(task, event, file and self.folder.locate(file))

        make_run(task, task.choice(), self.runtime, self.folder, listen, self.metadata)


def attempt(task: Task, work: Callable[[], object]) -> TaskOutcome:
    """Calls `work` and returns the outcome of the task. Errors become part of the outcome."""
    try:
        work()
    except I4VGenError as error:
        return TaskOutcome(task, str(error))
    except Exception as error:  # for example a driver error: other runs may succeed
        traceback.print_exc()
        return TaskOutcome(task, f"{type(error).__name__}: {error}")
    return TaskOutcome(task)


def make_run(
    task: Task,
    anchor: Anchor | int | None,
    runtime: Runtime,
    folder: BatchFolder,
    listen: Listen,
    metadata: bool = True,
) -> None:
    """Makes a run and publishes it to the folder of the batch once it is complete.

    If another process has published the same run in the meantime, that run is kept.

    Args:
        task: The run.
        anchor: The result of `task.choice()`.
        runtime: The runtime of the model.
        folder: The folder of the batch.
        listen: Receives every event and its file.
        metadata: Whether to embed the recipe in pictures and videos (`Recipe`).

    Raises:
        I4VGenError: The run fails, or the folder cannot be written. The run then does not count as finished.
    """
    with folder.draft() as draft:
        made = draft / "run"
        run_to_folder(
            runtime,
            task.config,
            anchor,
            task.compare,
            made,
            lambda event, file: listen(event, file and f"{task.name}/{file.relative_to(made).as_posix()}"),
            metadata,
        )
        folder.publish(made, task)
