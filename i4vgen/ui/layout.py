"""The frame that every panel shares, and the page's header."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from i4vgen.runtime import Runtime
from i4vgen.ui import strings


@contextmanager
def panel(number: int, title: str, hint: str, elem_id: str) -> Iterator[gr.Column]:
    """A numbered card with a heading."""
    # The class is not called "panel": that name belongs to Gradio's own columns, which take it off again.
    with gr.Column(elem_classes="step", elem_id=elem_id) as column:
        gr.HTML(
            f'<div class="step-head"><span class="number" aria-hidden="true">{number}</span>'
            f"<h2>{title}</h2><p>{hint}</p></div>",
            apply_default_css=False,
        )
        yield column


def cards(label: str, elem_id: str, visible: bool = True) -> gr.Gallery:
    """Pictures with words under them, to be clicked."""
    return gr.Gallery(
        label=label,
        show_label=False,
        columns=None,
        height="auto",
        format="png",
        allow_preview=False,
        interactive=False,
        buttons=[],
        fit_columns=False,
        visible=visible,
        elem_id=elem_id,
        elem_classes="cards",
    )


def header(runtime: Runtime, opening: str = "") -> gr.HTML:
    """The name, what it is, and what it runs on. opening: HTML of what it does, before any word of it."""
    d = runtime.defaults
    facts = [
        html.escape(runtime.entry.title),
        f"{d.width} \u00d7 {d.height} px",
        f"{d.num_frames} frames",
        runtime.device.upper(),
    ]
    paper = f'<a href="{strings.PAPER_URL}" target="_blank" rel="noopener">{strings.PAPER}</a>'
    return gr.HTML(
        f'<header class="masthead"><div class="name"><h1>{strings.TITLE}</h1>'
        f'<p class="tagline">{strings.TAGLINE}</p></div>{opening}'
        f'<p class="lead">{strings.LEAD} {paper}</p>'
        f'<ul class="facts" aria-label="Model">{"".join(f"<li>{fact}</li>" for fact in facts)}</ul></header>',
        elem_id="masthead",
        apply_default_css=False,
    )
