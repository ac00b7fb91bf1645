"""Who makes the runs of a batch. Here: this process, one after the other, with one loaded model."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from i4vgen.batch.tasks import Task
from i4vgen.drafts import draft_folder
from i4vgen.errors import I4VGenError
from i4vgen.events import Event
from i4vgen.making import make_run
from i4vgen.runtime import Runtime

DRAFTS = ".drafts"
"""The folder in a batch's own where runs are until they are finished."""

Listen = Callable[[Task, Event, Path | None], object]
"""Called with every event of a task, and the file that was written for it."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task. error: why it failed; empty if it did not."""

    task: Task
    error: str = ""


class Executor(Protocol):
    """Makes runs. What is made of a task is the same whoever makes it (`make`)."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Makes these runs in any order. Yields each when it is over."""
        ...


class LocalExecutor:
    """Makes the runs in this process."""

    def __init__(self, runtime: Runtime, out: Path, listen: Listen, metadata: bool = True) -> None:
        """
        Args:
            runtime: Of the model of all tasks.
            out: The folder of the batch.
            listen: Is told of everything that happens.
            metadata: See `make_run`.
        """
        self.metadata = metadata
        self.runtime = runtime
        self.out = out
        self.listen = listen

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """See `Executor`. One after the other, in order."""
        for task in tasks:
            try:
                make(task, self.runtime, self.out, self.listen, self.metadata)
                yield Outcome(task)
            except I4VGenError as error:
                yield Outcome(task, str(error))
            except Exception as error:  # of a driver, say: the other runs may fare better
                traceback.print_exc()
                yield Outcome(task, f"{type(error).__name__}: {error}")


def make(
    task: Task, runtime: Runtime, out: Path, listen: Listen = lambda *_: None, metadata: bool = True
) -> None:
    """Makes a run into its folder in `out`. The folder appears when all of it is there.

    metadata: see `make_run`.

    Raises:
        Whatever a run may raise, see `make_run`. Nothing is left of it then.
    """
    folder = out / task.name
    with draft_folder(out / DRAFTS) as draft:
        made = draft / "run"
        make_run(
            runtime,
            task.config,
            task.choice(),
            task.compare,
            made,
            lambda event, file: listen(task, event, file and folder / file.relative_to(made)),
            metadata,
        )
        if folder.exists():  # broken, or it would not have been made again
            folder.rename(draft / "earlier")
        made.rename(folder)
