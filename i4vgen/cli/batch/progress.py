"""Listeners that print the progress of a batch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tqdm import tqdm

from i4vgen.cli.batch.summary import SummaryRow
from i4vgen.cli.batch.tasks import Task
from i4vgen.cli.listeners import Lines, describe_event, say_json
from i4vgen.cli.output import say
from i4vgen.events import Event, Progress
from i4vgen.method.comparisons import stage_work
from i4vgen.serving.runtime import Runtime


class BatchListener:
    """Base class of batch listeners. Ignores all events."""

    def load(self, event: Event) -> None:
        """Handles an event of loading the model."""

    def show(self, task: Task, event: Event, file: str | None) -> None:
        """Handles an event of a run and the location of its file, if one was written."""

    def finish_run(self, entry: SummaryRow) -> None:
        """Handles the end of a run."""

    def close(self) -> None:
        """Closes the progress display when the batch has ended or was stopped."""

    def finish(self, page: str, done: int, failed: int) -> None:
        """Handles the end of the batch.

        Args:
            page: The location of index.html.
            done: The number of finished runs.
            failed: The number of failed runs.
        """


def make_batch_listener(json_lines: bool, tasks: Sequence[Task], made: int, runtime: Runtime) -> BatchListener:
    """Returns a listener that prints the progress of a batch as JSON lines or as text.

    Text output includes a progress bar if stderr is a terminal.

    Args:
        json_lines: Whether to print events as JSON lines.
        tasks: The runs to make.
        made: The number of runs of the batch that are already finished.
        runtime: The runtime of the model.
    """
    if json_lines:
        return BatchJsonLines()
    return BatchBar(tasks, made, runtime) if sys.stderr.isatty() else BatchLines(tasks, made)


class BatchJsonLines(BatchListener):
    """Prints each event as a JSON line, with the name of its run unless the model is loading."""

    def load(self, event: Event) -> None:
        say_json(**describe_event(event, None))

    def show(self, task: Task, event: Event, file: str | None) -> None:
        say_json(run=task.name, **describe_event(event, file))

    def finish_run(self, entry: SummaryRow) -> None:
        say_json(run=entry.folder, event=entry.status, error=entry.error)

    def finish(self, page: str, done: int, failed: int) -> None:
        say_json(event="done", file=page, done=done, failed=failed)


class BatchLines(BatchListener):
    """Prints plain text, with a line for each run that is done or has failed."""

    def __init__(self, tasks: Sequence[Task], made: int) -> None:
        """Creates the listener.

        Args:
            tasks: The runs to make.
            made: The number of runs that were finished before.
        """
        self.over, self.count = made, made + len(tasks)
        self.loading = Lines()
        if made:
            self.say(f"{made} of {self.count} runs are there already")

    def load(self, event: Event) -> None:
        self.loading.show(event, None)

    def finish_run(self, entry: SummaryRow) -> None:
        self.over += 1
        result = f"{entry.folder}: {entry.error}" if entry.error else entry.folder
        self.say(f"{self.over} of {self.count} {entry.status}: {result}")

    def finish(self, page: str, done: int, failed: int) -> None:
        self.say(f"{done} runs done, {failed} failed: {page}")

    def say(self, text: str) -> None:
        with tqdm.external_write_mode():
            say(text)


class BatchBar(BatchLines):
    """Adds a progress bar that estimates the remaining time from the work of the runs."""

    def __init__(self, tasks: Sequence[Task], made: int, runtime: Runtime) -> None:
        """Creates the listener.

        Args:
            tasks: The runs to make.
            made: The number of runs that were finished before.
            runtime: The runtime of the model.
        """
        super().__init__(tasks, made)
        defaults, has_reward = runtime.defaults, runtime.has_reward
        self.stages = {task.name: stage_work(task.config, task.compare, defaults, has_reward) for task in tasks}
        self.bar: tqdm | None = None
        self.under_way: dict[str, float] = {}  # work done per run: a cluster makes several at once

    def show(self, task: Task, event: Event, file: str | None) -> None:
        if self.bar is None:  # created here to exclude the loading time
            total = sum(sum(stages.values()) for stages in self.stages.values())
            form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
            self.bar = tqdm(total=total, bar_format=form, dynamic_ncols=True)
        self.bar.set_description_str(f"run {self.over + 1} of {self.count}", refresh=False)
        if isinstance(event, Progress):
            step = self.stages[task.name][event.stage] / event.total
            self.under_way[task.name] = self.under_way.get(task.name, 0.0) + step
            self.bar.update(step)

    def finish_run(self, entry: SummaryRow) -> None:
        if self.bar is not None:
            whole = sum(self.stages[entry.folder].values())  # steps may be skipped or repeated
            self.bar.update(whole - self.under_way.pop(entry.folder, 0.0))
        super().finish_run(entry)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
