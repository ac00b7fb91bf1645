"""The list of queued prompts: each with what becomes of it, and a button that takes it out."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from i4vgen.ui import strings
from i4vgen.ui.components.template import template
from i4vgen.ui.prompt_queue import Place


@dataclass(frozen=True)
class Row:
    """A queued prompt.

    Attributes:
        run: The name that its run will have.
        place: Where it is.
    """

    run: str
    prompt: str
    place: Place


class QueueList(gr.HTML):
    """Shows `queue_value(...)`. Its `select` event carries the name of the prompt that is to be taken out."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(value=None, **template(__file__), words={"list": strings.SEVERAL}, **kwargs)

    def api_info(self) -> dict:
        """The shape of the value, for Gradio."""
        return {
            "type": "object",
            "description": "the queued prompts: rows[].prompt, rows[].words, rows[].state",
        }


def queue_value(rows: Sequence[Row]) -> dict | None:
    """What the list shows, in its order; None for an empty one."""
    return {"rows": [_row(row) for row in rows]} if rows else None


def _row(row: Row) -> dict:
    place = row.place
    if place.position is None:
        state, words, button = "failed", place.words, strings.DISMISS
    elif place.position == 0:
        state, words, button = "running", strings.under_way(place.words, place.seconds_left), strings.STOP
    else:
        state, words = "waiting", strings.waiting(place.position, place.seconds_left)
        button = strings.LEAVE_QUEUE
    return {
        "run": html.escape(row.run),
        "prompt": html.escape(row.prompt),
        "state": state,
        "words": html.escape(words),
        "percent": round(100 * place.fraction),
        "button": button,
    }
