"""How much a request may hold."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from i4vgen.bounds import MAX_JSON
from i4vgen.ui import strings
from i4vgen.ui.closed_routes import PREFIX

LARGEST_REQUEST = 2 * MAX_JSON
"""Bytes of all requests but uploads. The most that a page sends is the history that its browser remembers."""

MANY_VALUES = 20_000
"""Values in the JSON of a request, about: an empty list is three bytes there, and a hundred once it is read."""


class BoundedBodies:
    """Refuses what is too large while it is read."""

    def __init__(self, app: ASGIApp, largest_upload: int) -> None:
        """
        Args:
            app: What answers.
            largest_upload: Bytes of an upload, all its files together.
        """
        self.app = app
        self.largest_upload = largest_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = scope["path"].removeprefix(PREFIX).rstrip("/") == "/upload"
        most = self.largest_upload if is_upload else LARGEST_REQUEST
        told = Headers(scope=scope).get("content-length", "")
        size = int(told) if told.isdecimal() else 0
        read = values = 0

        async def bounded_receive() -> Message:
            nonlocal read, values
            message: Message = await receive() if size <= most else {}
            body = message.get("body", b"")
            read += len(body)
            values += 0 if is_upload else sum(map(body.count, (b",", b"[", b"{")))
            if max(size, read) > most or values > MANY_VALUES:
                raise HTTPException(413, strings.request_too_large(most, MANY_VALUES))
            return message

        await self.app(scope, bounded_receive, send)
