"""What a test needs of the machine: another user, a disk that is soon full, the signal of Ctrl-C."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

OTHER_USER = 54321
"""The number of a user without an account: the kernel needs no name."""


def need_root() -> None:
    """Skips the test where its process may not become another user or mount a disk."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("needs root: run it with sudo, or in a container")


def as_other_user(work: Callable[[], Any]) -> Any:
    """What `work` returns in a fork of this process that belongs to another user.

    All that it needs has to be imported already: the other user may not be able to read the interpreter.

    Raises:
        Exception: What `work` raises.
    """
    need_root()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.setgroups([])
            os.setgid(OTHER_USER)
            os.setuid(OTHER_USER)
            outcome = True, work()
        except BaseException as error:
            traceback.print_exc()
            outcome = False, error
        with suppress(OSError), os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(outcome))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        sent = pipe.read()
    os.waitpid(child, 0)
    worked, value = pickle.loads(sent)
    if not worked:
        raise value
    return value


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that every user may write to, as /tmp is: pytest's own are for this user alone."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o1777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """Mounts a disk of `size` (such as 16k) on a folder."""
    need_root()
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets SIGINT interrupt this process and those that it starts, also where pytest was started with SIGINT
    ignored, as shells start what they run in the background.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
