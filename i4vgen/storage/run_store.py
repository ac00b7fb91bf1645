"""Stores finished runs on the server for a while, each as a zip file with an unguessable name."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from i4vgen.errors import InvalidInputError
from i4vgen.storage.drafts import draft_folder, is_draft, remove_abandoned
from i4vgen.storage.earlier_store import adopt_earlier_runs
from i4vgen.storage.private import OWNER_ONLY, app_folder, make_private
from i4vgen.storage.run_file import RunFile
from i4vgen.storage.run_place import writing_to
from i4vgen.storage.runs import SavedRun, open_run

KEEP = 200
"""Maximum number of runs."""

KEEP_BYTES = 4 * 2**30
"""Maximum size of all runs together, in bytes."""

SAFE_FOR = 3600
"""Seconds before a run may be deleted to make room for another visitor's run."""

_TOKEN = re.compile(r"[0-9A-Za-z_-]{16}")


class StoreFullError(InvalidInputError):
    """There is no room for another run, and no run may be deleted."""


@dataclass(frozen=True)
class KeptRun:
    """A stored run.

    Attributes:
        path: The path of the zip file.
        owner: The visitor who made the run; empty if unknown.
        size: Size in bytes.
        made_at: Creation time in seconds since the epoch.
    """

    path: Path
    owner: str
    size: int
    made_at: float


class RunStore:
    """A folder of packed runs, each identified by a secret token. Visitors cannot list the runs.

    The store holds at most `KEEP` runs and `KEEP_BYTES` bytes. When it is full, adding a run deletes the oldest
    runs of the owner whose runs take the most space, but never another owner's run from the last `SAFE_FOR`
    seconds. Each owner has a subfolder; runs of unknown owners are in the root.

    Creating the store deletes unfinished runs of killed servers.

    Args:
        root: The folder, which is made private to this user; None for one in `app_folder`, to which the runs
            of earlier versions are moved.

    Raises:
        StorageError: The folder cannot be created, or belongs to another user.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = make_private(root or make_private(app_folder()) / "i4vgen-runs")
        remove_abandoned(self.root)
        if root is None:
            adopt_earlier_runs(self.root)

    def workspace(self) -> AbstractContextManager[Path]:
        """Returns a context manager that yields a folder for an unfinished run (`draft_folder`)."""
        return draft_folder(self.root)

    @staticmethod
    def new_token() -> str:
        """Returns a new unguessable name for a run."""
        return secrets.token_urlsafe(12)

    def keep(self, pack: Callable[[Path], object], owner: str = "", token: str | None = None) -> str:
        """Stores a run and returns its token.

        Args:
            pack: The function that writes the packed run to a path.
            owner: The visitor who made the run, in letters and digits; empty if unknown.
            token: A token from `new_token`; None creates one.

        Raises:
            StoreFullError: There is no room, and no run may be deleted.
            StorageError: The run cannot be written.
        """
        token = token or self.new_token()
        with writing_to(self.root), self.workspace() as folder:
            draft = folder / f"{token}.zip"
            pack(draft)
            self._make_room(draft.stat().st_size, owner)
            place = self.root / owner / draft.name
            place.parent.mkdir(mode=OWNER_ONLY, exist_ok=True)
            draft.replace(place)
        return token

    def path(self, token: object) -> Path | None:
        """Returns the path of the zip file with a token; None if there is none."""
        # Tokens come from browsers and become part of a path.
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return None
        return next((run.path for run in self.runs(f"{token}.zip")), None)

    def open(self, token: object) -> SavedRun | None:
        """Opens the run with a token; returns None if there is none.

        Raises:
            InvalidInputError: The run cannot be read.
        """
        path = self.path(token)
        return path and open_run(path)

    def find(self, recipe: RunFile, owner: str) -> str | None:
        """Returns the token of the owner's latest run that a recipe belongs to; None if there is none.

        Other owners' runs are skipped, because recipes, unlike tokens, can be guessed.
        """
        for run in reversed(self.runs()):
            with suppress(InvalidInputError, OSError):  # the run may be deleted meanwhile
                if run.owner == owner and recipe.belongs_to(open_run(run.path).file):
                    return run.path.stem
        return None

    def runs(self, name: str = "*.zip") -> list[KeptRun]:
        """Returns the runs whose file names match a glob pattern, the oldest first."""
        runs = []
        for path in (*self.root.glob(f"*/{name}"), *self.root.glob(name)):
            owner = path.parent.name if path.parent != self.root else ""
            with suppress(FileNotFoundError):  # another thread may delete the run meanwhile
                status = path.stat()
                if not is_draft(owner):
                    runs.append(KeptRun(path, owner, status.st_size, status.st_mtime))
        return sorted(runs, key=lambda run: run.made_at)

    def _make_room(self, size: int, owner: str) -> None:
        """Deletes runs until another one fits: the oldest of the owner with the most bytes first.

        Recent runs of other owners are kept.

        Args:
            size: The size of the new run, in bytes.
            owner: The owner of the new run.

        Raises:
            StoreFullError: There is no room, and no run may be deleted.
        """
        runs, deleted = self.runs(), []
        while len(runs) >= KEEP or sum(run.size for run in runs) + size > KEEP_BYTES:
            safe_since = time.time() - SAFE_FOR
            shares: dict[str, int] = {}
            for run in runs:
                shares[run.owner] = shares.get(run.owner, 0) + run.size
            deletable = [run for run in runs if run.owner == owner or run.made_at < safe_since]
            if not deletable:
                raise StoreFullError("the run store is full")
            run = max(deletable, key=lambda run: (shares[run.owner], -run.made_at))
            runs.remove(run)
            deleted.append(run)
        for run in deleted:
            run.path.unlink(missing_ok=True)
