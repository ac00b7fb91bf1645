"""What Gradio has no public API for: refusing bad values quietly, and a slow start.

Checked with Gradio 6.30 and 6.31. `Queue.process_events` prints a traceback for every value that a component
cannot hold and every event that names a foreign file, so any client could fill the log.
`print_exception=False` (issue 10136) covers only errors that an app raises itself, a `validator` runs after
the conversion, and Gradio's tracker has nothing on it. `launch` gives up if the page does not answer in 3 s
(issue 9817), as on a busy machine.
"""

from __future__ import annotations

import functools
import html
import logging
from typing import Any

import gradio as gr
from gradio import processing_utils

from i4vgen.bounds import check_unicode, texts_in
from i4vgen.studio import strings

log = logging.getLogger(__name__)

NO_SELF_CHECK = {"_frontend": False}  # an argument of `launch`
LONGEST_REASON = 300  # characters of Gradio's message about a value, which quotes the value


def refuse_bad_values(blocks: Any) -> None:
    """Makes `Blocks` refuse bad values, and calls of events that only the browser runs, with a clear error."""
    preprocess, call = blocks.preprocess_data, blocks.call_function

    @functools.wraps(preprocess)
    async def check_values(function: Any, inputs: list, *given: Any, **named: Any) -> list:
        if function.fn is None:
            raise _refusal("This event is the browser's own: there is nothing on the server to call.")
        try:
            for component, value in zip(function.inputs, inputs, strict=False):
                for text in texts_in(value):
                    check_unicode(getattr(component, "label", None) or "text", text)
            return await preprocess(function, inputs, *given, **named)
        except Exception as error:
            log.debug("%s was given what its components cannot hold", function.name, exc_info=error)
            reason = html.escape(str(getattr(error, "message", error))[:LONGEST_REASON], quote=False)
            raise _refusal(reason or strings.OUT_OF_STEP) from error

    @functools.wraps(call)
    async def check_event(*given: Any, **named: Any) -> dict:
        try:
            for event in (each for each in given if isinstance(each, gr.EventData)):
                processing_utils.check_all_files_in_cache(event._data)
        except gr.Error as error:
            raise _refusal(strings.OUT_OF_STEP) from error
        return await call(*given, **named)

    blocks.preprocess_data, blocks.call_function = check_values, check_event


def _refusal(words: str) -> gr.Error:
    return gr.Error(words, title=strings.NOT_NOW, print_exception=False)
