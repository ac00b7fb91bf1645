"""Prints lines to stdout and stderr. Output errors do not interrupt a run."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO


def accept_all_characters() -> None:
    """Makes stdout escape characters that its encoding lacks, as stderr does: prompts can contain any."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Prints a line to stdout."""
    _print(text, sys.stdout)


def warn(text: str) -> None:
    """Prints a line to stderr, prefixed with the program's name."""
    _print(f"i4vgen: {text}", sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    try:
        print(text, file=stream, flush=True)
    except OSError:  # such as a closed pipe to `head`
        silence(stream)


def silence(stream: TextIO) -> None:
    """Discards all further output to a stream. Otherwise Python fails to flush it on exit."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
