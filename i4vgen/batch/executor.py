"""Who makes the runs of a batch. Here: this process, one after the other, with one loaded model."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from i4vgen.anchor import Anchor
from i4vgen.batch.tasks import Task
from i4vgen.drafts import draft_folder
from i4vgen.errors import I4VGenError
from i4vgen.events import Event
from i4vgen.making import make_run
from i4vgen.runtime import Runtime

if TYPE_CHECKING:
    from i4vgen.batch.progress import BatchListener

DRAFTS = ".drafts"
"""The folder in a batch's own where runs are until they are finished."""

Listen = Callable[[Event, Path | None], object]
"""Called with every event of a run, and the file that was written for it."""


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

    def __init__(self, runtime: Runtime, out: Path, listener: BatchListener, metadata: bool = True) -> None:
        """
        Args:
            runtime: Of the model of all tasks.
            out: The folder of the batch.
            listener: Is told of everything that happens.
            metadata: See `make_run`.
        """
        self.metadata = metadata
        self.runtime = runtime
        self.out = out
        self.listener = listener

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """See `Executor`. One after the other, in order."""
        for event in self.runtime.stream(lambda _: iter(())) if tasks else ():
            self.listener.load(event)
        for task in tasks:
            yield attempt(task, lambda task=task: self._make(task))

    def _make(self, task: Task) -> None:
        def listen(event: Event, file: Path | None) -> None:
            self.listener.show(task, event, file)

        drafts = self.out / DRAFTS
        make(task, task.choice(), self.runtime, self.out, drafts, listen, self.metadata)


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
    out: Path,
    drafts: Path,
    listen: Listen,
    metadata: bool = True,
) -> None:
    """Makes a run into its folder in `out`. The folder appears when all of it is there, and then it stays:
    where somebody else has made the same run meanwhile, theirs is kept.

    Args:
        anchor: The task's `choice`.
        drafts: A folder on the same disk, for what is not finished.
        metadata: See `make_run`.

    Raises:
        Whatever a run may raise, see `make_run`. Nothing is left of it then.
    """
    folder = out / task.name
    with draft_folder(drafts) as draft:
        made = draft / "run"
        make_run(
            runtime,
            task.config,
            anchor,
            task.compare,
            made,
            lambda event, file: listen(event, file and folder / file.relative_to(made)),
            metadata,
        )
        if folder.exists() and not task.is_made(folder):
            folder.rename(draft / "broken")
        try:
            made.rename(folder)
        except OSError:
            if not task.is_made(folder):
                raise
