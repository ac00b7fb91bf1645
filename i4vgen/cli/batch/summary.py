"""Writes summary.csv and index.html, which show the state of every run of a batch."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from i4vgen.cli.batch import page
from i4vgen.cli.batch.folder import BatchFolder
from i4vgen.cli.batch.tasks import Refusal, Task
from i4vgen.errors import I4VGenError, StorageError
from i4vgen.storage.run_file import MeasuresFile, RunFile

DONE, FAILED, WAITING = "done", "failed", "waiting"

WRITE_EVERY = 10
"""Minimum number of seconds between updates of the files while the batch is running."""


@dataclass
class SummaryRow:
    """A run of the batch, as shown in the table and on the page.

    Attributes:
        task: The task, or the refusal of an invalid line.
        status: `DONE`, `FAILED` or `WAITING`.
        error: The error message; empty unless the run failed.
        file: The contents of run.json; None unless the run is done.
    """

    task: Task | Refusal
    status: str = WAITING
    error: str = ""
    file: RunFile | None = None

    @property
    def folder(self) -> str:
        return self.task.name if isinstance(self.task, Task) else ""

    @property
    def prompt(self) -> str:
        return self.task.config.prompt if isinstance(self.task, Task) else self.task.prompt

    @property
    def seed(self) -> str:
        return str(self.task.config.seed) if isinstance(self.task, Task) else self.task.seed

    @property
    def measures(self) -> dict[str, MeasuresFile]:
        """The metrics by video name; empty unless the run is done."""
        return self.file.measures if self.file else {}

    @property
    def before(self) -> str:
        """The name of the video to compare I4VGen's with: the first comparison, else the NI-VSDS video."""
        return self.task.compare[0] if isinstance(self.task, Task) and self.task.compare else "ni_vsds"

    @property
    def score(self) -> float | None:
        """The anchor's score from the selecting reward model; None if unknown."""
        if self.file is None or self.file.anchor_index not in self.file.candidate_indices:
            return None
        position = self.file.candidate_indices.index(self.file.anchor_index)
        return next((scores[position] for scores in self.file.scores.values()), None)

    @property
    def gain(self) -> float | None:
        """The first reward model's score of I4VGen's video minus that of the comparison; None without both."""
        rewards = [self.measures[name].rewards for name in ("i4vgen", self.before) if name in self.measures]
        if len(rewards) < 2 or not rewards[0] or self.before == "ni_vsds":
            return None
        first = next(iter(rewards[0]))
        return rewards[0][first] - rewards[1][first]

    def row(self) -> dict[str, Any]:
        """Returns the values of the table's row by column."""
        row = {
            "folder": self.folder,
            "line": self.task.line,
            "prompt": self.prompt,
            "seed": self.seed,
            "status": self.status,
            "error": self.error,
            "anchor": None if self.file is None else self.file.anchor_index,
            "score": self.score,
            "gain": self.gain,
            "seconds": round(sum(self.file.seconds.values()), 3) if self.file else None,
        }
        for video, measures in self.measures.items():
            figures = measures.model_dump(exclude={"steadiness", "rewards"})
            rewards = {f"reward {name}": value for name, value in measures.rewards.items()}
            if measures.steadiness:
                figures["subject_consistency"] = measures.steadiness.subject_consistency
            row |= {f"{video} {name}": value for name, value in (rewards | figures).items()}
        return row


@dataclass
class Summary:
    """The table and the page of a batch.

    Attributes:
        folder: The folder of the batch.
        title: The title of the page.
        entries: All runs, in the order of the prompt file.
    """

    folder: BatchFolder
    title: str
    entries: list[SummaryRow]
    _by_name: dict[str, SummaryRow] = field(init=False)
    _written: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._by_name = {entry.folder: entry for entry in self.entries}

    @classmethod
    def of(cls, folder: BatchFolder, title: str, planned: Sequence[Task | Refusal]) -> Summary:
        """Creates the summary of a planned batch. Refusals count as failed."""
        refused = [each for each in planned if isinstance(each, Refusal)]
        entries = {id(each): SummaryRow(each, FAILED, f"line {each.line}: {each.error}") for each in refused}
        return cls(folder, title, [entries.get(id(each), SummaryRow(each)) for each in planned])

    def count(self, status: str) -> int:
        """Returns the number of runs with a status."""
        return sum(entry.status == status for entry in self.entries)

    def add(self, task: Task, error: str = "", file: RunFile | None = None) -> SummaryRow:
        """Records the end of a run and returns its row.

        Also writes both files if the last time was over `WRITE_EVERY` seconds ago, in case the batch is killed.

        Args:
            task: The task.
            error: The error message; empty if the run succeeded.
            file: The contents of run.json; None to read them from the folder.
        """
        entry = self._by_name[task.name]
        try:
            entry.file = None if error else file or self.folder.open(task.name).file
        except I4VGenError as unread:  # such as a run that another process has removed
            error = str(unread)
        entry.status, entry.error = (FAILED, error) if error else (DONE, "")
        if time.monotonic() - self._written > WRITE_EVERY:
            with suppress(StorageError):  # the next write may succeed
                self.write()
        return entry

    def write(self) -> None:
        """Writes the table and the page, each atomically."""
        self.folder.write("summary.csv", self._table())
        self.folder.write("index.html", page.render(self.title, self.entries))
        self._written = time.monotonic()

    def _table(self) -> str:
        rows = [entry.row() for entry in self.entries]
        text = io.StringIO()
        table = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)))
        table.writeheader()
        for row in rows:
            table.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        return text.getvalue()
