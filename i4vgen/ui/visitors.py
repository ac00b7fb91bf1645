"""Who an event is served for: every visitor gets a share of what the server has."""

from __future__ import annotations

import hashlib

from gradio.context import LocalContext


def current_visitor() -> str:
    """A name for the address that the event under way came from; the same text for events from nowhere."""
    request = LocalContext.request.get(None)
    return visitor_at(request.client.host if request is not None and request.client else "")


def visitor_at(address: str) -> str:
    """A name for an address that does not give it away: it is part of the names of files."""
    return hashlib.sha256(address.encode()).hexdigest()[:12]
