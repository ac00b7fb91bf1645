"""The live view: how the video looks at this step, and how far each stage is."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from i4vgen.ui import texts

_HERE = Path(__file__).parent


class LiveView(gr.HTML):
    """Shows `live_value(...)`. The page is patched in place: the loop plays on while its pictures change."""

    def __init__(self, words: str, **kwargs) -> None:
        """words: what it says before the first run."""
        super().__init__(
            value=live_value(words),
            html_template=(_HERE / "template.html").read_text(encoding="utf-8"),
            css_template=(_HERE / "style.css").read_text(encoding="utf-8"),
            js_on_load=None,
            apply_default_css=False,
            alt=texts.LIVE_ALT,
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
    strip: str = "",
    num_frames: int = 1,
    fps: int = 8,
    ratio: float = 1.0,
) -> dict:
    """What a live view shows.

    words: the line of progress. fraction: 0 to 1, or None for no bar. stages: see `progress.Tracker.stages`.
    strip: the frames as `pictures.film_strip` makes them, `num_frames` of them, played at `fps`.
    ratio: width / height of a frame.
    """
    return {
        "words": words,
        "fraction": fraction,
        "stages": stages or [],
        "strip": strip,
        "num_frames": num_frames,
        "fps": fps,
        "ratio": ratio,
    }
