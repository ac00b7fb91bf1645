"""Migrates kept runs of earlier versions, which had no folder per user, so that their links still open."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from i4vgen.storage.private import OWNER_ONLY, app_folder


def adopt_earlier_runs(root: Path) -> None:
    """Moves the runs of earlier versions into the run store under the same names.

    Other users may write to the parent of the earlier folders, so a run is moved only if this user owns it and
    its folders. A run whose name is taken stays where it is.

    Args:
        root: The run store's folder.
    """
    base = app_folder().parent
    for earlier in (base / "i4vgen-runs", base / "i4vgen-studio" / "i4vgen-runs"):
        for path in (*earlier.glob("*.zip"), *earlier.glob("*/*.zip")):
            place = root / path.relative_to(earlier)
            with suppress(OSError):  # another app may be moving them at the same time
                if path.is_file() and _is_mine(path, path.parent, earlier) and not place.exists():
                    place.parent.mkdir(mode=OWNER_ONLY, exist_ok=True)
                    shutil.move(path, place)


def _is_mine(*paths: Path) -> bool:
    """Returns whether this user owns all of the paths and none of them is a link."""
    if any(path.is_symlink() for path in paths):
        return False
    return not hasattr(os, "getuid") or all(path.stat().st_uid == os.getuid() for path in paths)
