"""What Gradio has no public API for: refusing bad values quietly, and a slow start. Checked with Gradio 6.31.

`Queue.process_events` prints a traceback for every value that a component cannot hold, so any client could
fill the log. `print_exception=False` (issue 10136) covers only errors that an app raises itself, and a
`validator` runs after the same conversion. Gradio's tracker has no issue for the rest.

`launch` gives up if the page does not answer within 3 s (issue 9817), as on a busy machine.
"""

from __future__ import annotations

import functools
import html
import logging
from collections.abc import Iterator
from typing import Any

import gradio as gr

from i4vgen.bounds import check_unicode
from i4vgen.studio import strings

log = logging.getLogger(__name__)

NO_SELF_CHECK = {"_frontend": False}  # an argument of `launch`
LONGEST_REASON = 300  # characters of Gradio's message about a value, which quotes the value


def refuse_bad_values(blocks: Any) -> None:
    """Makes `Blocks` refuse bad values, and calls of events that only the browser runs, with a clear error."""
    preprocess = blocks.preprocess_data

    @functools.wraps(preprocess)
    async def check(function: Any, inputs: list, *given: Any, **named: Any) -> list:
        if function.fn is None:
            raise gr.Error(
                "This event is the browser's own: there is nothing on the server to call.",
                print_exception=False,
            )
        try:
            for component, value in zip(function.inputs, inputs, strict=False):
                for text in texts_in(value):
                    check_unicode(getattr(component, "label", None) or "text", text)
            return await preprocess(function, inputs, *given, **named)
        except Exception as error:
            log.debug("%s was given what its components cannot hold", function.name, exc_info=error)
            reason = html.escape(str(getattr(error, "message", error))[:LONGEST_REASON], quote=False)
            words = reason or strings.OUT_OF_STEP
            raise gr.Error(words, title=strings.NOT_NOW, print_exception=False) from error

    blocks.preprocess_data = check


def texts_in(value: Any) -> Iterator[str]:
    """Yields all strings in a JSON value except the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)
