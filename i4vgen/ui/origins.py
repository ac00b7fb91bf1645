"""Whose pages may talk to the app: by itself Gradio answers the pages of any site, with the visitor's login."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from i4vgen.ui import strings


class OwnPagesOnly:
    """Refuses what pages of other sites ask for in the name of whoever looks at them.

    A browser names the page's origin in all that a page sends, and in all whose answer it may read. Programs
    name none.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str] = (), private: bool = False) -> None:
        """
        Args:
            app: What answers.
            allowed: Further origins, such as https://example.org.
            private: Whether only its owner should reach the app. Then it goes by no name that somebody else
                could point at this machine (DNS rebinding), unless the name is that of an allowed origin.
        """
        self.app = app
        self.allowed = {origin.rstrip("/") for origin in allowed}
        self.names = {urlsplit(origin).hostname for origin in allowed}
        self.private = private

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        answer: ASGIApp = self.app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if not self.is_welcome(headers):
                answer = JSONResponse({"detail": strings.FOREIGN_PAGE}, status_code=403)
            elif self.private and not self.is_own_name(headers.get("host", "")):
                answer = JSONResponse({"detail": strings.FOREIGN_NAME}, status_code=403)
        await answer(scope, receive, send)

    def is_own_name(self, host: str) -> bool:
        """Whether a Host header names an address, this machine, or the site of an allowed origin."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return "." not in name or name in self.names or bool(ip_address(name))
        except ValueError:
            return False

    def is_welcome(self, headers: Headers) -> bool:
        """Whether a request with these headers comes from no page, one of the app's own or an allowed one."""
        origin = headers.get("origin")
        if origin is None or origin in self.allowed or headers.get("sec-fetch-site") == "same-origin":
            return True
        try:
            site = urlsplit(origin).netloc
        except ValueError:
            return False
        return site in (headers.get("host"), headers.get("x-forwarded-host"))
