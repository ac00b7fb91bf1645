"""The app: three panels, what a browser tab remembers, and who answers to whom."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import astuple, fields, replace
from pathlib import Path

import gradio as gr

from i4vgen.catalog import Choice
from i4vgen.errors import ModelError, RequestError
from i4vgen.request import Request
from i4vgen.runtime import Runtime, get_runtime
from i4vgen.ui import choose, imagine, layout, texts, watch
from i4vgen.ui.layout import refusal
from i4vgen.ui.live import live_value
from i4vgen.ui.session import Baselines, Pick, Round
from i4vgen.ui.stops import Stops
from i4vgen.ui.theme import Studio

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples.json"

QUEUE_LIMIT = 32
"""So many runs may wait. More than that would wait longer than anybody does."""

FORGET_AFTER = 2 * 3600
"""Seconds after which an abandoned tab's candidates are forgotten."""

CLEAN_UP = (3600, 24 * 3600)
"""Every hour, media files older than a day are deleted."""

QUICK = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For events that only touch the page."""

CHECKED = QUICK | {"queue": True, "concurrency_limit": None}
"""For events that may refuse: Gradio shows messages only from its queue. Any number of these run at once."""

ON_DEVICE = {"concurrency_id": "device", "concurrency_limit": 1, "show_progress": "minimal"}
"""One run on the device at a time, whoever asked for it; Gradio's queue holds the rest in order."""

SHOW_PANEL = "() => document.getElementById('{}').scrollIntoView({{behavior: 'smooth', block: 'nearest'}})"


def build_app(runtime: Runtime, examples: Path = EXAMPLES) -> gr.Blocks:
    """The whole demo for one runtime. No weights are loaded before the first run."""
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=CLEAN_UP) as demo:
        layout.header(runtime)
        desk = Desk(
            runtime,
            imagine.build(runtime, examples),
            choose.build(runtime.defaults),
            watch.build(runtime.defaults),
        )
        desk.connect_form()
        desk.connect_draw()
        desk.connect_choice()
        desk.connect_animate()
        demo.unload(desk.on_unload)
    demo.queue(max_size=QUEUE_LIMIT)
    return demo


def launch_options() -> dict:
    """The look of the page, which Gradio takes at launch rather than when the app is built."""
    return {"theme": Studio(), "css_paths": HERE / "style.css", "footer_links": ["api", "settings"]}


class Desk:
    """Connects the panels. One for the whole app: what belongs to one tab is in the states it is given.

    A run goes through three events: a check that answers at once (and keeps the page as it is if something
    is wrong), the run itself in the queue, and the return to idle, which also follows a failure.
    """

    def __init__(
        self,
        runtime: Runtime,
        asking: imagine.ImaginePanel,
        choosing: choose.ChoosePanel,
        watching: watch.WatchPanel,
    ) -> None:
        self.runtime = runtime
        self.asking = asking
        self.choosing = choosing
        self.watching = watching
        self.stops = Stops()
        self.round = gr.State(Round(), time_to_live=FORGET_AFTER)
        self.pick = gr.State(Pick(), time_to_live=FORGET_AFTER)
        self.baselines = gr.State(Baselines(), time_to_live=FORGET_AFTER)
        self.phase = gr.State("idle")
        self.known_model = gr.State(runtime.choice.model)
        self.draw_buttons = (asking.generate, asking.stop, asking.leave)
        self.animate_buttons = (choosing.animate, choosing.stop, choosing.leave)
        self.buttons = [*self.draw_buttons, *self.animate_buttons]

    # What the page looks like in each phase

    def set_buttons(self, draw: str = "go", animate: str = "go") -> dict:
        """Phases of the two runs: "go" (can be started), "off" (not now), "waiting" (queued), "running"."""
        updates = {}
        for (go, stop, leave), phase in ((self.draw_buttons, draw), (self.animate_buttons, animate)):
            updates[go] = gr.update(visible=phase in ("go", "off"), interactive=phase == "go")
            updates[stop] = gr.update(visible=phase == "running")
            updates[leave] = gr.update(visible=phase == "waiting")
        return updates

    def show_choice(self, round_: Round, pick: Pick) -> dict:
        """The gallery and the anchor as they now stand."""
        return choose.show_choice(self.choosing, round_, pick)

    def to_idle(self, round_: Round, pick: Pick) -> dict:
        """No run is under way in this tab."""
        has_anchor = watch.make_anchor(round_, pick) is not None
        buttons = self.set_buttons(animate="go" if has_anchor else "off")
        return buttons | self.show_choice(round_, pick) | {self.phase: "idle"}

    # The form

    def connect_form(self) -> None:
        """Another model brings its own defaults; words that it does not know are named."""
        asking = self.asking
        asking.model.input(
            self.on_model, [asking.model, self.known_model], [*asking.settings, self.known_model], **CHECKED
        ).success(self.on_prompt, asking.settings, asking.note, **QUICK)
        asking.prompt.change(self.on_prompt, asking.settings, asking.note, trigger_mode="always_last", **QUICK)

    def on_model(self, model: str, known: str) -> dict:
        """Another model was chosen. If it is not to be had, the form goes back to the one before."""
        try:
            chosen = self.runtime if model == self.runtime.choice.model else get_runtime(Choice(model))
            return imagine.show_model(self.asking, chosen) | {self.known_model: model}
        except (ModelError, RequestError) as error:
            gr.Warning(str(error), title=texts.NO_MODEL)
            return {self.asking.model: known}

    def on_prompt(self, *settings) -> dict:
        """The note under the prompt."""
        form = imagine.Form(*settings)
        try:
            return imagine.show_unknown_words(self.runtime_of(form), form.prompt)
        except (ModelError, RequestError):  # said when the run is started
            return gr.update(visible=False)

    # Stage 1

    def connect_draw(self) -> None:
        """Draw candidates, stop, leave the queue."""
        asking, choosing = self.asking, self.choosing
        status, view = choosing.status, choosing.view
        check = gr.on(
            [asking.generate.click, asking.prompt.submit],
            self.before_draw,
            [self.phase, *asking.settings],
            [*self.buttons, status, self.phase],
            **CHECKED,
        )
        check.success(None, js=SHOW_PANEL.format("choose"), api_visibility="private")
        run = check.success(
            endpoint(self.draw),
            asking.settings,
            [*view, status, *self.buttons, self.round, self.pick],
            api_name="candidates",
            show_progress_on=status,
            **ON_DEVICE,
        )
        ends = [self.round, self.pick], [*self.buttons, *view, self.phase]
        run.success(self.to_idle, *ends, **QUICK)
        run.failure(self.to_idle, *ends, **QUICK)  # then() alone would not follow an error
        asking.stop.click(self.on_stop, None, None, **QUICK)
        asking.leave.click(
            self.on_leave_draw, [self.round, self.pick], [*ends[1], status], cancels=[run], **QUICK
        )

    def before_draw(self, phase, *settings) -> dict:
        """Checks the form."""
        if phase != "idle":
            raise refusal(texts.BUSY, texts.NOT_NOW)
        self.read(settings)
        waiting = {self.choosing.status: live_value(texts.WAITING, fraction=0.0), self.phase: "drawing"}
        return self.set_buttons(draw="waiting", animate="off") | waiting

    def draw(self, http: gr.Request, *settings) -> Iterator[dict]:
        """Stage 1: draws candidate images for a prompt and scores them. They appear as they are finished."""
        runtime, request = self.read(settings)
        token = self.stops.begin(http.session_hash)
        try:
            yield self.set_buttons(draw="running", animate="off")
            shown = None
            for round_, changes in choose.draw(runtime, self.choosing, request, token):
                if shown != len(round_.candidates):
                    changes = changes | self.show_choice(round_, Pick())
                    # The earlier round is forgotten when the new one has something to offer, not before:
                    # after a failure or an early stop it comes back.
                    if round_.candidates:
                        changes = changes | {self.round: round_}
                    if shown == 0:
                        changes = changes | {self.pick: Pick()}
                    shown = len(round_.candidates)
                yield changes
            if round_.candidates:  # once more, for API clients, who see the last update only
                yield changes | self.show_choice(round_, Pick())
        except Exception as error:
            yield {self.choosing.status: live_value(texts.INTERRUPTED)}
            raise failure(error) from error
        finally:
            self.stops.end(http.session_hash, token)

    def on_leave_draw(self, round_: Round, pick: Pick) -> dict:
        """The place in the queue is given up; what was on the page before is still there."""
        return self.to_idle(round_, pick) | {self.choosing.status: live_value(texts.LEFT_QUEUE)}

    # The choice

    def connect_choice(self) -> None:
        """Three ways to say which picture moves: click a card, bring a picture, go back to the best."""
        choosing = self.choosing
        outputs = [self.pick, *choosing.view, choosing.animate]
        choosing.gallery.select(self.on_click, [self.round, self.phase], outputs, **CHECKED)
        brought = [self.round, self.phase, choosing.upload, *self.asking.settings]
        choosing.upload.upload(self.on_upload, brought, outputs, **CHECKED)
        choosing.back.click(self.on_back, [self.round, self.phase], outputs, **CHECKED)

    def on_click(self, round_: Round, phase: str, event: gr.SelectData) -> dict:
        """A card of the gallery becomes the anchor."""
        return self.choose(round_, phase, Pick(position=event.index))

    def on_upload(self, round_: Round, phase: str, path: str, *settings) -> dict:
        """A picture of one's own becomes the anchor."""
        shape = round_.request or self.runtime_of(imagine.Form(*settings)).defaults
        return self.choose(round_, phase, choose.pick_upload(path, shape.height, shape.width))

    def on_back(self, round_: Round, phase: str) -> dict:
        """The best candidate is the anchor again."""
        return self.choose(round_, phase, Pick())

    def choose(self, round_: Round, phase: str, pick: Pick) -> dict:
        """Remembers a choice and shows it. An animation that is under way keeps the anchor it began with."""
        if phase == "drawing":
            raise refusal(texts.STILL_DRAWING, texts.NOT_NOW)
        ready = phase == "idle" and watch.make_anchor(round_, pick) is not None
        animate = {self.choosing.animate: gr.update(interactive=ready)}
        return {self.pick: pick} | self.show_choice(round_, pick) | animate

    # Stage 2

    def connect_animate(self) -> None:
        """Animate the anchor, stop, leave the queue."""
        asking, choosing, watching = self.asking, self.choosing, self.watching
        state = [self.round, self.pick]
        check = choosing.animate.click(
            self.before_animate,
            [self.phase, *state, *asking.settings],
            [*self.buttons, watching.live, self.phase],
            **CHECKED,
        )
        check.success(None, js=SHOW_PANEL.format("watch"), api_visibility="private")
        run = check.success(
            endpoint(self.animate, "round_", "pick", "baselines"),
            [*state, self.baselines, *asking.settings],
            [watching.player, watching.live, *self.buttons, self.baselines],
            api_name="animate",
            show_progress_on=watching.live,
            **ON_DEVICE,
        )
        ends = state, [*self.buttons, *choosing.view, self.phase]
        run.success(self.to_idle, *ends, **QUICK)
        run.failure(self.to_idle, *ends, **QUICK)  # then() alone would not follow an error
        choosing.stop.click(self.on_stop, None, None, **QUICK)
        choosing.leave.click(self.on_leave_animate, state, [*ends[1], watching.live], cancels=[run], **QUICK)

    def before_animate(self, phase, round_: Round, pick: Pick, *settings) -> dict:
        """Checks that there is something to animate."""
        if phase != "idle":
            raise refusal(texts.BUSY, texts.NOT_NOW)
        self.animation(round_, pick, settings)
        waiting = {self.watching.live: live_value(texts.WAITING, fraction=0.0), self.phase: "animating"}
        return self.set_buttons(draw="off", animate="waiting") | waiting

    def animate(
        self, http: gr.Request, round_: Round, pick: Pick, baselines: Baselines, *settings
    ) -> Iterator[dict]:
        """Stage 2: animates the anchor of this session (its best candidate unless another was picked).

        Gives the I4VGen video and what it is to be compared with, of the same prompt and seed.
        """
        runtime, request, anchor, compare = self.animation(round_, pick, settings)
        token = self.stops.begin(http.session_hash)
        try:
            yield self.set_buttons(draw="off", animate="running")
            run = watch.animate(runtime, self.watching, request, anchor, compare, baselines, token)
            for known, changes in run:
                if known is not baselines:
                    baselines = known
                    changes = changes | {self.baselines: known}
                yield changes
        except Exception as error:
            yield {self.watching.live: live_value(texts.INTERRUPTED)}
            raise failure(error) from error
        finally:
            self.stops.end(http.session_hash, token)

    def on_leave_animate(self, round_: Round, pick: Pick) -> dict:
        """The place in the queue is given up."""
        return self.to_idle(round_, pick) | {self.watching.live: live_value(texts.LEFT_QUEUE)}

    # Shared

    def on_stop(self, http: gr.Request) -> None:
        """Outside of the queue, so that it acts within the step under way."""
        self.stops.stop(http.session_hash)

    def on_unload(self, http: gr.Request) -> None:
        """The tab was closed: nobody waits for its run any more."""
        self.stops.stop(http.session_hash)

    def runtime_of(self, form: imagine.Form) -> Runtime:
        """The runtime of the model that the form names. Raises `RequestError` if that cannot be."""
        choice = form.choice()
        return self.runtime if choice == self.runtime.choice else get_runtime(choice)

    def read(self, settings: tuple) -> tuple[Runtime, Request]:
        """The form as a runtime and a request. Raises `gr.Error` in the words of what is wrong."""
        form = imagine.Form(*settings)
        try:
            runtime = self.runtime_of(form)
            return runtime, form.request(runtime.defaults)
        except (RequestError, ModelError) as error:
            raise refusal(str(error), texts.CHECK_FORM) from error

    def animation(
        self, round_: Round, pick: Pick, settings: tuple
    ) -> tuple[Runtime, Request, watch.Anchor, list[str]]:
        """What to animate, how, and what to compare it with. Raises `gr.Error` if something is missing or
        wrong.
        """
        anchor = watch.make_anchor(round_, pick)
        if anchor is None:
            raise refusal(texts.NEEDS_ANCHOR, texts.NOT_NOW)
        form = imagine.Form(*settings)
        if round_.candidates:  # their model, prompt and seed, whatever the form says by now
            form = imagine.with_choice(form, round_.choice)
            form = replace(form, prompt=round_.request.prompt, seed=round_.request.seed)
        runtime, request = self.read(astuple(form))
        return runtime, watch.animation_request(request, round_), anchor, form.compare


def endpoint(method: Callable, *states: str) -> Callable:
    """A method of the desk with the parameters that the API is to show: the fields of the form."""

    def run(http: gr.Request, *values):
        yield from method(http, *values)

    names = [*states, *(field.name for field in fields(imagine.Form))]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = inspect.Parameter("http", kind, annotation=gr.Request)
    run.__signature__ = inspect.Signature([first, *(inspect.Parameter(name, kind) for name in names)])
    run.__doc__ = method.__doc__
    return run


def failure(error: Exception) -> gr.Error:
    """What a person is told when a run breaks. The log has the rest."""
    if isinstance(error, gr.Error):
        return error
    log.exception("a run failed")
    reason = str(error).strip() or type(error).__name__
    return gr.Error(texts.FAILED.format(error=reason.splitlines()[0]), title=texts.SORRY, print_exception=False)
