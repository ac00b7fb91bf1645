"""The comparison player: finished videos and their anchor, synchronised by one clock."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from i4vgen.studio.captions import hint_of_clip, label_of_clip
from i4vgen.studio.components.template import FileComponent
from i4vgen.studio.state import Clip


class ComparePlayer(FileComponent):
    """Plays clips in step: two side by side, two with a wipe, or all in a grid.

    The value is a sequence of `Clip`, or None for an empty player. A clip whose file is a PNG is a still. The
    results of several anchors are shown in the grid at first. `gradio_client` gets the value as
    ``{"panes": [{"name", "label", "kind": "video", "video": file, ...}], "num_frames", "fps", "first", ...}``.
    A still has ``"kind": "image", "image": file`` instead.
    """

    value_info = "finished videos: panes[].name, panes[].video (panes[].image for a still)"

    def postprocess(self, value: Sequence[Clip] | None) -> dict | None:
        """Converts clips for the template and the API. Gradio turns each file into a URL."""
        if not value:
            return None
        longest = max(value, key=lambda clip: clip.num_frames)
        by = next((html.escape(clip.steadiness.by) for clip in value if clip.steadiness), "")
        legend = (
            "Steadiness: how like its anchor each frame is (without one: like the first frame), as "
            f"{by} sees it. Full is alike, empty is another picture. The number is for the whole video."
        )
        return {
            "steady": legend if by else "",
            "panes": [_pane(clip) for clip in value],
            "num_frames": longest.num_frames,
            "fps": longest.fps,
            "first": "grid" if any(clip.anchor is not None for clip in value) else "side",
        }


def _pane(clip: Clip) -> dict:
    suffix = Path(clip.path).suffix.lower()
    kind, mime_type = ("image", "image/png") if suffix == ".png" else ("video", "video/mp4")
    return {
        "name": clip.key,
        "label": label_of_clip(clip),
        "hint": hint_of_clip(clip),
        "result": clip.best or clip.key == "i4vgen",
        "best": clip.best,
        "seconds": round(clip.seconds, 1),
        "kind": kind,
        kind: gr.FileData(path=clip.path, orig_name=f"{clip.key}{suffix}", mime_type=mime_type).model_dump(),
        "steady": _track(clip),
    }


def _track(clip: Clip) -> dict | None:
    """Returns a clip's steadiness with a shade, 0 to 1, and a text for each frame; None if unknown."""
    steady = clip.steadiness
    if steady is None:
        return None
    return {
        "label": f"Steadiness of {label_of_clip(clip)}, frame by frame",
        "number": f"{steady.subject_consistency:.2f}",
        "shades": [round(shade, 2) for shade in steady.shades],
        "words": [
            f"Frame {number} of {len(steady.frames)}: {cosine:.2f} alike"
            for number, cosine in enumerate(steady.frames, 1)
        ],
    }
