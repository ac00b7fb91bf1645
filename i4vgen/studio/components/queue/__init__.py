"""The list of queued prompts, each with its state and a button to remove it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from i4vgen.serving.jobs.job import Place
from i4vgen.studio import strings
from i4vgen.studio.components.template import FileComponent
from i4vgen.studio.errors import words_of

LOST = "Lost: the server was reset before this run, or had no room for the result. Queue it again."


@dataclass(frozen=True)
class QueueRow:
    """A queued prompt.

    Attributes:
        run: The name of the prompt and of its run.
        prompt: The prompt.
        place: The prompt's position in the queue and its progress.
    """

    run: str
    prompt: str
    place: Place


class QueueList(FileComponent):
    """The list of `queue_value(...)`. The `select` event has the name of the prompt to remove."""

    value_info = "the queued prompts: rows[].prompt, rows[].words, rows[].state"


def queue_value(rows: Sequence[QueueRow]) -> dict | None:
    """Returns the rows of the list in order; None for an empty list."""
    return {"rows": [_row(row) for row in rows]} if rows else None


def _row(row: QueueRow) -> dict:
    place = row.place
    if place.position is None:
        state, button = "failed", "Dismiss"
        words = words_of(place.error) if place.error else LOST
    elif place.position == 0:
        state, button, words = "running", strings.STOP, strings.run_words(place.doing)
        if place.seconds_left is not None:
            words += f", {strings.seconds_left(place.seconds_left)}"
    else:
        state, button = "waiting", strings.LEAVE_QUEUE
        words = "Next" if place.position == 1 else f"Position {place.position}"
        words += f", {strings.seconds_left(place.seconds_left)}"
    return {
        "run": html.escape(row.run),
        "prompt": html.escape(row.prompt),
        "state": state,
        "words": html.escape(words),
        "percent": round(100 * place.fraction),
        "button": button,
    }
