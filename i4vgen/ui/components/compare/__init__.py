"""The comparison player: finished videos, and the picture they came from, under one clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from i4vgen.ui import strings
from i4vgen.ui.captions import clip_hint, clip_label
from i4vgen.ui.components.template import template
from i4vgen.ui.state import Clip

SPEEDS = [0.25, 0.5, 1, 2]


class ComparePlayer(gr.HTML):
    """Plays any number of equally long clips in step: two side by side, two under a wipe, or all in a grid.

    Its value: a sequence of `Clip`, or None for nothing. A clip whose file is a PNG is a still picture. What
    became of several anchors is shown in the grid first.
    To `gradio_client` it is ``{"panes": [{"name", "label", "kind": "video", "video": file, ...}], "num_frames",
    "fps", "first"}``; a still has ``"kind": "image", "image": file`` instead.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            value=None,
            **template(__file__),
            modes=strings.PLAYER_MODES,
            speeds=SPEEDS,
            shortcuts=strings.PLAYER_SHORTCUTS,
            words={
                "player": strings.PLAYER,
                "play": strings.PLAY,
                "pause": strings.PAUSE,
                "loop": strings.LOOP,
                "scrub": strings.SCRUB,
                "download": strings.DOWNLOAD,
                "crown": strings.CROWN,
                **strings.PLAYER_WORDS,
            },
            **kwargs,
        )

    def postprocess(self, value: Sequence[Clip] | None) -> dict | None:
        """Clips as the template and the API see them. Gradio turns each file into an address."""
        if not value:
            return None
        longest = max(value, key=lambda clip: clip.num_frames)
        return {
            "panes": [_pane(clip) for clip in value],
            "num_frames": longest.num_frames,
            "fps": longest.fps,
            "first": "grid" if any(clip.anchor is not None for clip in value) else "side",
        }

    def api_info(self) -> dict:
        """The shape of the value, for the API page."""
        return {
            "type": "object",
            "description": "finished videos: panes[].name, panes[].video (panes[].image for a still)",
        }


def _pane(clip: Clip) -> dict:
    suffix = Path(clip.path).suffix.lower()
    kind = "image" if suffix == ".png" else "video"
    mime_type = "image/png" if kind == "image" else "video/mp4"
    return {
        "name": clip.key,
        "label": clip_label(clip),
        "hint": clip_hint(clip),
        "result": clip.best or clip.key == "i4vgen",
        "best": clip.best,
        "seconds": round(clip.seconds, 1),
        "kind": kind,
        kind: FileData(path=clip.path, orig_name=f"{clip.key}{suffix}", mime_type=mime_type).model_dump(),
    }
