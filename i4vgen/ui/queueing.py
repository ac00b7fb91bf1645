"""How events are queued and shown: the options that Gradio takes for an event, by what the event does."""

from __future__ import annotations

QUICK = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For events that only touch the page."""

CHECKED = QUICK | {"queue": True, "concurrency_limit": None}
"""For events that may refuse: Gradio shows messages only from its queue. Any number of these run at once."""

IN_TURN = CHECKED | {"concurrency_id": "in-turn", "concurrency_limit": 1}
"""For quick events that change what the one before may just be changing: each reads what that one wrote."""

ON_DEVICE = {"concurrency_id": "device", "concurrency_limit": 1}
"""One run on the device at a time, whoever asked for it; Gradio's queue holds the rest in order."""
