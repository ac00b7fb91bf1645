"""Events of the page that were sent by something else than the page.

Gradio checks what a component can hold. What fits together is up to the handlers, which trust the page: the
index of a card that was clicked is one of a card. Whoever sends anything else is told so; it is no reason for a
traceback.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from i4vgen.errors import I4VGenError
from i4vgen.ui import strings
from i4vgen.ui.errors import refusal

log = logging.getLogger(__name__)

UNFIT = (I4VGenError, TypeError, LookupError, AttributeError, ValueError)
"""How handlers fail on what the page would not send."""


def guard_events(demo: gr.Blocks) -> None:
    """Answers in words where a handler of the page is given what the page would not send."""
    for function in demo.fns.values():
        if function.fn is not None and function.api_visibility != "public":
            function.fn = guarded(function.fn)


def guarded(handler: Callable) -> Callable:
    """The handler, with a refusal in place of what it fails with."""

    @functools.wraps(handler)
    def call(*values: Any) -> Any:
        try:
            return handler(*values)
        except UNFIT as error:
            raise unfit(handler, error) from error

    @functools.wraps(handler)
    def stream(*values: Any) -> Iterator:
        try:
            yield from handler(*values)
        except UNFIT as error:
            raise unfit(handler, error) from error

    return stream if inspect.isgeneratorfunction(handler) else call


def unfit(handler: Callable, error: Exception) -> gr.Error:
    """What the sender is told. Whoever looks for a mistake of the page's own finds it in the debug log."""
    log.warning("%s was given what the page does not send: %s", handler.__name__, error)
    log.debug("where it failed", exc_info=error)
    return refusal(str(error) if isinstance(error, I4VGenError) else strings.OUT_OF_STEP, strings.NOT_NOW)
