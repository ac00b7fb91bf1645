"""Temporary folders for unfinished work, so that other processes only see finished results."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

import psutil

_DRAFT = re.compile(r"draft-(.+)-(\d+)-\w+")


@contextmanager
def draft_folder(root: Path) -> Iterator[Path]:
    """Yields a new folder in `root` and deletes it afterwards.

    If this process is killed, `remove_abandoned` deletes the folder later.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f"draft-{_host()}-{os.getpid()}-", dir=root))
    try:
        yield path
    finally:
        rmtree(path, ignore_errors=True)


def remove_abandoned(root: Path) -> None:
    """Deletes the drafts of this machine's dead processes.

    Must be called while this process has no draft in `root`. Drafts of other machines that share the folder are
    kept, because their processes may be alive.
    """
    for draft in root.glob("draft-*"):
        match = _DRAFT.fullmatch(draft.name)
        if not match or match[1] != _host():
            continue
        # This process has no draft in `root`, so one with its process id is from a dead process.
        if int(match[2]) == os.getpid() or not psutil.pid_exists(int(match[2])):
            rmtree(draft, ignore_errors=True)


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname())


def is_draft(name: str) -> bool:
    """Returns whether a folder's name is that of a draft."""
    return _DRAFT.fullmatch(name) is not None
