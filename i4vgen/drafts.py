"""Folders for what is under way: whole or absent is all that others may find."""

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
    """A new folder in `root`, which is made if need be. It is gone afterwards; where this process is killed,
    `remove_abandoned` sees to that.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f"draft-{_host()}-{os.getpid()}-", dir=root))
    try:
        yield path
    finally:
        rmtree(path, ignore_errors=True)


def remove_abandoned(root: Path) -> None:
    """Removes the drafts of this machine's processes that are no more. In a folder that several machines share,
    those of the others stay: nobody here can tell whether they are at work.
    """
    for draft in root.glob("draft-*"):
        match = _DRAFT.fullmatch(draft.name)
        if not match or match[1] != _host():
            continue
        # A process that has this one's number now was this one before it was started again.
        if int(match[2]) == os.getpid() or not psutil.pid_exists(int(match[2])):
            rmtree(draft, ignore_errors=True)


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname())


def is_draft(name: str) -> bool:
    """Whether a folder of this name is a draft."""
    return _DRAFT.fullmatch(name) is not None
