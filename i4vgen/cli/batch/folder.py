"""The folder of a batch: on a local disk or any file system that fsspec supports, such as a bucket.

Object stores cannot rename folders, so runs are made on a local disk and uploaded file by file. run.json is
uploaded last: a run without it is unfinished. File names are relative to the folder, such as summary.csv or
a-rocket-rising-7-1a2b3c4d/run.json.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations
from fsspec.utils import get_protocol

from i4vgen.cli.batch.tasks import Task
from i4vgen.errors import I4VGenError, InvalidInputError, ModelError, StorageError
from i4vgen.media import is_whole_file
from i4vgen.storage.drafts import draft_folder, remove_abandoned
from i4vgen.storage.run_file import RunFile
from i4vgen.storage.run_place import check_folder_name, check_room
from i4vgen.storage.run_source import bounded
from i4vgen.storage.runs import SavedRun, read_run

TABLE, PAGE = "summary.csv", "index.html"
"""File names of the table and the page."""

TABLE_BEGINS = b"folder,line,prompt,"
"""First bytes of a batch's table, to tell it from other files of that name."""

RUN = "run.json"
"""The file that marks a finished run."""

TOKEN = ".shared"
"""Temporary file with a random token, by which machines verify that they share the folder."""

PATTERN = "*?[]"
"""Characters that some fsspec functions interpret as glob patterns."""

BLOCK = 2**16
"""Block size of reads in bytes. Kept small because checking a video reads only its box headers."""

MANY = 16
"""Number of concurrent reads. The threads mostly wait for the server."""

T = TypeVar("T")


@dataclass(frozen=True)
class BatchFolder:
    """The runs, table and page of a batch. Can be pickled.

    Methods that access the folder raise `StorageError` if it cannot be reached, read or written, and
    `InvalidInputError` for the reasons that `find_folder` lists.

    Attributes:
        place: A path or an fsspec URL.
        token: The content of the `TOKEN` file while the folder is shared; else empty.
    """

    place: str
    token: str = ""

    def __str__(self) -> str:
        """Returns the place without credentials or trailing slashes."""
        return re.sub(r"(?<![:/])/+$", "", re.sub(r"//[^/@]*@", "//", self.place))

    def __reduce__(self) -> tuple[type[BatchFolder], tuple[str, str]]:
        """Pickles without the connection: each process opens its own."""
        return BatchFolder, (self.place, self.token)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system and the folder's path on it.

        Raises:
            InvalidInputError: The protocol is unknown, its package is missing, or the URL contains a glob
                character (`PATTERN`).
            StorageError: The file system cannot be opened.
        """
        if "://" not in self.place:
            return LocalFileSystem(auto_mkdir=True), str(Path(self.place).absolute())
        protocol = get_protocol(self.place)
        if protocol not in known_implementations:
            raise InvalidInputError(
                f"{protocol}:// is not a protocol that fsspec knows: give a folder, or a URL such as"
                " s3://bucket/study, gs://bucket/study or sftp://host/study"
            )
        if set(PATTERN) & set(self.place):
            raise InvalidInputError(f"{self} holds one of the characters {PATTERN}: give a folder without")
        with self._telling("open"):
            try:
                fs, path = fsspec.url_to_fs(self.place)
            except ImportError as error:
                module = known_implementations[protocol]["class"].partition(".")[0]
                package = f"'fsspec[{protocol}]'" if module == "fsspec" else module
                raise InvalidInputError(
                    f"{protocol}:// needs another package ({error}): pip install {package}"
                ) from None
        if isinstance(fs, LocalFileSystem):
            fs = LocalFileSystem(auto_mkdir=True)  # creates folders as needed, like buckets
        return fs, path.rstrip("/")

    @property
    def _fs(self) -> Any:
        return self._opened[0]

    def _path(self, name: str) -> str:
        return f"{self._opened[1]}/{name}"

    @contextmanager
    def _telling(self, action: str) -> Iterator[None]:
        """Converts exceptions of any protocol to a one-line `StorageError`."""
        try:
            yield
        except I4VGenError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
            remedy = "check the address and what your credentials allow"
            if "://" not in self.place:
                remedy = "choose another folder, or make room on the disk"
            raise StorageError(f"cannot {action} {self} ({reason}): {remedy}", reason) from None

    def locate(self, name: str) -> str:
        """Returns the path or URL of a file in the folder."""
        return f"{self}/{name}"

    @property
    def on_disk(self) -> Path | None:
        """The local path of the folder; None for remote file systems."""
        return Path(self._opened[1]) if isinstance(self._fs, LocalFileSystem) else None

    def check(self, needed: int) -> None:
        """Checks a local folder for free space and for files of other programs. Skips remote folders.

        Args:
            needed: The size of the missing runs in bytes.

        Raises:
            InvalidInputError: The path is a file or named like one, or the folder contains a table or page of
                another program.
            StorageError: The folder cannot be read, or the disk has too little space.
        """
        if not (path := self.on_disk):
            return
        check_folder_name(path if "://" in self.place else Path(self.place))
        beginning = self.read(TABLE, lambda file: file.read(len(TABLE_BEGINS)))
        if beginning != TABLE_BEGINS and (beginning is not None or (path / PAGE).exists()):
            raise InvalidInputError(
                f"{self} holds a {TABLE} or {PAGE} of something else: give --out another folder"
            )
        check_room(path, needed)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Creates a temporary local folder for a run and removes it afterwards."""
        root = Path(tempfile.gettempdir())
        remove_abandoned(root)
        with draft_folder(root) as path:
            yield path

    def publish(self, run: Path, task: Task) -> None:
        """Uploads a finished run from its draft, run.json last: an interrupted upload counts as unfinished.

        If another process has published the same run in the meantime, that run is kept.
        """
        if self.find(task):
            return
        files = [file for file in run.rglob("*") if file.is_file() and file != run / RUN]
        targets = [self._path(f"{task.name}/{file.relative_to(run).as_posix()}") for file in files]
        last = self._path(f"{task.name}/{RUN}")
        with self._telling("write to"):
            if self._fs.exists(last):  # from a damaged run: removed before its other files change
                self._fs.rm_file(last)
            self._fs.put([str(file) for file in files], targets)
        self._put(run / RUN, f"{task.name}/{RUN}")

    def write(self, name: str, text: str) -> None:
        """Writes a file atomically."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)  # buckets derive the content type from the name
            file.write_text(text, encoding="utf-8", newline="")
            self._put(file, name)

    def _put(self, file: Path, name: str) -> None:
        """Uploads a file atomically."""
        folder, _, last = self._path(name).rpartition("/")
        with self._telling("write to"):
            if self._fs.async_impl:  # object stores replace objects atomically
                self._fs.put_file(str(file), f"{folder}/{last}")
            else:
                self._fs.put_file(str(file), f"{folder}/.{last}")
                self._fs.mv(f"{folder}/.{last}", f"{folder}/{last}")

    def sees(self, name: str) -> bool:
        """Returns whether a file is visible on this machine, bypassing caches."""
        with self._telling("read"):
            self._fs.invalidate_cache()
            if self._fs.exists(self._path(name)):
                return True
            if self.on_disk:
                os.scandir(self.on_disk).close()  # makes NFS refresh its directory cache
            return False

    @contextmanager
    def shared(self) -> Iterator[BatchFolder]:
        """Marks the folder with a random token for the duration of the context.

        Other machines read the token to verify that they see the same folder (`check_shared`).

        Yields:
            A `BatchFolder` with the token and, for a local folder, its absolute path. Send it to the other
            machines.
        """
        token = uuid4().hex
        self.write(TOKEN, token)
        try:
            yield BatchFolder(str(self.on_disk or self.place), token)
        finally:
            with suppress(StorageError), self._telling("write to"):
                self._fs.rm_file(self._path(TOKEN))

    def check_shared(self) -> None:
        """Verifies that this machine sees the shared folder.

        Raises:
            InvalidInputError: This machine has another folder there, or does not support the file system.
            StorageError: The folder cannot be read.
        """
        here = socket.gethostname()
        try:
            token = self.read(TOKEN, lambda file: file.read(len(self.token)))
        except (InvalidInputError, StorageError) as error:
            raise type(error)(f"{here}: {error}") from None
        if token != self.token.encode():
            raise InvalidInputError(
                f"{self} is not the same folder on {here}: give one that all nodes of the cluster share"
            )

    def open(self, run: str) -> SavedRun:
        """Opens a run of the batch.

        Raises:
            InvalidInputError: The run is missing or cannot be read.
        """
        return read_run(BatchSource(self, run), self.locate(run))

    def read(self, name: str, read: Callable[[BinaryIO], T]) -> T | None:
        """Returns the result of `read` on the opened file; None if the file does not exist."""
        with self._telling("read"):
            try:
                with self._fs.open(self._path(name), "rb", block_size=BLOCK) as file:
                    return read(file)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def find(self, task: Task) -> RunFile | None:
        """Returns the run.json of a task's run; None if that run is missing, different or incomplete."""
        try:
            file = self.open(task.name).file
        except (InvalidInputError, ModelError):
            return None
        videos = [f"{task.name}/{name}.mp4" for name in task.videos]
        is_whole = task.asks_for(file) and all(self.read(video, is_whole_file) for video in videos)
        return file if is_whole else None

    def find_all(self, tasks: Sequence[Task]) -> list[RunFile | None]:
        """Returns the result of `find` for each task."""
        # Synchronous file systems may share one connection among threads.
        with ThreadPoolExecutor(MANY if self._fs.async_impl else 1) as pool:
            return list(pool.map(self.find, tasks))


def find_folder(place: str) -> BatchFolder:
    """Returns the folder at a path or URL, after opening its file system.

    Raises:
        InvalidInputError: The protocol is unknown, its package is missing, or the URL contains a glob character
            (`PATTERN`).
        StorageError: The file system cannot be opened, for example because its server cannot be reached.
    """
    folder = BatchFolder(place)
    _ = folder._opened
    return folder


@dataclass(frozen=True)
class BatchSource:
    """A `RunSource` for a run in the folder of a batch."""

    folder: BatchFolder
    run: str

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Reads a file of the run; None if it does not exist.

        Raises:
            InvalidInputError: The file has more than `max_bytes` bytes.
            StorageError: The folder cannot be read.
        """
        data = self.folder.read(f"{self.run}/{name}", lambda file: file.read(max_bytes + 1))
        return None if data is None else bounded(data, max_bytes, name)
