"""Reads the files of a run from a folder or a zip file, within size limits."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Protocol

from i4vgen.bounds import MAX_RUN_FILES
from i4vgen.errors import InvalidInputError

RECORD, LOCATOR, ENTRY, MAX_COMMENT = 22, 20, 128, 2**16
"""Bytes of a zip file's end record, of the ZIP64 locator before it, of a directory entry with an 82-byte name,
and a bound on the comment.
"""


class RunSource(Protocol):
    """Reads the files of a run by name."""

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Reads a file by its path relative to the run; returns None if it is missing.

        Raises:
            InvalidInputError: The file has more than `max_bytes`, or cannot be unpacked.
            OSError, StorageError: The file cannot be read.
        """
        ...


class FolderSource:
    """A run in a folder."""

    def __init__(self, path: Path):
        self.path = path

    def read(self, name: str, max_bytes: int) -> bytes | None:
        path = self.path / name
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return bounded(file.read(max_bytes + 1), max_bytes, name)


class ZipSource:
    """A run packed into a zip file, which is never unpacked to the disk.

    Raises:
        InvalidInputError: The zip file lists more files than a run can have (`has_too_many_files`).
    """

    def __init__(self, path: Path):
        self.path = path
        if has_too_many_files(path):  # reading the directory would take seconds and memory
            raise InvalidInputError(f"{path.name} holds too many files to be a run")

    def read(self, name: str, max_bytes: int) -> bytes | None:
        try:
            with zipfile.ZipFile(self.path) as packed:
                if name not in packed.namelist():
                    return None
                with packed.open(name) as file:
                    data = file.read(max_bytes + 1)
        # Damaged, encrypted, or compressed in an unsupported way. Every decompressor has its own errors.
        except Exception as error:
            raise InvalidInputError(f"{name} in {self.path.name} cannot be unpacked ({error})") from None
        return bounded(data, max_bytes, f"{name} in {self.path.name}")


class NoSource:
    """An empty source, for a run that is opened from a recipe."""

    def read(self, name: str, max_bytes: int) -> bytes | None:
        return None


def find_source(path: Path) -> RunSource:
    """Returns the source for a run's folder, run.json or zip file.

    Raises:
        InvalidInputError: The zip file lists more files than a run can have.
    """
    if zipfile.is_zipfile(path):
        return ZipSource(path)
    return FolderSource(path.parent if path.is_file() else path)


def has_too_many_files(path: Path) -> bool:
    """Returns whether a zip file lists more files than a run can have, judging by the size of its directory.

    The size is read from the end record, which is found as in `zipfile`. ZIP64 files always count as having too
    many, because no run needs that format.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_COMMENT - RECORD - LOCATOR))
        tail = file.read()
    at = len(tail) - RECORD
    if not (tail[at:].startswith(b"PK\5\6") and tail.endswith(b"\0\0")):
        at = tail.rfind(b"PK\5\6")
    directory_size = int.from_bytes(tail[at + 12 : at + 16], "little")
    return directory_size > MAX_RUN_FILES * ENTRY or tail[max(0, at - LOCATOR) :].startswith(b"PK\6\7")


def bounded(data: bytes, max_bytes: int, what: str) -> bytes:
    """Returns the data, or raises `InvalidInputError` if it has more than `max_bytes`."""
    if len(data) > max_bytes:
        raise InvalidInputError(f"{what} is too large to be part of a run")
    return data
