"""The app: four panels, and who answers to whom."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from i4vgen.bundled import EXAMPLES
from i4vgen.runtime import Runtime
from i4vgen.ui import (
    animating,
    api,
    asking,
    choose,
    curating,
    drawing,
    imagine,
    layout,
    reopening,
    shelf,
    texts,
    watch,
)
from i4vgen.ui.context import AppContext
from i4vgen.ui.library import Library
from i4vgen.ui.opening import before_and_after
from i4vgen.ui.theme import Studio

HERE = Path(__file__).parent

QUEUE_LIMIT = 32
"""So many runs may wait. More than that would wait longer than anybody does."""

CLEAN_UP = (3600, 24 * 3600)
"""Every hour, media files older than a day are deleted."""


def build_app(runtime: Runtime, examples: Path = EXAMPLES, library: Library | None = None) -> gr.Blocks:
    """The whole demo for one runtime. No weights are loaded before the first run.

    library: where finished runs are kept.
    """
    library = library or Library()
    known = imagine.read_examples(examples)
    stored = reopening.Stored(known)
    opening = before_and_after(stored.open(stored.first).animation) if stored.first else ""
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=CLEAN_UP) as demo:
        layout.header(runtime, opening)
        context = AppContext(
            runtime,
            library,
            imagine.build(runtime, known),
            choose.build(),
            watch.build(),
            shelf.build(),
        )
        asking.connect(context)
        drawing.connect(context)
        curating.connect(context)
        animating.connect(context)
        reopening.connect(context, demo, stored)
        context.connect_stops()
        api.register(runtime, library)
        demo.unload(context.on_stop)
    demo.queue(max_size=QUEUE_LIMIT)
    return demo


def launch_options() -> dict:
    """The look of the page, which Gradio takes at launch rather than when the app is built."""
    return {
        "theme": Studio(),
        "css_paths": HERE / "style.css",
        "js": (HERE / "page.js").read_text(encoding="utf-8"),
        "footer_links": ["api", "settings"],
    }
