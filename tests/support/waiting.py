"""Waiting for what happens in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 240.0
"""Seconds until a test gives up. Long, because importing torch takes a minute on a machine under load."""

T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Waits until a condition holds. Returns what it gave then.

    Args:
        condition: Asked some fifty times a second.
        seconds: How long to wait at most.

    Raises:
        AssertionError: It does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not so after {seconds:g} s"
        time.sleep(0.02)
    return value
