"""A batch's folder behind a URL: a bucket, a server, whatever fsspec reaches. Few of these rename folders, so
runs are made on a disk and put there file by file, run.json last: what has none is not finished.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations
from fsspec.utils import get_protocol

from i4vgen.batch.folder import BatchFolder
from i4vgen.batch.tasks import Task
from i4vgen.drafts import draft_folder, remove_abandoned
from i4vgen.errors import I4VGenError, InvalidInputError, StorageError
from i4vgen.media import is_whole_file
from i4vgen.run_source import bounded
from i4vgen.runs import SavedRun, read_run

RUN = "run.json"
"""The file that a finished run has."""

TABLE = "summary.csv"
"""The file that a batch has before it gives work to others."""

PATTERN = "*?[]"
"""Characters that make some of fsspec's functions look for several files."""

BLOCK = 2**16
"""Bytes that are fetched at a time. Of a video little more is read: how long its parts are."""

MANY = 16
"""Threads that read at a time: they mostly wait."""

T = TypeVar("T")


@dataclass(frozen=True)
class UrlFolder(BatchFolder):
    """A folder on one of fsspec's file systems.

    Attributes:
        url: Of the folder.
    """

    url: str

    @classmethod
    def at(cls, url: str) -> UrlFolder:
        """The folder, if its file system can be had.

        Raises:
            InvalidInputError: The protocol is unknown, the package for it is missing, or the URL is a pattern.
            StorageError: The server does not answer.
        """
        folder = cls(url)
        _ = folder._place
        return folder

    def __str__(self) -> str:
        """The URL, without a password."""
        return re.sub(r"(?<![:/])/+$", "", re.sub(r"//[^/@]*@", "//", self.url))

    def __reduce__(self) -> tuple[type[UrlFolder], tuple[str]]:
        """Every process connects by itself."""
        return UrlFolder, (self.url,)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The file system, and the folder's path on it."""
        protocol = get_protocol(self.url)
        if protocol not in known_implementations:
            raise InvalidInputError(
                f"{protocol}:// is no protocol that fsspec knows: give a folder, or a URL such as"
                " s3://bucket/study, gs://bucket/study or sftp://host/study"
            )
        if set(PATTERN) & set(self.url):
            raise InvalidInputError(f"{self} holds one of the characters {PATTERN}: give a folder without")
        with self._telling("open"):
            try:
                fs, path = fsspec.url_to_fs(self.url)
            except ImportError as error:
                module = known_implementations[protocol]["class"].partition(".")[0]
                package = f"'fsspec[{protocol}]'" if module == "fsspec" else module
                raise InvalidInputError(
                    f"{protocol}:// needs another package ({error}): pip install {package}"
                ) from None
        if isinstance(fs, LocalFileSystem):
            fs = LocalFileSystem(auto_mkdir=True)  # as buckets do
        return fs, path.rstrip("/")

    @property
    def _fs(self) -> Any:
        return self._place[0]

    def _path(self, name: str) -> str:
        return f"{self._place[1]}/{name}"

    @contextmanager
    def _telling(self, action: str) -> Iterator[None]:
        """Says in a line what went wrong: every protocol has exceptions of its own."""
        try:
            yield
        except I4VGenError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
            raise StorageError(
                f"cannot {action} {self} ({reason}): check the address and what your credentials allow"
            ) from None

    def locate(self, name: str) -> str:
        """See `BatchFolder`."""
        return f"{self}/{name}"

    @property
    def at_once(self) -> int:
        """See `BatchFolder`. File systems that are not asynchronous may have one connection for all threads."""
        return MANY if self._fs.async_impl else 1

    def prepare(self) -> None:
        """See `BatchFolder`. Folders come into being with the files in them."""

    def tidy(self) -> None:
        """See `BatchFolder`. Drafts are elsewhere."""

    def draft(self) -> AbstractContextManager[Path]:
        """See `BatchFolder`. Among the temporary files of this machine. A process has one at a time."""
        root = Path(tempfile.gettempdir())
        remove_abandoned(root)
        return draft_folder(root)

    def publish(self, run: Path, task: Task) -> None:
        """See `BatchFolder`."""
        if self.find(task):
            return
        files = [file for file in run.rglob("*") if file.is_file() and file != run / RUN]
        targets = [self._path(f"{task.name}/{file.relative_to(run).as_posix()}") for file in files]
        last = self._path(f"{task.name}/{RUN}")
        with self._telling("write to"):
            if self._fs.exists(last):  # of a broken run: gone before anything else of it changes
                self._fs.rm_file(last)
            self._fs.put([str(file) for file in files], targets)
        self._put(run / RUN, f"{task.name}/{RUN}")

    def write(self, name: str, text: str) -> None:
        """See `BatchFolder`."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)  # by its name, buckets tell browsers what it is
            file.write_text(text, encoding="utf-8", newline="")
            self._put(file, name)

    def _put(self, file: Path, name: str) -> None:
        """Puts a file so that nobody reads half of it."""
        folder, _, last = self._path(name).rpartition("/")
        with self._telling("write to"):
            if self._fs.async_impl:  # an object store: what is in it is whole
                self._fs.put_file(str(file), f"{folder}/{last}")
            else:
                self._fs.put_file(str(file), f"{folder}/.{last}")
                self._fs.mv(f"{folder}/.{last}", f"{folder}/{last}")

    def sees(self, name: str) -> bool:
        """See `BatchFolder`."""
        with self._telling("read"):
            self._fs.invalidate_cache()
            return self._fs.exists(self._path(name))

    def shared(self) -> AbstractContextManager[BatchFolder]:
        """See `BatchFolder`."""
        return nullcontext(self)

    def is_shared(self) -> bool:
        """See `BatchFolder`."""
        return self.sees(TABLE)

    def open(self, run: str) -> SavedRun:
        """See `BatchFolder`."""
        return read_run(UrlSource(self, run), self.locate(run))

    def is_whole(self, name: str) -> bool:
        """See `BatchFolder`."""
        return bool(self.read(name, is_whole_file))

    def read(self, name: str, read: Callable[[BinaryIO], T]) -> T | None:
        """What is read of a file; None if it is not there."""
        with self._telling("read"):
            try:
                with self._fs.open(self._path(name), "rb", block_size=BLOCK) as file:
                    return read(file)
            except FileNotFoundError:
                return None


@dataclass(frozen=True)
class UrlSource:
    """A run behind a URL."""

    folder: UrlFolder
    run: str

    def read(self, name: str, most: int) -> bytes | None:
        """See `RunSource`."""
        data = self.folder.read(f"{self.run}/{name}", lambda file: file.read(most + 1))
        return None if data is None else bounded(data, most, name)
