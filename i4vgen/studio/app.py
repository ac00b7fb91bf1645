"""Builds the page from its panels, and the options to launch it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from i4vgen.bounds import MAX_JSON
from i4vgen.bundled import EXAMPLES
from i4vgen.serving.budget import Budget
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.limits import PRIVATE, Limits
from i4vgen.serving.middleware import (
    AlwaysAnswered,
    BoundedBodies,
    ClosedRoutes,
    OpenStreams,
    OwnPagesOnly,
    SafeHeaders,
    StreamWatch,
)
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.prompt_queue import PromptQueue
from i4vgen.serving.runtime import Runtime, Runtimes
from i4vgen.storage.run_store import RunStore
from i4vgen.studio import layout, scripts, strings
from i4vgen.studio.api import endpoints
from i4vgen.studio.context import AppContext, Page
from i4vgen.studio.examples import StoredRuns, read_examples
from i4vgen.studio.files import CLEAN_EVERY, MAX_AGE
from i4vgen.studio.opening import before_and_after
from i4vgen.studio.panels.candidates import CandidatesPanel
from i4vgen.studio.panels.history import HistoryPanel
from i4vgen.studio.panels.prompt import PromptPanel
from i4vgen.studio.panels.several import SeveralPanel
from i4vgen.studio.panels.video import VideoPanel
from i4vgen.studio.queueing import MAX_EVENTS, MAX_WAITING
from i4vgen.studio.recipes import Recipes
from i4vgen.studio.session import SESSIONS
from i4vgen.studio.theme import Studio
from i4vgen.studio.upstream import NO_SELF_CHECK, refuse_bad_values

HERE = Path(__file__).parent


def build_app(
    runtime: Runtime,
    examples: Path = EXAMPLES,
    run_store: RunStore | None = None,
    allowed: Collection[str] | None = None,
    limits: Limits = PRIVATE,
    metadata: bool = True,
    runtimes: Runtimes | None = None,
    streams: OpenStreams | None = None,
) -> gr.Blocks:
    """Builds the app. No weights are loaded before the first run.

    Args:
        runtime: The model that the page starts with.
        examples: A JSON file in the format of `read_examples`.
        run_store: Stores finished runs. By default a new `RunStore`.
        allowed: The folders and hub ids that visitors may also name; None for any (`OfferedModels`).
        limits: Limits on the runs of visitors.
        metadata: Whether the app's files record how they were made.
        runtimes: The runtimes of the other models. By default they are made in this process.
        streams: The streams that clients hold open, the same object as in `launch_options`.
    """
    recipes = Recipes(metadata)
    run_store, models = run_store or RunStore(), OfferedModels(runtime, allowed, runtimes)
    budget, jobs, streams = Budget(limits), JobQueue(limits, runtime.at_once), streams or OpenStreams()
    prompts = PromptQueue(jobs, run_store, budget, models, metadata) if runtime.unattended else None
    known = read_examples(examples)
    stored = StoredRuns(known, recipes)
    opening = before_and_after(stored.open(stored.first).animation, recipes) if stored.first else ""
    with gr.Blocks(title=strings.TITLE, analytics_enabled=False, delete_cache=(CLEAN_EVERY, MAX_AGE)) as demo:
        layout.header(runtime, opening)
        context = AppContext(models, run_store, budget, jobs, prompts, streams, recipes)
        prompt = PromptPanel(context, known)
        several = SeveralPanel(context, prompt.several, prompt.form)
        candidates = CandidatesPanel(context, prompt.form, prompt.buttons)
        video = VideoPanel(context)
        page = Page(
            context,
            form=prompt.form,
            drawing=prompt.buttons,
            animating=candidates.buttons,
            collected=several.collected,
            form_view=prompt.view,
            candidates_view=candidates.view,
            candidates_status=candidates.status,
            video_view=video.view,
        )
        history = HistoryPanel(context, page, known, prompt.examples, stored)

        prompt.connect()
        several.connect(demo)
        candidates.connect(page)
        animated, kept = video.connect(page)
        history.connect(demo, animated, kept)
        page.connect_stops()
        endpoints.register(models, run_store, budget, recipes, jobs, streams, context.handlers.slots)
    refuse_bad_values(demo)
    # Runs wait in `jobs` and clicks in `Slots`, so Gradio's own queue is nearly always empty and its time
    # estimates are hidden.
    demo.queue(status_update_rate=3600, api_open=False, max_size=MAX_WAITING)
    if prompts is not None:
        prompts.resume()
    return demo


def launch_options(
    allowed_origins: Collection[str] = (),
    private: bool = False,
    largest_upload: int = PRIVATE.largest_upload,
    streams: OpenStreams | None = None,
    run_store: RunStore | None = None,
) -> dict:
    """Returns Gradio's launch arguments: the look of the page, its scripts, middleware and limits.

    Args:
        allowed_origins: Further origins whose pages may send requests and embed the app, such as
            https://example.org.
        private: Whether only the owner may reach the app (`OwnPagesOnly`).
        largest_upload: Maximum size of an uploaded file in bytes.
        streams: The streams that clients hold open, the same object as in `build_app`.
        run_store: The finished runs and the queue, the same object as in `build_app`. Gradio would serve their
            files, because it serves the folder around them.
    """
    middleware = [
        Middleware(SafeHeaders, allowed_origins),
        Middleware(BoundedBodies, largest_upload + MAX_JSON),  # plus the envelope of the upload
        Middleware(ClosedRoutes),
        Middleware(OwnPagesOnly, allowed_origins, private),
        Middleware(AlwaysAnswered),
        Middleware(StreamWatch, streams or OpenStreams()),
    ]
    return {
        "app_kwargs": {"middleware": middleware},
        "max_file_size": largest_upload,
        "blocked_paths": [str(run_store.root)] if run_store else [],
        "max_threads": MAX_EVENTS,
        "state_session_capacity": SESSIONS,
        "enable_monitoring": False,  # every visitor could open it
        "run_history": False,  # the page has its own
        "show_error": True,  # otherwise clients do not get the messages of Gradio's own refusals
        "theme": Studio(),
        "css_paths": HERE / "style.css",
        "head": scripts.head(),
        "js": (HERE / "page.js").read_text(encoding="utf-8"),
        "footer_links": ["api", "settings"],
    } | NO_SELF_CHECK
