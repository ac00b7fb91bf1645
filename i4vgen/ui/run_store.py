"""Finished runs that the server keeps for a while, each a packed file under a name that cannot be guessed."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from i4vgen.drafts import draft_folder, is_draft, remove_abandoned
from i4vgen.errors import InvalidInputError
from i4vgen.run_file import RunFile
from i4vgen.runs import SavedRun, open_run
from i4vgen.ui import strings

KEEP = 200
"""Maximum number of runs."""

KEEP_BYTES = 4 * 2**30
"""Maximum size of all runs together."""

SAFE_FOR = 3600
"""Seconds for which a run is not deleted to make room for another visitor's."""

NOBODY = "nobody"

_TOKEN = re.compile(r"[0-9A-Za-z_-]{16}")


@dataclass(frozen=True)
class KeptRun:
    """A run on the disk.

    Attributes:
        owner: Whose run it is, as `RunStore.keep` was told.
        size: In bytes.
        made_at: Seconds since the epoch.
    """

    path: Path
    owner: str
    size: int
    made_at: float


class RunStore:
    """A folder of packed runs. Whoever knows a run's token can open it, and nobody can list them.

    Every visitor has a folder of their own in it, so that one who makes very many runs pushes out their own
    first.
    """

    def __init__(self, root: Path | None = None) -> None:
        """Removes what a server that was killed left half-done.

        root: the folder; by default beside Gradio's own temporary files.
        """
        base = os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio")
        self.root = root or Path(base, "i4vgen-runs")
        remove_abandoned(self.root)

    def workspace(self) -> AbstractContextManager[Path]:
        """A folder for a run under way. It is gone afterwards, at the latest when a server starts again."""
        return draft_folder(self.root)

    @staticmethod
    def new_token() -> str:
        """A name for a run that nobody can guess."""
        return secrets.token_urlsafe(12)

    def keep(self, pack: Callable[[Path], object], owner: str = NOBODY, token: str | None = None) -> str:
        """Keeps what `pack(path)` writes.

        Args:
            pack: Writes a packed run to a path.
            owner: Whose it is: letters and digits.
            token: Its name, of `new_token`; by default a new one.

        Returns:
            Its token.

        Raises:
            InvalidInputError: There is no room, and no run that may go to make some.
        """
        token = token or self.new_token()
        with self.workspace() as folder:
            draft = folder / f"{token}.zip"
            pack(draft)
            self._make_room(draft.stat().st_size, owner)
            place = self.root / owner / draft.name
            place.parent.mkdir(exist_ok=True)
            draft.replace(place)
        return token

    def path(self, token: object) -> Path | None:
        """Where a run lies; None if there is none of this name (any more)."""
        # Tokens come from browsers: nothing but a token may become part of a path.
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return None
        return next((run.path for run in self.runs(f"{token}.zip")), None)

    def open(self, token: object) -> SavedRun | None:
        """The run of a token, or None."""
        path = self.path(token)
        return path and open_run(path)

    def find(self, recipe: RunFile, owner: str) -> str | None:
        """The token of the owner's latest run that a file with this recipe comes from, or None.

        Of the owner's alone: a recipe can be guessed, a token cannot.
        """
        for run in reversed(self.runs()):
            with suppress(InvalidInputError, OSError):  # it may go while it is looked at
                if run.owner == owner and recipe.is_of(open_run(run.path).file):
                    return run.path.stem
        return None

    def runs(self, name: str = "*.zip") -> list[KeptRun]:
        """All runs whose files are named like this, the oldest first."""
        found = []
        for path in (*self.root.glob(f"*/{name}"), *self.root.glob(name)):  # version 0.1 had no folders
            owner = path.parent.name if path.parent != self.root else NOBODY
            with suppress(FileNotFoundError):  # another thread is at it too
                about = path.stat()
                if not is_draft(owner):
                    found.append(KeptRun(path, owner, about.st_size, about.st_mtime))
        return sorted(found, key=lambda run: run.made_at)

    def _make_room(self, size: int, owner: str) -> None:
        """Deletes runs until one more of this size and owner fits: of whoever has most, the oldest first."""
        runs, going = self.runs(), []
        while len(runs) >= KEEP or sum(run.size for run in runs) + size > KEEP_BYTES:
            safe_since = time.time() - SAFE_FOR
            shares: dict[str, int] = {}
            for run in runs:
                shares[run.owner] = shares.get(run.owner, 0) + run.size
            may_go = [run for run in runs if run.owner == owner or run.made_at < safe_since]
            if not may_go:
                raise InvalidInputError(strings.NO_ROOM)
            run = max(may_go, key=lambda run: (shares[run.owner], -run.made_at))
            runs.remove(run)
            going.append(run)
        for run in going:
            run.path.unlink(missing_ok=True)
