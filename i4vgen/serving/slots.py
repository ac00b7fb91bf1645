"""Limits the number of concurrent clicks, in total and per visitor."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from i4vgen.errors import I4VGenError

RUNNING = 16
"""Maximum number of running clicks: a picture can use half a gigabyte of memory."""

RUNNING_PER_VISITOR = 4

WAITING = 256
"""Maximum number of waiting and running clicks."""

WAITING_PER_VISITOR = 100
"""Maximum number of waiting and running clicks of one visitor. Manual clicking does not reach it."""


class TooManyClicksError(I4VGenError):
    """Too many clicks are pending for this visitor or in total."""


class Slots:
    """Distributes the slots for running clicks among visitors. Must be used in a single event loop."""

    def __init__(self) -> None:
        self._present: Counter[str] = Counter()
        self._all = asyncio.Semaphore(RUNNING)
        self._own: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(RUNNING_PER_VISITOR)
        )

    @asynccontextmanager
    async def hold(self, visitor: str, turn: asyncio.Lock) -> AsyncIterator[None]:
        """Holds one of the visitor's slots. A click waiting for its turn does not occupy a slot.

        Args:
            visitor: The visitor who clicked.
            turn: A lock to hold as well. Clicks that share it run one at a time.

        Raises:
            TooManyClicksError: Too many clicks are pending for this visitor or in total.
        """
        if self._present[visitor] >= WAITING_PER_VISITOR or self._present.total() >= WAITING:
            raise TooManyClicksError
        self._present[visitor] += 1
        try:
            async with turn, self._own[visitor], self._all:
                yield
        finally:
            self._present[visitor] -= 1
            if not self._present[visitor]:
                del self._present[visitor]
                self._own.pop(visitor, None)  # missing if the click was cancelled before its turn
