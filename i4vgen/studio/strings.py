"""Messages that the app shows in several places, and the formats of scores and durations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from i4vgen import events
from i4vgen.method.comparisons import COMPARISONS

TITLE = "I4VGen"
STOP = "Stop"
LEAVE_QUEUE = "Leave the queue"
SEVERAL = "Several prompts"
GALLERY_EMPTY = "Your candidates will appear here, each with its score."
NO_ANCHOR = "No anchor yet. Draw candidates or upload an image."
CROWN = "\u265b"
STORED = "A stored run, not hand-picked. Pick another anchor, animate it, or draw candidates of your own."
RESTORED = "The run is restored."
LIVE_EMPTY = "The video appears here while it is being made."
STARTING = "Getting the model ready\u2026"

# Titles of messages
CHECK_FORM = "Check the form"
NOT_NOW = "Not now"
NO_RUN = "No run in this file"

# Error messages
OUT_OF_STEP = "The page and the server are out of step. Reload the page."
STILL_DRAWING = "The candidates are still being drawn. Choose when they are finished, or stop first."
NEEDS_PROMPT = "Write a prompt first: describe the video in a few words."
FAILED = "The run failed: {error}. Your prompt and candidates are still here."


def animate(count: int) -> str:
    """Returns the label of the button that animates `count` anchors."""
    return f"Animate {count} anchors" if count > 1 else "Animate this anchor"


def label(name: str) -> str:
    """Returns the short label of a video, a stage or the anchor."""
    labels = {"anchor": "Anchor", "i4vgen": "I4VGen", "ni_vsds": "NI-VSDS", "regeneration": "Regeneration"}
    return COMPARISONS[name].label if name in COMPARISONS else labels[name]


def stage(name: str) -> str:
    """Returns the label of a running stage or comparison."""
    if name in COMPARISONS:
        return f"{COMPARISONS[name].label} video, for comparison"
    return {
        "candidates": "Drawing candidates",
        "ni_vsds": "Animating the anchor (NI-VSDS)",
        "regeneration": "Regenerating the video",
    }[name]


def downloading(event: events.Loading) -> str:
    """Returns the progress line for a model's download."""
    return f"Downloading {event.repo_or_path}: {event.done / 1e9:.1f} of {event.total / 1e9:.1f} GB"


def run_words(event: events.Event | None) -> str:
    """Describes the current activity of a run.

    Args:
        event: The run's latest `Loading` or `Progress` event (`RunClock.doing`); None before the first.
    """
    match event:
        case events.Loading():
            return downloading(event)
        case events.Progress(name):
            return stage(name)
    return STARTING


def seconds_left(seconds: float | None) -> str:
    """Formats a remaining time in seconds, which is None if unknown."""
    if seconds is None:
        return "estimating the time left"
    if seconds < 2:
        return "almost done"
    return f"about {round(seconds)} s left" if seconds < 100 else f"about {round(seconds / 60)} min left"


def lora_fits(made: Mapping[str, Any]) -> list[str]:
    """Returns a message for each LoRA of a run about how many of its layers apply.

    Args:
        made: The output of `Runtime.describe`.
    """
    return [str(events.LoraFit(**fit)) for fit in made.get("lora_fits", ())]


def with_lora_fits(words: str, made: Mapping[str, Any]) -> str:
    """Appends the messages of `lora_fits` to a status."""
    return " ".join([words, *(f"{fit}." for fit in lora_fits(made))])


def score(value: float | None) -> str:
    """Formats a reward: two decimals, always signed, with a true minus; empty for None."""
    return "" if value is None else f"{value:+.2f}".replace("-", "\u2212")
