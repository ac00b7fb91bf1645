"""Answers to requests on which Gradio itself fails."""

from __future__ import annotations

import logging

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from i4vgen.ui import strings

log = logging.getLogger(__name__)

UNFIT = (TypeError, ValueError, LookupError)
"""How Gradio fails on a body that is not what its own pages and clients send."""


class AlwaysAnswered:
    """Answers in words where Gradio fails on a request, and ends the stream that it breaks off.

    It breaks one off whose session is unknown, or is listened to twice; what went wrong it has said by then.
    With its tracebacks anybody could fill the log.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        begun = False

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched_send if scope["type"] == "http" else send)
        except Exception as error:
            if not begun and not isinstance(error, UNFIT):
                raise
            log.warning("%r was sent what is not to be read: %s", scope["path"], type(error).__name__)
            log.debug("where it failed", exc_info=error)
            if begun:
                await send({"type": "http.response.body", "body": b""})
            else:
                refused = JSONResponse({"detail": strings.NOT_UNDERSTOOD}, status_code=400)
                await refused(scope, receive, send)
