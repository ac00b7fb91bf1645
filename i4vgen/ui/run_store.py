"""Finished runs that the server keeps for a while, each a packed file under a name that cannot be guessed."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from i4vgen.runs import SavedRun, open_run

KEEP = 200
"""Maximum number of runs; the oldest are deleted."""

_TOKEN = re.compile(r"[0-9A-Za-z_-]{16}")


class RunStore:
    """A folder of packed runs. Whoever knows a run's token can open it, and nobody can list them."""

    def __init__(self, root: Path | None = None) -> None:
        """root: the folder; by default beside Gradio's own temporary files."""
        base = os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio")
        self.root = root or Path(base, "i4vgen-runs")

    def keep(self, pack: Callable[[Path], object]) -> str:
        """Keeps what `pack(path)` writes. Returns its token."""
        self.root.mkdir(parents=True, exist_ok=True)
        token = secrets.token_urlsafe(12)
        draft = self.root / f"{token}.tmp"
        try:
            pack(draft)
            draft.replace(self.root / f"{token}.zip")
        finally:
            draft.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # another thread is at it too
            by_age = sorted(self.root.glob("*.zip"), key=lambda path: path.stat().st_mtime)
            for path in by_age[:-KEEP]:
                path.unlink(missing_ok=True)
        return token

    def path(self, token: object) -> Path | None:
        """Where a run lies; None if there is none of this name (any more)."""
        # Tokens come from browsers: nothing but a token may become part of a path.
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return None
        path = self.root / f"{token}.zip"
        return path if path.is_file() else None

    def open(self, token: object) -> SavedRun | None:
        """The run of a token, or None."""
        path = self.path(token)
        return path and open_run(path)
