"""How large a request may be."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from i4vgen.bounds import MAX_JSON
from i4vgen.ui import strings
from i4vgen.ui.closed_routes import PREFIX

LARGEST_REQUEST = 2 * MAX_JSON
"""Bytes of all requests but uploads. The most that a page sends is the history that its browser remembers; read
as JSON, a body can take fifty times its bytes.
"""


class BoundedBodies:
    """Refuses requests that are too large, as soon as they are."""

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
        length = Headers(scope=scope).get("content-length", "")
        answer: ASGIApp = RequestBodyLimitMiddleware(self.app, most)  # counts what does not say how long it is
        if length.isdecimal() and int(length) > most:
            answer = JSONResponse({"detail": strings.request_too_large(most)}, status_code=413)
        await answer(scope, receive, send)
