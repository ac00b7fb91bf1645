"""Panel 4, Your runs: what this browser remembers, opening a run from a file, the link to the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import gradio as gr
import numpy as np
from PIL import Image

from i4vgen.ui import layout, pictures, texts

STORAGE_KEY = "i4vgen-runs"

SECRET = "not a secret"  # noqa: S105  Gradio wants one; a random one would lose the runs with every restart

REMEMBER = 24
"""So many runs a browser remembers."""

THUMBNAIL = 96  # pixels


@dataclass
class ShelfPanel:
    """The components of panel 4. memory: a list of `entry(...)`, newest first."""

    memory: gr.BrowserState
    gallery: gr.Gallery
    file: gr.UploadButton
    copy: gr.Button
    forget: gr.Button
    run: gr.Textbox


def build() -> ShelfPanel:
    """Draws panel 4, empty."""
    with layout.panel(4, texts.RUNS, texts.RUNS_HINT, "runs"):
        memory = gr.BrowserState([], storage_key=STORAGE_KEY, secret=SECRET)
        with gr.Row(elem_classes="tools"):
            file = gr.UploadButton(texts.OPEN_RUN, file_types=[".json", ".zip"], size="sm", elem_id="open-run")
            copy = gr.Button(texts.COPY_LINK, size="sm", elem_id="copy-link")
            forget = gr.Button(texts.FORGET, size="sm", visible=False, elem_id="forget")
        gallery = layout.cards(texts.RUNS, "history", visible=False)
        run = gr.Textbox(visible="hidden")  # its token; no State, as the link is written in the browser
    return ShelfPanel(memory, gallery, file, copy, forget, run)


def entry(token: str, picture: np.ndarray, settings: dict) -> dict:
    """What a browser remembers of a run: JSON types, a few kilobytes.

    picture: uint8 [H, W, 3]. settings: the form.
    """
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return {"run": token, "picture": pictures.webp(image, quality=80), "settings": settings}


def remember(memory: list, new: dict) -> list:
    """The memory with one more run in front."""
    return [new, *(memory or [])][:REMEMBER]


def show_memory(panel: ShelfPanel, memory: list) -> dict:
    """The thumbnails of what is remembered."""
    cards, known = [], []
    for item in memory if isinstance(memory, list) else []:
        try:  # it comes from the browser, where another version or another app may have written it
            settings, token = item["settings"], item["run"]
            picture = Image.open(io.BytesIO(base64.b64decode(item["picture"])))
            picture.load()
            words = texts.run_caption(settings["prompt"], settings["seed"], settings["model"])
        except (TypeError, LookupError, ValueError, OSError):
            continue
        cards.append((picture, words))
        known.append({"run": token, "picture": item["picture"], "settings": settings})
    return {
        panel.memory: known,
        panel.gallery: gr.update(value=cards, visible=bool(cards)),
        panel.forget: gr.update(visible=bool(cards)),
    }
