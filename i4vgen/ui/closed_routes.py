"""Routes that Gradio has for apps of another kind."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/gradio_api"

CLOSED = (
    "/proxy=",  # fetches from other servers, for apps that are made of other Spaces
    "/run/",  # past the queue
    "/api/",
    "/heartbeat/",  # holds a request open, and by its end forgets the session; see `end_heartbeat`
    "/dev/reload",  # of Gradio's own development server, as are the next three
    "/vibe-",
    "/undo-vibe-",
    "/profiling/",
    "/deep_link",  # writes a session's whole page to the disk
    "/process_recording",  # cuts any video that it is sent
    "/component_server",  # for components that have something to call
    "/stream/",  # for sound and video that is played while it is made
)


class ClosedRoutes:
    """Answers as if these routes were not there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        closed = scope["type"] == "http" and scope["path"].removeprefix(PREFIX).startswith(CLOSED)
        answer: ASGIApp = JSONResponse({"detail": "Not Found"}, status_code=404) if closed else self.app
        await answer(scope, receive, send)
