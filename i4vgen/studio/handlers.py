"""Event handlers made from the panels' functions.

Clicks that change a tab's session are handled one after the other, and all clicks within the limits of `Slots`.
Handlers trust the values of the page, such as the index of a card. Malformed events get a clear error and leave
no traceback in the log.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import gradio as gr
from anyio.to_thread import run_sync

from i4vgen.errors import I4VGenError, StorageError
from i4vgen.serving.slots import Slots, TooManyClicksError
from i4vgen.studio import strings
from i4vgen.studio.errors import log_for_operator, refusal, words_of
from i4vgen.studio.session import Session, Sessions, visitor_of

log = logging.getLogger(__name__)

MALFORMED = (I4VGenError, TypeError, LookupError, AttributeError, ValueError)
"""The errors that handlers raise for values that the page never sends."""

Answer = Callable[..., Coroutine[Any, Any, Any]]


class Handlers:
    """Makes event handlers from functions, which run in threads."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.slots = Slots()

    def for_tab(self, handler: Callable[..., Any]) -> Answer:
        """Makes a handler from a function that gets the tab's `Session` first and may change it."""

        async def answer(request: gr.Request, *values: Any) -> Any:
            session = self.session_of(request)
            return await self._answer(session.visitor, session.lock, handler, session, *values)

        return with_request(answer, handler)

    def for_visitor(self, handler: Callable[..., Any]) -> Answer:
        """Makes a handler from a function that gets the request first.

        The handler does not wait for the tab's other clicks.
        """

        async def answer(request: gr.Request, *values: Any) -> Any:
            return await self._answer(visitor_of(request), asyncio.Lock(), handler, request, *values)

        return with_request(answer, handler)

    def session_of(self, request: gr.Request) -> Session:
        """Returns the session of a request and updates its visitor."""
        session = self.sessions.of(request.session_hash)
        session.visitor = visitor_of(request)
        return session

    async def _answer(self, visitor: str, turn: asyncio.Lock, handler: Callable[..., Any], *given: Any) -> Any:
        try:
            async with self.slots.hold(visitor, turn):
                return await run_sync(guarded(handler), *given)
        except TooManyClicksError as error:
            raise refusal(words_of(error)) from None


def with_request(answer: Answer, handler: Callable[..., Any]) -> Answer:
    """Gives `answer` the name and signature of the handler, with the request as the first parameter."""
    functools.update_wrapper(answer, handler)
    first, *others = inspect.signature(handler).parameters.values()
    request = first.replace(annotation=gr.Request)
    answer.__signature__ = inspect.Signature([request, *others])  # type: ignore[attr-defined]
    answer.__annotations__ = {**handler.__annotations__, first.name: gr.Request}
    return answer


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a handler so that its expected errors become refusals."""

    @functools.wraps(handler)
    def call(*values: Any) -> Any:
        try:
            return handler(*values)
        except gr.Error:  # already a refusal
            raise
        except (StorageError, OSError) as error:  # not for what the visitor sent
            log_for_operator(error, f"{handler.__name__} failed")
            raise refusal(words_of(error)) from error
        except MALFORMED as error:
            # The debug log has the traceback, in case the page has a bug.
            log.warning("%s was given what the page does not send: %s", handler.__name__, error)
            log.debug("where it failed", exc_info=error)
            words = words_of(error) if isinstance(error, I4VGenError) else strings.OUT_OF_STEP
            raise refusal(words) from error

    return call
