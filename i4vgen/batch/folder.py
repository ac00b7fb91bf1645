"""The folder of a batch, wherever it is. Only here and in url_folder.py is it known what kind of folder that
is; the others name what is in it from there: RUN/run.json, summary.csv.
"""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from i4vgen.batch.tasks import Task
from i4vgen.drafts import draft_folder, remove_abandoned
from i4vgen.errors import InvalidInputError, ModelError, StorageError
from i4vgen.media import is_whole
from i4vgen.run_file import RunFile
from i4vgen.runs import SavedRun, open_run

DRAFTS = ".drafts"
"""The folder in a batch's own where runs are until they are finished."""


class BatchFolder(ABC):
    """Holds the runs of a batch, its table and its page. Plain data that pickles.

    Raises from every method: OSError, if the folder is on a disk; StorageError, if it is not.
    """

    @property
    def at_once(self) -> int:
        """How many threads may read here."""
        return 1

    @abstractmethod
    def locate(self, name: str) -> str:
        """Where people find what is called so in here."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes the folder if need be, and clears away what killed processes have left."""

    @abstractmethod
    def tidy(self) -> None:
        """Clears away what was only needed while runs were made."""

    @abstractmethod
    def draft(self) -> AbstractContextManager[Path]:
        """A new folder on a disk of this machine, to make a run in. It is gone afterwards."""

    @abstractmethod
    def publish(self, run: Path, task: Task) -> None:
        """Puts a finished run here, where nobody takes a part of it for the whole. Where somebody else has made
        the same run meanwhile, theirs stays.

        Args:
            run: A folder in a draft.
        """

    @abstractmethod
    def write(self, name: str, text: str) -> None:
        """Writes a file, at once: whoever reads it meanwhile reads the one before."""

    @abstractmethod
    def sees(self, name: str) -> bool:
        """Whether a file is there, as far as this machine can tell by now."""

    @abstractmethod
    def shared(self) -> AbstractContextManager[BatchFolder]:
        """The folder for other machines to write to, while this lasts."""

    @abstractmethod
    def is_shared(self) -> bool:
        """Whether this machine has the folder that another one calls `shared`."""

    @abstractmethod
    def open(self, run: str) -> SavedRun:
        """Opens a run.

        Raises:
            InvalidInputError: There is none that can be read.
        """

    @abstractmethod
    def is_whole(self, name: str) -> bool:
        """See `media.is_whole`."""

    def find(self, task: Task) -> RunFile | None:
        """What the run.json of a task's run says; None unless this very run is there, whole."""
        try:
            file = self.open(task.name).file
        except (InvalidInputError, ModelError):
            return None
        whole = task.asks_for(file) and all(self.is_whole(f"{task.name}/{name}.mp4") for name in task.videos)
        return file if whole else None

    def find_all(self, tasks: Sequence[Task]) -> list[RunFile | None]:
        """See `find`, for each."""
        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(self.find, tasks))

    def check_shared(self) -> None:
        """Raises InvalidInputError or StorageError if this machine does not share the folder."""
        here = socket.gethostname()
        try:
            shared = self.is_shared()
        except (InvalidInputError, StorageError) as error:
            raise type(error)(f"{here}: {error}") from None
        if not shared:
            raise InvalidInputError(
                f"{self} is not the same folder on {here}: give one that all nodes of the cluster share"
            )


@dataclass(frozen=True)
class DiskFolder(BatchFolder):
    """A folder on a disk, which renames folders: a run appears with all that it has.

    Attributes:
        path: Of the folder.
        drafts: A folder on the same disk, for what is not finished.
    """

    path: Path
    drafts: Path

    def __str__(self) -> str:
        return str(self.path)

    def locate(self, name: str) -> str:
        """See `BatchFolder`."""
        return str(self.path / name)

    def prepare(self) -> None:
        """See `BatchFolder`."""
        self.path.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.drafts)

    def tidy(self) -> None:
        """See `BatchFolder`."""
        with suppress(OSError):  # not if another batch is at work here
            self.drafts.rmdir()

    def draft(self) -> AbstractContextManager[Path]:
        """See `BatchFolder`."""
        return draft_folder(self.drafts)

    def publish(self, run: Path, task: Task) -> None:
        """See `BatchFolder`."""
        folder = self.path / task.name
        if folder.exists() and not self.find(task):
            folder.rename(run.with_name("broken"))
        try:
            run.rename(folder)
        except OSError:
            if not self.find(task):
                raise

    def write(self, name: str, text: str) -> None:
        """See `BatchFolder`."""
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.path / f".{name}"
        draft.write_text(text, encoding="utf-8", newline="")
        draft.replace(self.path / name)

    def sees(self, name: str) -> bool:
        """See `BatchFolder`. NFS shows late what other machines have written."""
        if (self.path / name).exists():
            return True
        os.scandir(self.path).close()  # makes NFS ask its server again
        return False

    @contextmanager
    def shared(self) -> Iterator[BatchFolder]:
        """See `BatchFolder`. The drafts of all machines go when this ends, also those of machines that died."""
        with draft_folder(self.drafts) as drafts:
            yield DiskFolder(self.path.resolve(), drafts.resolve())

    def is_shared(self) -> bool:
        """See `BatchFolder`."""
        return self.drafts.is_dir()

    def open(self, run: str) -> SavedRun:
        """See `BatchFolder`."""
        return open_run(self.path / run)

    def is_whole(self, name: str) -> bool:
        """See `BatchFolder`."""
        return is_whole(self.path / name)


def find_folder(place: str) -> BatchFolder:
    """The folder that is meant.

    Args:
        place: A path, or a URL for fsspec.

    Raises:
        InvalidInputError: It is a URL that means nothing here.
        StorageError: It is one that does not answer.
    """
    if "://" not in place:
        return DiskFolder(Path(place), Path(place, DRAFTS))
    from i4vgen.batch.url_folder import UrlFolder

    return UrlFolder.at(place)
