"""Limits on the requests of visitors. The pipeline itself has none beyond those of the model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits on the requests and uploads of visitors.

    Attributes:
        largest_run: Maximum work of a run, as a multiple of the model's default run with the vanilla
            comparison; None for no limit.
        longest_run: Maximum seconds of a run, estimated from earlier runs of the model; None for no limit.
        waiting: Maximum number of waiting and active runs, without queued prompts.
        waiting_per_visitor: Maximum number of waiting and active runs of one visitor, without queued prompts.
        queued: Maximum number of waiting and active queued prompts, which run without an open page.
        queued_per_visitor: Maximum number of queued prompts of one visitor. Must not exceed the number of
            runs that a browser remembers.
        largest_upload: Maximum total size of an upload in bytes.
    """

    largest_run: float | None = None
    longest_run: float | None = None
    waiting: int = 64
    waiting_per_visitor: int = 64
    queued: int = 96
    queued_per_visitor: int = 24
    largest_upload: int = 100 * 2**20


PRIVATE = Limits()
"""Limits of an app that only its owner can reach."""

PUBLIC = Limits(largest_run=8.0, waiting=32, waiting_per_visitor=3, queued_per_visitor=12)
"""Limits of an app that is open to the network."""
