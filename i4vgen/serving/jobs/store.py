"""Stores unattended jobs on disk until they succeed or are removed, so that they survive restarts."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from i4vgen.errors import StorageError

TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT UNIQUE NOT NULL,
    owner TEXT NOT NULL,
    request TEXT NOT NULL,
    added REAL NOT NULL,
    begun INTEGER NOT NULL DEFAULT 0,
    failure TEXT
)
"""

FIELDS = "name, owner, request, added, begun, failure"
SELECT = f"SELECT {FIELDS} FROM jobs ORDER BY position"


@dataclass(frozen=True)
class StoredJob:
    """A job on disk.

    Attributes:
        name: The name of the job and of its run.
        owner: The visitor who submitted the job.
        request: The requested run as JSON types.
        added: The time of acceptance in seconds since the epoch.
        begun: The number of times the job was started.
        failure: The error as JSON types; None unless the job has failed.
    """

    name: str
    owner: str
    request: Mapping[str, Any]
    added: float
    begun: int
    failure: Mapping[str, str] | None


class JobStore:
    """An SQLite database that one server process locks for its lifetime.

    Other servers in the same folder use other files. A new server takes over the jobs of terminated ones.
    """

    def __init__(self, folder: Path) -> None:
        """Opens an unlocked database in a folder and takes over the jobs of terminated servers.

        Args:
            folder: The folder; created if missing.

        Raises:
            StorageError: The folder cannot be written.
        """
        self._lock = threading.Lock()
        with _storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.path, self._database = next(_free_files(folder))
            for path in sorted(folder.glob("jobs-*.sqlite")):
                if path != self.path and (other := _open(path)) is not None:
                    self._take_over(other)
                    other.close()
                    for part in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
                        part.unlink(missing_ok=True)

    def _take_over(self, other: sqlite3.Connection) -> None:
        rows = other.execute(SELECT).fetchall()
        with self._database:
            self._database.executemany(f"INSERT OR IGNORE INTO jobs ({FIELDS}) VALUES (?, ?, ?, ?, ?, ?)", rows)

    def add(self, name: str, owner: str, request: Mapping[str, Any]) -> None:
        """Adds a job.

        Raises:
            StorageError: The database cannot be written.
        """
        values = name, owner, json.dumps(request), time.time()
        self._write("INSERT INTO jobs (name, owner, request, added) VALUES (?, ?, ?, ?)", *values)

    def begin(self, name: str) -> None:
        """Increments the number of starts of a job.

        Raises:
            StorageError: The database cannot be written.
        """
        self._write("UPDATE jobs SET begun = begun + 1 WHERE name = ?", name)

    def fail(self, name: str, failure: Mapping[str, str]) -> None:
        """Records the error of a failed job.

        Raises:
            StorageError: The database cannot be written.
        """
        self._write("UPDATE jobs SET failure = ? WHERE name = ?", json.dumps(failure), name)

    def remove(self, name: str) -> None:
        """Removes a finished or cancelled job.

        Raises:
            StorageError: The database cannot be written.
        """
        self._write("DELETE FROM jobs WHERE name = ?", name)

    def jobs(self) -> list[StoredJob]:
        """Returns all jobs in the order of submission.

        Raises:
            StorageError: The database cannot be read.
        """
        with self._lock, _storage_errors(self.path):
            rows = self._database.execute(SELECT).fetchall()
        return [
            StoredJob(name, owner, json.loads(request), added, begun, failure and json.loads(failure))
            for name, owner, request, added, begun, failure in rows
        ]

    def close(self) -> None:
        """Closes the database and releases it for another server."""
        with self._lock:
            self._database.close()

    def _write(self, statement: str, *values: object) -> None:
        with self._lock, _storage_errors(self.path), self._database:
            self._database.execute(statement, values)


def _free_files(folder: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """Opens or creates databases that no other process has locked, one at a time.

    Yields:
        The path and the connection.
    """
    for number in count():
        path = folder / f"jobs-{number}.sqlite"
        if (database := _open(path)) is not None:
            yield path, database


def _open(path: Path) -> sqlite3.Connection | None:
    """Opens or creates a database and locks it; returns None if another process has locked it.

    A damaged or foreign file is renamed and replaced by a new database.
    """
    database = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        # Exclusive locks are released when the process ends, even by a crash.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(TABLE)
    except sqlite3.OperationalError as error:
        database.close()
        if "locked" in str(error):
            return None
        raise
    except sqlite3.DatabaseError:  # a damaged or foreign file
        database.close()
        with suppress(FileNotFoundError):
            path.rename(path.with_suffix(".damaged"))
        return _open(path)
    return database


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Converts database and disk errors to a `StorageError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"{path.name} cannot be read or written ({error}): make room on the disk, or move it away",
            reason=getattr(error, "strerror", None) or str(error),
        ) from error
