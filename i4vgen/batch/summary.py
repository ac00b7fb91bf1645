"""summary.csv and index.html: what has become of every run so far."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from i4vgen.batch import page
from i4vgen.batch.folder import BatchFolder
from i4vgen.batch.tasks import Refusal, Task
from i4vgen.errors import StorageError
from i4vgen.run_file import MeasuresFile, RunFile

DONE, FAILED, WAITING = "done", "failed", "waiting"

EVERY = 10
"""Seconds between two summaries while runs go on."""


@dataclass
class Entry:
    """A run of the batch.

    Attributes:
        task: What was asked for.
        status: One of `DONE`, `FAILED` and `WAITING`.
        error: Why it failed.
        file: What its run.json says, once it is done.
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
        """The figures of its videos."""
        return self.file.measures if self.file else {}

    @property
    def before(self) -> str:
        """The name of the video that I4VGen's is compared with: without any, what it was after NI-VSDS."""
        return self.task.compare[0] if isinstance(self.task, Task) and self.task.compare else "ni_vsds"

    @property
    def score(self) -> float | None:
        """Of the anchor, by the reward model that selects."""
        if self.file is None or self.file.anchor_index not in self.file.candidate_indices:
            return None
        position = self.file.candidate_indices.index(self.file.anchor_index)
        return next((scores[position] for scores in self.file.scores.values()), None)

    @property
    def gain(self) -> float | None:
        """By how much the reward of I4VGen's video is above that of what it is compared with."""
        rewards = [self.measures[name].rewards for name in ("i4vgen", self.before) if name in self.measures]
        if len(rewards) < 2 or not rewards[0] or self.before == "ni_vsds":
            return None
        first = next(iter(rewards[0]))
        return rewards[0][first] - rewards[1][first]

    def row(self) -> dict[str, Any]:
        """Its line of the table, by column."""
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
            figures = measures.model_dump()
            rewards = {f"reward {name}": value for name, value in figures.pop("rewards").items()}
            row |= {f"{video} {name}": value for name, value in (rewards | figures).items()}
        return row


@dataclass
class Summary:
    """The table and the page of a batch, in its folder.

    Attributes:
        folder: Of the batch.
        title: Of the page.
        entries: All runs, in the order of the file.
    """

    folder: BatchFolder
    title: str
    entries: list[Entry]
    _by_name: dict[str, Entry] = field(init=False)
    _written: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._by_name = {entry.folder: entry for entry in self.entries}

    @classmethod
    def of(cls, folder: BatchFolder, title: str, planned: Sequence[Task | Refusal]) -> Summary:
        """Before anything is made."""
        refused = [each for each in planned if isinstance(each, Refusal)]
        entries = {id(each): Entry(each, FAILED, f"line {each.line}: {each.error}") for each in refused}
        return cls(folder, title, [entries.get(id(each), Entry(each)) for each in planned])

    def count(self, status: str) -> int:
        """How many runs have this status."""
        return sum(entry.status == status for entry in self.entries)

    def add(self, task: Task, error: str = "", file: RunFile | None = None) -> Entry:
        """A run is over. Writes the summary if the last one is some time ago, so that a batch that is killed
        leaves one too.

        Args:
            file: What its run.json says, if that has been read already.
        """
        entry = self._by_name[task.name]
        try:
            entry.file = None if error else file or self.folder.open(task.name).file
        except StorageError as unread:
            error = str(unread)
        entry.status, entry.error = (FAILED, error) if error else (DONE, "")
        if time.monotonic() - self._written > EVERY:
            with suppress(StorageError):  # the next one may do better
                self.write()
        return entry

    def write(self) -> None:
        """Writes both files, each at once."""
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
