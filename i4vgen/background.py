"""Work that goes on in the background of everything else that a process does."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

NICENESS = 10
"""See `man 7 sched`: beside threads of the usual priority, a tenth of a core is left for it."""


class BackgroundThread:
    """Takes the steps of runs on one thread of its own, with a low priority.

    A web server answers on other threads of the same process. While a CPU draws on all of its cores, every
    click would wait for it. And PyTorch keeps worker threads for every thread that it is called from: without
    this, for each of a server's.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "runs", initializer=lower_priority)

    def iterate(self, items: Generator[T, None, None]) -> Generator[T, None, None]:
        """The same items, each made over there, and closed over there."""
        end = object()
        try:
            while (item := self._executor.submit(next, items, end).result()) is not end:
                yield item  # pyright: ignore[reportReturnType]  # next's default is caught above
        finally:
            self._executor.submit(items.close).result()


def lower_priority() -> None:
    """Of the thread that calls this and of those that it starts; elsewhere than on Linux it would be of the
    process.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
