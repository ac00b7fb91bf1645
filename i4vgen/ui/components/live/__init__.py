"""The live view: how the video looks at this step, and how far each stage is."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from i4vgen.ui import strings
from i4vgen.ui.components.template import template


class LiveView(gr.HTML):
    """Shows `live_value(...)`. The page is patched in place: the loop plays on while its pictures change."""

    def __init__(self, words: str, **kwargs: Any) -> None:
        """words: what it says before the first run."""
        super().__init__(
            value=live_value(words),
            **template(__file__),
            alt=strings.LIVE_ALT,
            trace_label=strings.TRACE,
            **kwargs,
        )

    def api_info(self) -> dict:
        """What `gradio_client` is told: progress, for people to look at."""
        return {"type": "object", "description": "progress of the run"}


def live_value(
    words: str,
    *,
    fraction: float | None = None,
    stages: list[dict] | None = None,
    facts: str = "",
    trace: Sequence[float] = (),
    total: int = 0,
    strip: str = "",
    num_frames: int = 1,
    fps: int = 8,
    ratio: float = 1.0,
) -> dict:
    """What a live view shows.

    words: the line of progress. fraction: 0 to 1, or None for no bar. stages: see `progress.Tracker.stages`.
    facts: what the last step did. trace: the size of the update of every step so far, of `total` to come.
    strip: the frames as `pictures.film_strip` makes them, `num_frames` of them, played at `fps`.
    ratio: width / height of a frame.
    """
    return {
        "words": html.escape(words),  # prompts and names of files are among them
        "fraction": fraction,
        "stages": stages or [],
        "facts": facts,
        "trace": polyline(trace, total),
        "strip": strip,
        "num_frames": num_frames,
        "fps": fps,
        "ratio": ratio,
    }


def polyline(values: Sequence[float], total: int) -> str:
    """The points of an SVG line through the values, in a box of 100 x 100 that `total` of them fill."""
    if len(values) < 2:
        return ""
    top = max(values) or 1.0
    return " ".join(
        f"{100 * i / max(total - 1, 1):.1f},{100 - 100 * value / top:.1f}" for i, value in enumerate(values)
    )
