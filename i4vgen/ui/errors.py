"""What a person at the page is told when something cannot be done."""

from __future__ import annotations

import html
import logging

import gradio as gr

from i4vgen.errors import I4VGenError
from i4vgen.ui import strings

log = logging.getLogger(__name__)


def refusal(message: str, title: str) -> gr.Error:
    """To be raised for what a person can put right: a warning on the page, and an error for API clients.

    The error itself stays invisible, because Gradio would show it in red under the title "Error".
    """
    warn(message, title)
    return gr.Error(message, visible=False, print_exception=False)


def warn(message: str, title: str = strings.NOT_NOW) -> None:
    """Shows a message, which may quote what came from anybody: Gradio would take it for HTML."""
    gr.Warning(html.escape(message), title=title)


def failure(error: Exception, words: str = strings.FAILED) -> gr.Error:
    """What a person is told when a run breaks. The log has the rest."""
    if isinstance(error, gr.Error):
        return error
    if not isinstance(error, I4VGenError):  # whose words say all
        log.exception("a run failed")
    reason = str(error).strip() or type(error).__name__
    message = words.format(error=reason.splitlines()[0])
    return gr.Error(html.escape(message, quote=False), title=strings.SORRY, print_exception=False)
