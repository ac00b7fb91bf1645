"""Routes that Gradio has for apps of another kind."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

CLOSED = ("/gradio_api/proxy=", "/proxy=")
"""Gradio fetches from other servers through these, for apps that are made of other Spaces."""


class ClosedRoutes:
    """Answers as if these routes were not there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        closed = scope["type"] == "http" and scope["path"].startswith(CLOSED)
        answer: ASGIApp = JSONResponse({"detail": "Not Found"}, status_code=404) if closed else self.app
        await answer(scope, receive, send)
