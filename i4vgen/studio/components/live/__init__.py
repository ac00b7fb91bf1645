"""The live view: the video at the current step, and the progress of each stage."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from i4vgen.events import Loading
from i4vgen.studio import strings
from i4vgen.studio.components.template import FileComponent


class LiveView(FileComponent):
    """The view of `live_value(...)`. Gradio patches it in place, so the loop plays on while frames change."""

    value_info = "progress of the run"

    def __init__(self, words: str, **kwargs: Any) -> None:
        """Draws the view.

        Args:
            words: The text before the first run.
            **kwargs: Further arguments of the component.
        """
        super().__init__(live_value(words), **kwargs)


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
    """Returns the value of a live view.

    Args:
        words: The progress line.
        fraction: The length of the progress bar, 0 to 1; None for no bar.
        stages: The stages, from `RunProgress.stages`.
        facts: The figures of the last step.
        trace: The size of the update at every step of the stage so far.
        total: The number of steps of the stage.
        strip: The frames, from `pictures.film_strip`.
        num_frames: The number of frames in the strip.
        fps: The frames per second at which the strip plays.
        ratio: The width of a frame divided by its height.

    Returns:
        The value. `Page.follow` sets its `beat` to a number that changes with every update.
    """
    return {
        "words": html.escape(words),  # may contain prompts and file names
        "fraction": fraction,
        "stages": stages or [],
        "facts": facts,
        "trace": polyline(trace, total),
        "strip": strip,
        "num_frames": num_frames,
        "fps": fps,
        "ratio": ratio,
        "beat": None,
    }


def loading_value(event: Loading) -> dict:
    """Returns the value of a live view during a model's download."""
    return live_value(strings.downloading(event), fraction=event.done / event.total)


def polyline(values: Sequence[float], total: int) -> str:
    """Returns the points of an SVG line through the values, in a box of 100 x 100; empty for fewer than two.

    Args:
        values: The values, at least 0.
        total: The number of values that fill the box.
    """
    if len(values) < 2:
        return ""
    top = max(values) or 1.0
    return " ".join(
        f"{100 * i / max(total - 1, 1):.1f},{100 - 100 * value / top:.1f}" for i, value in enumerate(values)
    )
