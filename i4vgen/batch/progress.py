"""How the command line tells how far a batch is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from tqdm import tqdm

from i4vgen.batch.summary import Entry
from i4vgen.batch.tasks import Task
from i4vgen.comparisons import stage_work, work
from i4vgen.events import Event, Progress
from i4vgen.generation_config import Defaults
from i4vgen.listeners import Lines, describe_event, say_json


class BatchListener(Protocol):
    """Is told of everything that happens."""

    def load(self, event: Event) -> None:
        """The model is being downloaded."""
        ...

    def show(self, task: Task, event: Event, file: str | None) -> None:
        """Something has happened in a run. file: what was written for it, if anything."""
        ...

    def finish_run(self, entry: Entry) -> None:
        """A run is over."""
        ...

    def close(self) -> None:
        """No run follows: all are over, or the batch was stopped."""
        ...

    def finish(self, page: str, done: int, failed: int) -> None:
        """All runs are over, so many of them well."""
        ...


def make_batch_listener(
    json_lines: bool, tasks: Sequence[Task], made: int, defaults: Defaults
) -> BatchListener:
    """For a program that reads along, for a terminal, or for a file.

    Args:
        tasks: The runs to be made.
        made: How many were there already.
        defaults: Of the model.
    """
    if json_lines:
        return BatchJsonLines()
    return BatchBar(tasks, made, defaults) if sys.stderr.isatty() else BatchLines(tasks, made)


class BatchJsonLines:
    """Every event as a line of JSON on stdout, with the name of its run."""

    def load(self, event: Event) -> None:
        say_json(**describe_event(event, None))

    def show(self, task: Task, event: Event, file: str | None) -> None:
        say_json(run=task.name, **describe_event(event, file))

    def finish_run(self, entry: Entry) -> None:
        say_json(run=entry.folder, event=entry.status, error=entry.error)

    def close(self) -> None:
        pass

    def finish(self, page: str, done: int, failed: int) -> None:
        say_json(event="done", file=page, done=done, failed=failed)


class BatchLines:
    """A line for every run that is over, on stdout."""

    def __init__(self, tasks: Sequence[Task], made: int) -> None:
        """See `make_batch_listener`."""
        self.over, self.count = made, made + len(tasks)
        self.loading = Lines()
        if made:
            self.say(f"{made} of {self.count} runs are there already")

    def load(self, event: Event) -> None:
        self.loading.show(event, None)

    def show(self, task: Task, event: Event, file: str | None) -> None:
        pass

    def finish_run(self, entry: Entry) -> None:
        self.over += 1
        result = f"{entry.folder}: {entry.error}" if entry.error else entry.folder
        self.say(f"{self.over} of {self.count} {entry.status}: {result}")

    def close(self) -> None:
        pass

    def finish(self, page: str, done: int, failed: int) -> None:
        self.say(f"{done} runs done, {failed} failed: {page}")

    def say(self, text: str) -> None:
        tqdm.write(text)
        sys.stdout.flush()


class BatchBar(BatchLines):
    """The same under a bar that says how long the rest will take, by the work that each run is."""

    def __init__(self, tasks: Sequence[Task], made: int, defaults: Defaults) -> None:
        """See `make_batch_listener`."""
        super().__init__(tasks, made)
        self.tasks = {task.name: task for task in tasks}
        self.defaults = defaults
        self.bar: tqdm | None = None
        self.under_way: dict[str, float] = {}  # the work that is done of each: a cluster makes several at once

    def show(self, task: Task, event: Event, file: str | None) -> None:
        if self.bar is None:  # only now: the time that loading took says nothing about the runs
            total = sum(work(task.config, task.compare, self.defaults) for task in self.tasks.values())
            form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
            self.bar = tqdm(total=total, bar_format=form, dynamic_ncols=True)
        self.bar.set_description_str(f"run {self.over + 1} of {self.count}", refresh=False)
        if isinstance(event, Progress):
            step = stage_work(task.config, task.compare, self.defaults)[event.stage] / event.total
            self.under_way[task.name] = self.under_way.get(task.name, 0.0) + step
            self.bar.update(step)

    def finish_run(self, entry: Entry) -> None:
        task = self.tasks[entry.folder]
        if self.bar is not None:
            whole = work(task.config, task.compare, self.defaults)  # steps may be left out, or made again
            self.bar.update(whole - self.under_way.pop(entry.folder, 0.0))
        super().finish_run(entry)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
