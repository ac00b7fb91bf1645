"""The frame of the panels, the page's header, and controls that several panels use."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from i4vgen.serving.runtime import Runtime
from i4vgen.studio import strings


@contextmanager
def panel(number: int, title: str, hint: str, elem_id: str) -> Iterator[gr.Column]:
    """Draws a numbered card with a heading."""
    # The class is not "panel", which Gradio's columns use and remove again.
    with gr.Column(elem_classes="step", elem_id=elem_id) as column:
        gr.HTML(
            f'<div class="step-head"><span class="number" aria-hidden="true">{number}</span>'
            f"<h2>{title}</h2><p>{hint}</p></div>",
            apply_default_css=False,
        )
        yield column


def tool(label: str, elem_id: str, visible: bool = False, **kwargs: Any) -> gr.Button:
    """Draws a small button, hidden by default."""
    return gr.Button(label, size="sm", visible=visible, elem_id=elem_id, **kwargs)


def stop_buttons(elem_id: str) -> tuple[gr.Button, gr.Button]:
    """Draws the button that stops a run and the one that takes it out of the queue."""
    stop = gr.Button(strings.STOP, variant="stop", size="lg", visible=False, elem_id=elem_id)
    return stop, gr.Button(strings.LEAVE_QUEUE, size="lg", visible=False)


def picture(label: str, **kwargs: Any) -> gr.Image:
    """Draws a picture that cannot be edited."""
    return gr.Image(label=label, show_label=False, interactive=False, format="png", buttons=[], **kwargs)


def header(runtime: Runtime, opening: str = "") -> gr.HTML:
    """Draws the header: the app's name, its purpose and the model.

    Args:
        runtime: The model.
        opening: HTML of the animation beside the name; empty for none.
    """
    d = runtime.defaults
    facts = [
        html.escape(runtime.entry.title),
        f"{d.width} \u00d7 {d.height} px",
        f"{d.num_frames} frames",
        runtime.device.upper(),
    ]
    return gr.HTML(
        f'<header class="masthead"><div class="name"><h1>{strings.TITLE}</h1>'
        f'<p class="tagline">Image as a free stepping stone to video</p></div>{opening}'
        '<p class="lead">Draw still candidates, let a reward model (or you) pick the best one, and animate it. '
        "No training: the same weights throughout. "
        '<a href="https://arxiv.org/abs/2406.02230" target="_blank" rel="noopener">Read the paper</a></p>'
        f'<ul class="facts" aria-label="Model">{"".join(f"<li>{fact}</li>" for fact in facts)}</ul></header>',
        elem_id="masthead",
        apply_default_css=False,
    )
