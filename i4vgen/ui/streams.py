"""Streams of events, which say what becomes of a run or a click."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

STREAMS = ("/gradio_api/queue/data", "/queue/data", "/gradio_api/call/", "/call/")


class EndedStreams:
    """Ends a stream where Gradio's breaks off.

    It does where a session is unknown, or is listened to twice: anybody could fill the log with its tracebacks.
    What went wrong Gradio has told the client by then.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith(STREAMS):
            await self.app(scope, receive, send)
            return
        under_way = False

        async def watched_send(message: Message) -> None:
            nonlocal under_way
            under_way = message["type"] == "http.response.start" or message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception as error:
            if not under_way:
                raise
            log.warning("the stream of %s broke off: %s", scope["path"], type(error).__name__)
            log.debug("where it broke off", exc_info=error)
            await send({"type": "http.response.body", "body": b""})
