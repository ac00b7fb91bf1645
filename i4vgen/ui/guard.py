"""Events of the page that were sent by something else than the page.

Gradio checks what a component can hold. What fits together is up to the handlers, which trust the page: the
index of a card that was clicked is one of a card. Whoever sends anything else is told so; it is no reason for a
traceback, with which anybody could fill the log.
"""

from __future__ import annotations

import functools
import html
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction

from i4vgen.bounds import check_unicode
from i4vgen.errors import I4VGenError
from i4vgen.ui import strings
from i4vgen.ui.errors import refusal

log = logging.getLogger(__name__)

UNFIT = (I4VGenError, TypeError, LookupError, AttributeError, ValueError)
"""How handlers fail on what the page would not send."""


LONGEST_REASON = 300
"""Characters of what Gradio says of a value: it quotes it."""


def guard_events(demo: gr.Blocks) -> None:
    """Answers in words where an event or its handler is given what the page would not send."""
    for function in demo.fns.values():
        if function.fn is not None and function.api_visibility != "public":
            function.fn = guarded(function.fn)
    blocks: Any = demo  # Gradio has no public way to check what comes in
    blocks.preprocess_data = checked(blocks.preprocess_data)


def checked(preprocess: Callable[..., Awaitable[list]]) -> Callable[..., Awaitable[list]]:
    """`Blocks.preprocess_data`, with a refusal where a component cannot hold what was sent to it."""

    @functools.wraps(preprocess)
    async def check(block_fn: BlockFunction, inputs: list, *given: Any, **named: Any) -> list:
        if block_fn.fn is None:
            raise gr.Error(strings.ONLY_IN_THE_BROWSER, print_exception=False)
        try:
            for component, value in zip(block_fn.inputs, inputs, strict=False):
                for text in texts_in(value):
                    check_unicode(getattr(component, "label", None) or "text", text)
            return await preprocess(block_fn, inputs, *given, **named)
        except Exception as error:
            log.debug("%s was given what its components cannot hold", block_fn.name, exc_info=error)
            reason = error.message if isinstance(error, gr.Error) else str(error)
            words = html.escape(str(reason)[:LONGEST_REASON], quote=False) or strings.OUT_OF_STEP
            raise gr.Error(words, title=strings.NOT_NOW, print_exception=False) from error

    return check


def texts_in(value: Any) -> Iterator[str]:
    """All texts of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)


def guarded(handler: Callable) -> Callable:
    """The handler, with a refusal in place of what it fails with."""

    @functools.wraps(handler)
    def call(*values: Any) -> Any:
        with refusing(handler):
            return handler(*values)

    @functools.wraps(handler)
    def stream(*values: Any) -> Iterator:
        with refusing(handler):
            yield from handler(*values)

    return stream if inspect.isgeneratorfunction(handler) else call


@contextmanager
def refusing(handler: Callable) -> Iterator[None]:
    """Turns what the handler fails with into a refusal."""
    try:
        yield
    except gr.Error:  # a refusal in words of its own
        raise
    except UNFIT as error:
        raise unfit(handler, error) from error


def unfit(handler: Callable, error: Exception) -> gr.Error:
    """What the sender is told. Whoever looks for a mistake of the page's own finds it in the debug log."""
    log.warning("%s was given what the page does not send: %s", handler.__name__, error)
    log.debug("where it failed", exc_info=error)
    return refusal(str(error) if isinstance(error, I4VGenError) else strings.OUT_OF_STEP, strings.NOT_NOW)
