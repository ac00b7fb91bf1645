"""How events are queued and shown: the options that Gradio takes for an event, by what the event does.

All events go through the queue, where they are limited (`run_queue`, `turns`); only from there does Gradio show
what an event refuses.
"""

from __future__ import annotations

from typing import Any

from gradio.block_function import BlockFunction
from gradio.queueing import Event

QUICK: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
"""For events that take a moment, and read nothing that another one may just be changing."""

IN_TURN: dict[str, Any] = QUICK | {"concurrency_id": "in-turn"}
"""For events that read what the one before may just be changing: those of a tab wait for each other."""

ON_DEVICE: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 1}
"""One run on the device at a time, whoever asked for it; Gradio's queue holds the rest in order."""


def is_run(event: Event | BlockFunction) -> bool:
    """Whether it needs the device."""
    return event.concurrency_id == ON_DEVICE["concurrency_id"]


def in_turn(event: Event | BlockFunction) -> bool:
    """Whether it waits for the one before, of the same tab."""
    return event.concurrency_id == IN_TURN["concurrency_id"]
