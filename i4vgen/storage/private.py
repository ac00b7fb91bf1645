"""Folders that other users of the machine cannot access."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from i4vgen.errors import StorageError, reason_of

OWNER_ONLY = 0o700
"""The permissions of a folder that only its owner may use."""


def app_folder() -> Path:
    """Returns the folder of this user's apps, in $GRADIO_TEMP_DIR or the machine's temporary folder.

    Except on Windows, its name contains the user's id, because users may share the parent folder. If
    $GRADIO_TEMP_DIR already has this name, it is the folder itself.
    """
    name = f"i4vgen-studio-{os.getuid()}" if hasattr(os, "getuid") else "i4vgen-studio"
    base = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    return base if base.name == name else base / name


def make_private(folder: Path) -> Path:
    """Creates a folder if necessary, closes it to other users, and returns it.

    Raises:
        StorageError: The folder cannot be created, or it or a link at its path belongs to another user.
    """
    remedy = "set GRADIO_TEMP_DIR to a folder of your own"
    try:
        folder.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
        owners = {folder.lstat().st_uid, folder.stat().st_uid}  # the owners of a link and of its target
    except OSError as error:
        reason = reason_of(error)
        raise StorageError(f"cannot use the folder {folder} ({reason}): {remedy}", reason) from None
    if hasattr(os, "getuid") and owners != {os.getuid()}:
        reason = "belongs to another user"
        raise StorageError(f"the folder {folder} {reason}: {remedy}", f"a folder {reason}")
    with suppress(OSError):  # some file systems have no permissions
        folder.chmod(OWNER_ONLY)
    return folder
