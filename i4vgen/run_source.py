"""Where a run is read from: a folder, or a zip file. Nothing of it is read that is larger than it may be."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

from i4vgen.bounds import MAX_RUN_FILES
from i4vgen.errors import InvalidInputError

RECORD, ENTRY, MAX_COMMENT = 22, 128, 2**16
"""Bytes in a zip file: its last record, an entry of its list with a name of 80, the comment at the end."""


class RunSource(Protocol):
    """Files of a run, by name."""

    def read(self, name: str, most: int) -> bytes | None:
        """One file; None if it is not there.

        Args:
            name: Relative to the run.
            most: The number of bytes that it may have.

        Raises:
            InvalidInputError: It has more, or cannot be unpacked.
        """
        ...


class FolderSource:
    """A run in a folder."""

    def __init__(self, path: Path):
        self.path = path

    def read(self, name: str, most: int) -> bytes | None:
        """See `RunSource`."""
        path = self.path / name
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return bounded(file.read(most + 1), most, name)


class ZipSource:
    """A run packed into a zip file. Nothing is ever unpacked to the disk."""

    def __init__(self, path: Path):
        """Raises `InvalidInputError` for a file that lists more files than a run has."""
        self.path = path
        if is_overlong(path):  # reading the list takes seconds and memory
            raise InvalidInputError(f"{path.name} holds too many files to be a run")

    def read(self, name: str, most: int) -> bytes | None:
        """See `RunSource`."""
        try:
            with zipfile.ZipFile(self.path) as packed:
                if name not in packed.namelist():
                    return None
                with packed.open(name) as file:
                    return bounded(file.read(most + 1), most, f"{name} in {self.path.name}")
        # Damaged, encrypted, or packed in a way that Python cannot undo.
        except (zipfile.BadZipFile, RuntimeError, zlib.error, EOFError) as error:
            raise InvalidInputError(f"{name} in {self.path.name} cannot be unpacked ({error})") from None


class NoSource:
    """Of a run of which nothing is left but its recipe."""

    def read(self, name: str, most: int) -> bytes | None:
        """See `RunSource`."""
        return None


def find_source(path: Path) -> RunSource:
    """The run that a folder, a run.json or a zip file belongs to."""
    if zipfile.is_zipfile(path):
        return ZipSource(path)
    return FolderSource(path.parent if path.is_file() else path)


def is_overlong(path: Path) -> bool:
    """Whether a zip file lists more files than a run has, by the size that its last record gives for the list.

    The record is looked for where `zipfile` looks. The longer kind of record (ZIP64) is for more files or bytes
    than any run has.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_COMMENT - RECORD))
        tail = file.read()
    at = len(tail) - RECORD
    if not (tail[at:].startswith(b"PK\5\6") and tail.endswith(b"\0\0")):
        at = tail.rfind(b"PK\5\6")
    list_size = int.from_bytes(tail[at + 12 : at + 16], "little")
    return list_size > MAX_RUN_FILES * ENTRY or tail[max(0, at - 20) :].startswith(b"PK\6\7")


def bounded(data: bytes, most: int, what: str) -> bytes:
    """The data, if it has at most so many bytes; InvalidInputError otherwise."""
    if len(data) > most:
        raise InvalidInputError(f"{what} is too large to be part of a run")
    return data
