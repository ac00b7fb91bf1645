"""Options for Gradio events.

All events that run Python go through Gradio's queue, because Gradio shows warnings only for queued events. The
queue starts up to `MAX_EVENTS` events immediately, in order of arrival. `Slots` and `JobQueue` enforce the
actual limits.
"""

from __future__ import annotations

from typing import Any

AT_ONCE: dict[str, Any] = {"concurrency_id": "all", "concurrency_limit": None}

IN_BROWSER: dict[str, Any] = {"api_visibility": "private"}
"""Options for events that only run JavaScript or that clients may not call."""

QUICK: dict[str, Any] = AT_ONCE | IN_BROWSER | {"show_progress": "hidden"}
"""Options for short events, such as clicks, which show no progress."""

MAX_EVENTS = 512
"""Maximum number of events that Gradio runs at once: more than may wait for the device or for a slot."""

MAX_WAITING = 1000
"""Maximum number of events that wait while Gradio runs `MAX_EVENTS`."""
