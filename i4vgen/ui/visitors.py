"""Who an event is served for: every visitor gets a share of what the server has."""

from __future__ import annotations

import hashlib
from typing import Any

from gradio.context import LocalContext


def host_of(request: Any) -> str:
    """The address that a request came from; an empty text for none."""
    return request.client.host if request is not None and request.client else ""


def current_visitor() -> str:
    """A name for the address that the event under way came from.

    It does not give the address away: it is part of the names of files.
    """
    return hashlib.sha256(host_of(LocalContext.request.get(None)).encode()).hexdigest()[:12]
