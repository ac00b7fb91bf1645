"""Exits the process without waiting for its threads."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil


def leave(status: int) -> NoReturn:
    """Exits the process immediately, without waiting for its threads.

    Removes unfinished downloads first, because the hub client cannot resume them. Windows keeps them, because
    it cannot remove open files. `sys.exit` would wait for threads that cannot be interrupted: downloads and
    running models.

    Args:
        status: The exit status.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":  # Windows cannot remove open files
        with suppress(psutil.Error, OSError):
            for file in psutil.Process().open_files():
                if file.path.endswith(".incomplete"):
                    Path(file.path).unlink(missing_ok=True)
    os._exit(status)
