"""Imports that take seconds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector off while something is imported, and off what was imported for good.

    Importing torch, diffusers and Gradio makes a million objects that stay. Looking through them time and again
    while they are made takes a fifth of the time, and each full collection later on a third of a second.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
