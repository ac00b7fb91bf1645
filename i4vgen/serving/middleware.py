"""ASGI middleware that rejects unsafe, oversized and malformed requests, and counts open streams."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from i4vgen.bounds import MAX_JSON

log = logging.getLogger(__name__)

PREFIX = "/gradio_api"

CLOSED = (
    "/proxy=",  # fetches from other servers, for apps composed of other Spaces
    "/file=http:",  # so do these two, and serve what they get as this app's own
    "/file=https:",
    "/run/",  # bypasses the queue
    "/api/",
    "/heartbeat/",  # keeps a request open and deletes the session when it ends
    "/dev/reload",  # of Gradio's development server, like the next three
    "/vibe-",
    "/undo-vibe-",
    "/profiling/",
    "/deep_link",  # writes the full state of a session to disk
    "/process_recording",  # trims any uploaded video
    "/component_server",  # for components with server functions
    "/stream/",  # for streaming audio and video
)
"""Prefixes of Gradio routes that this app does not use."""

FRAMES = ("'self'", "https://huggingface.co")
"""Origins that may embed the app in a frame. Hugging Face embeds Spaces."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # links contain the prompt
}

FOREIGN_PAGE = "Pages of other sites may not use this app, unless its owner allows them (--allow-origin)."
FOREIGN_NAME = (
    "This app is private and answers only at localhost or a numeric address. Its owner can allow this host name"
    " (--allow-origin) or open the app to the network (--public)."
)

LARGEST_REQUEST = 2 * MAX_JSON
"""Maximum bytes of a request other than an upload. The page's largest one contains the browser's history."""

MANY_VALUES = 20_000
"""Approximate maximum number of values in a JSON request. An empty list takes 3 bytes, but 100 in memory."""

BAD_REQUEST_ERRORS = (TypeError, ValueError, LookupError)
"""Exceptions that Gradio raises on malformed request bodies."""

NOT_UNDERSTOOD = "This request cannot be read. /gradio_api/info describes the ones that can."


class ClosedRoutes:
    """Responds with status 404 on the routes in `CLOSED`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = scope["type"] == "http" and scope["path"].removeprefix(PREFIX).startswith(CLOSED)
        answer: ASGIApp = JSONResponse({"detail": "Not Found"}, status_code=404) if closed else self.app
        await answer(scope, receive, send)


class SafeHeaders:
    """Adds `HEADERS` and the allowed frame ancestors to every response."""

    def __init__(self, app: ASGIApp, allowed: Collection[str] = ()) -> None:
        """Wraps an app.

        Args:
            app: The app to protect.
            allowed: Origins that may embed the app in addition to `FRAMES`, such as https://example.org.
        """
        self.app = app
        ancestors = " ".join([*FRAMES, *(origin.rstrip("/") for origin in allowed)])
        self.headers = HEADERS | {"Content-Security-Policy": f"frame-ancestors {ancestors}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class OwnPagesOnly:
    """Rejects requests from pages of other sites.

    Browsers send the page's origin with every request that writes or whose response the page may read. Other
    clients send none.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str] = (), private: bool = False) -> None:
        """Wraps an app.

        Args:
            app: The app to protect.
            allowed: Other origins whose pages may use the app, such as https://example.org.
            private: Whether only the owner may use the app. If so, host names that others could point to this
                machine (DNS rebinding) are rejected, except those of allowed origins.
        """
        self.app = app
        self.allowed = {origin.rstrip("/") for origin in allowed}
        self.names = {urlsplit(origin).hostname for origin in allowed}
        self.private = private

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self.app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if not self.is_welcome(headers):
                answer = JSONResponse({"detail": FOREIGN_PAGE}, status_code=403)
            elif self.private and not self.is_own_name(headers.get("host", "")):
                answer = JSONResponse({"detail": FOREIGN_NAME}, status_code=403)
        await answer(scope, receive, send)

    def is_own_name(self, host: str) -> bool:
        """Returns whether a Host header is an IP address, a name without dots or an allowed origin's host."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return "." not in name or name in self.names or bool(ip_address(name))
        except ValueError:
            return False

    def is_welcome(self, headers: Headers) -> bool:
        """Returns whether a request has no origin, the app's own origin or an allowed one."""
        origin = headers.get("origin")
        if origin is None or origin in self.allowed or headers.get("sec-fetch-site") == "same-origin":
            return True
        try:
            site = urlsplit(origin).netloc
        except ValueError:
            return False
        return site in (headers.get("host"), headers.get("x-forwarded-host"))


class BoundedBodies:
    """Rejects requests with too many bytes or values while they are being read.

    The rest of a rejected request is read and discarded, up to twice the limit.
    """

    def __init__(self, app: ASGIApp, largest_upload: int) -> None:
        """Wraps an app.

        Args:
            app: The app to protect.
            largest_upload: Maximum total size of an upload in bytes.
        """
        self.app = app
        self.largest_upload = largest_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = scope["path"].removeprefix(PREFIX).rstrip("/") == "/upload"
        most = self.largest_upload if is_upload else LARGEST_REQUEST
        most_discarded = 2 * most
        declared = Headers(scope=scope).get("content-length", "")
        size = int(declared) if declared.isdecimal() else 0
        read = values = 0

        async def bounded_receive() -> Message:
            nonlocal read, values
            message: Message = await receive() if size <= most_discarded else {}
            body = message.get("body", b"")
            read += len(body)
            values += 0 if is_upload else sum(map(body.count, (b",", b"[", b"{")))
            if max(size, read) > most or values > MANY_VALUES:
                # A client that is still sending does not see the response: behind nginx, it would get a 502.
                while message.get("more_body") and read <= most_discarded:
                    message = await receive()
                    read += len(message.get("body", b""))
                raise HTTPException(
                    413,
                    f"This request is too large: at most {most / 2**20:g} MB and {MANY_VALUES} values. Upload"
                    " pictures, videos and runs instead.",
                )
            return message

        await self.app(scope, bounded_receive, send)


class AlwaysAnswered:
    """Responds with status 400 to malformed requests on which Gradio raises, or ends an open response.

    If a session is unknown or already has a listener, Gradio reports the error in the stream and then raises.
    Without this middleware, any client could fill the log with tracebacks.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched_send if scope["type"] == "http" else send)
        except Exception as error:
            if not begun and not isinstance(error, BAD_REQUEST_ERRORS):
                raise
            log.warning("%r was sent a request that cannot be read: %s", scope["path"], type(error).__name__)
            log.debug("where it failed", exc_info=error)
            if begun:
                await send({"type": "http.response.body", "body": b""})
            else:
                await JSONResponse({"detail": NOT_UNDERSTOOD}, status_code=400)(scope, receive, send)


class OpenStreams:
    """The number of open streams by session, or by event ID for API calls."""

    def __init__(self) -> None:
        self.is_watching = False
        self.open: Counter[str] = Counter()

    def has_listener(self, session: str | None) -> bool:
        """Returns whether the session's stream is open; True if no `StreamWatch` is installed."""
        return not self.is_watching or session in self.open


class StreamWatch:
    """Records opened and closed streams in `OpenStreams`."""

    def __init__(self, app: ASGIApp, streams: OpenStreams) -> None:
        self.app, self.streams = app, streams
        streams.is_watching = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = stream_of(scope) if scope["type"] == "http" else None
        if session is None:
            await self.app(scope, receive, send)
            return
        self.streams.open[session] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.streams.open[session] -= 1
            if not self.streams.open[session]:
                del self.streams.open[session]


def stream_of(scope: Scope) -> str | None:
    """Returns the session or event ID whose stream is requested; None for other requests."""
    path = scope["path"].removeprefix(PREFIX)
    if path == "/queue/data":
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [None])[0]
    if path.startswith("/call/") and scope["method"] == "GET":
        return path.rpartition("/")[2]
    return None
