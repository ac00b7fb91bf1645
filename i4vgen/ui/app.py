"""The app: builds the page out of its panels."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from i4vgen.bounds import MAX_JSON
from i4vgen.bundled import EXAMPLES
from i4vgen.runtime import Runtime
from i4vgen.ui import api, layout, recipes, strings
from i4vgen.ui.answers import AlwaysAnswered
from i4vgen.ui.bodies import BoundedBodies
from i4vgen.ui.changes import lose_no_change, send_only_changes
from i4vgen.ui.closed_routes import ClosedRoutes
from i4vgen.ui.context import AppContext
from i4vgen.ui.examples import StoredRuns, read_examples
from i4vgen.ui.files import CLEAN_EVERY, MAX_AGE
from i4vgen.ui.guard import guard_events
from i4vgen.ui.headers import SafeHeaders
from i4vgen.ui.limits import PRIVATE, Budget, Limits
from i4vgen.ui.models import OfferedModels
from i4vgen.ui.opening import before_and_after
from i4vgen.ui.origins import OwnPagesOnly
from i4vgen.ui.panels.candidates import CandidatesPanel
from i4vgen.ui.panels.history import HistoryPanel
from i4vgen.ui.panels.prompt import PromptPanel
from i4vgen.ui.panels.several import SeveralPanel
from i4vgen.ui.panels.video import VideoPanel
from i4vgen.ui.prompt_queue import PromptQueue
from i4vgen.ui.run_queue import limit_runs
from i4vgen.ui.run_store import RunStore
from i4vgen.ui.theme import Studio
from i4vgen.ui.turns import take_turns

HERE = Path(__file__).parent

SESSIONS = 300
"""Number of tabs and clients that are remembered, the latest: one that shows a run takes over a megabyte."""


def build_app(
    runtime: Runtime,
    examples: Path = EXAMPLES,
    run_store: RunStore | None = None,
    allowed: Collection[str] | None = None,
    limits: Limits = PRIVATE,
    metadata: bool = True,
) -> gr.Blocks:
    """The whole demo for one runtime. No weights are loaded before the first run.

    Args:
        runtime: The model that the page begins with.
        examples: A JSON file, see `read_examples`.
        run_store: Where finished runs are kept.
        allowed: See `OfferedModels`.
        limits: Of the runs that visitors may ask for.
        metadata: Whether the files of this process say how they were made.
    """
    recipes.left_out = not metadata
    run_store, models = run_store or RunStore(), OfferedModels(runtime, allowed)
    budget = Budget(limits)
    prompts = PromptQueue(run_store, budget) if runtime.unattended else None
    known = read_examples(examples)
    stored = StoredRuns(known)
    opening = before_and_after(stored.open(stored.first).animation) if stored.first else ""
    with gr.Blocks(title=strings.TITLE, analytics_enabled=False, delete_cache=(CLEAN_EVERY, MAX_AGE)) as demo:
        layout.header(runtime, opening)
        context = AppContext(models, run_store, budget, prompts)
        prompt = PromptPanel(context, known)
        several = SeveralPanel(context)
        candidates = CandidatesPanel(context)
        video = VideoPanel(context)
        history = HistoryPanel(context)

        prompt.connect()
        several.connect(demo)
        candidates.connect()
        video.connect()
        history.connect(demo, known, prompt.examples, stored)
        context.connect_stops()
        api.register(models, run_store, budget)
    guard_events(demo)
    send_only_changes(demo)
    lose_no_change(demo)
    limit_runs(demo, limits)
    take_turns(demo, prompts)
    end_heartbeat(demo)
    return demo


def end_heartbeat(demo: gr.Blocks) -> None:
    """Lets no page hold a request open while nothing happens: browsers open six over HTTP/1.1, for all tabs
    together, and a sixth tab would never load.

    Gradio hears by it that a page has gone. A run hears it without: it is told through a request of its own.
    """
    blocks: Any = demo  # Gradio has no public way to leave it out
    with_heartbeat = blocks.get_config_file
    blocks.get_config_file = lambda: with_heartbeat() | {"connect_heartbeat": False}


def launch_options(
    allowed_origins: Collection[str] = (), private: bool = False, largest_upload: int = PRIVATE.largest_upload
) -> dict:
    """What Gradio takes at launch, not when the app is built: the look of the page, and who may do what.

    allowed_origins, private: see `OwnPagesOnly`. largest_upload: see `Limits`.
    """
    on_the_way = [
        Middleware(SafeHeaders),
        Middleware(BoundedBodies, largest_upload + MAX_JSON),  # with what is around the file
        Middleware(ClosedRoutes),
        Middleware(OwnPagesOnly, allowed_origins, private),
        Middleware(AlwaysAnswered),
    ]
    return {
        "app_kwargs": {"middleware": on_the_way},
        "max_file_size": largest_upload,
        "state_session_capacity": SESSIONS,
        "enable_monitoring": False,  # anybody could look at it
        "run_history": False,  # the page has one of its own
        "show_error": True,  # the words of Gradio's own refusals; clients would be told nothing
        "theme": Studio(),
        "css_paths": HERE / "style.css",
        "js": (HERE / "page.js").read_text(encoding="utf-8"),
        "footer_links": ["api", "settings"],
    }
