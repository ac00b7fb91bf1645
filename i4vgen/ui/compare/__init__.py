"""The comparison player: finished videos next to each other, under one clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData

from i4vgen.ui import texts
from i4vgen.ui.session import Clip

_HERE = Path(__file__).parent


class ComparePlayer(gr.HTML):
    """Plays any number of equally long clips in step. Its value: a sequence of `Clip`, or None for nothing.

    To `gradio_client` it is ``{"panes": [{"name", "label", "video": file, ...}], "num_frames", "fps"}``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(
            value=None,
            html_template=(_HERE / "template.html").read_text(encoding="utf-8"),
            css_template=(_HERE / "style.css").read_text(encoding="utf-8"),
            js_on_load=(_HERE / "script.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            words={
                "player": texts.PLAYER,
                "play": texts.PLAY,
                "pause": texts.PAUSE,
                "loop": texts.LOOP,
                "scrub": texts.SCRUB,
                "download": texts.DOWNLOAD,
            },
            **kwargs,
        )

    def postprocess(self, value: Sequence[Clip] | None) -> dict | None:
        """Clips as the template and the API see them. Gradio turns each file into an address."""
        if not value:
            return None
        return {
            "panes": [
                {
                    "name": clip.name,
                    "label": texts.CLIP_LABELS[clip.name],
                    "hint": texts.CLIP_HINTS[clip.name],
                    "seconds": round(clip.seconds, 1),
                    "video": FileData(
                        path=clip.path, orig_name=f"{clip.name}.mp4", mime_type="video/mp4"
                    ).model_dump(),
                }
                for clip in value
            ],
            "num_frames": max(clip.num_frames for clip in value),
            "fps": value[0].fps,
        }

    def api_info(self) -> dict:
        """The shape of the value, for the API page."""
        return {"type": "object", "description": "finished videos: panes[].name, panes[].video"}
