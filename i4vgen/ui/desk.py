"""What all panels share: the states of a tab, the phases of its buttons, and how a run is started and ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, replace

import gradio as gr
from gradio.events import Dependency

from i4vgen.catalog import Choice
from i4vgen.errors import ModelError, RequestError
from i4vgen.request import Request
from i4vgen.runtime import Runtime
from i4vgen.ui import choose, imagine, offer, shelf, texts, watch
from i4vgen.ui.layout import refusal
from i4vgen.ui.library import Library
from i4vgen.ui.live import LiveView, live_value
from i4vgen.ui.queueing import CHECKED, ON_DEVICE, QUICK
from i4vgen.ui.session import Baselines, Pick, Round
from i4vgen.ui.stops import Stops

log = logging.getLogger(__name__)

FORGET_AFTER = 24 * 3600
"""Seconds after which candidates and videos that nobody touched are forgotten, even if their tab is open."""

SHOW_PANEL = "() => document.getElementById('{}').scrollIntoView({{behavior: 'smooth', block: 'nearest'}})"

SAVE_FILE = """(file) => {
  const link = document.createElement("a");
  [link.href, link.download] = [file.url, file.orig_name];
  link.click();
}"""


class Desk:
    """The panels and the states of a tab. One for the whole app: what belongs to a tab is in the states.

    A run goes through three events: a check that answers at once (and keeps the page as it is if something
    is wrong), the run itself in the queue, and the return to idle, which also follows a failure.
    """

    def __init__(
        self,
        runtime: Runtime,
        library: Library,
        asking: imagine.ImaginePanel,
        choosing: choose.ChoosePanel,
        watching: watch.WatchPanel,
        keeping: shelf.ShelfPanel,
    ) -> None:
        self.runtime = runtime
        self.library = library
        self.asking = asking
        self.choosing = choosing
        self.watching = watching
        self.keeping = keeping
        self.stops = Stops()
        self.round = gr.State(Round(), time_to_live=FORGET_AFTER)
        self.pick = gr.State(Pick(), time_to_live=FORGET_AFTER)
        self.take = gr.State(None, time_to_live=FORGET_AFTER)
        self.baselines = gr.State(Baselines(), time_to_live=FORGET_AFTER)
        self.phase = gr.State("idle")
        self.saved = gr.File(visible="hidden")
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

    # How a run is started and ended

    def connect_run(
        self,
        triggers: Sequence[Callable],
        check: Callable,
        run: Callable,
        outputs: Sequence,
        status: LiveView,
        panel: str,
        buttons: tuple[gr.Button, gr.Button, gr.Button],
        clear: dict | None = None,
    ) -> Dependency:
        """Connects a run: `check(round, pick, *settings)` refuses or prepares it, then `run(token, round, pick,
        baselines, *settings)` yields what changes on the page.

        status: where the progress is said. panel: where the page scrolls to. buttons: go, stop, leave.
        clear: what else changes on the page when the run is accepted. Returns the run's event.
        """
        clear = clear or {}
        _, stop, leave = buttons
        state = [self.round, self.pick]
        settings = self.asking.settings
        where = "draw" if buttons is self.draw_buttons else "animate"
        other = "animate" if where == "draw" else "draw"

        def before(phase: str, round_: Round, pick: Pick, *values) -> dict:
            if phase != "idle":
                raise refusal(texts.BUSY, texts.NOT_NOW)
            try:
                check(round_, pick, *values)
            except (RequestError, ModelError) as error:
                raise refusal(str(error), texts.CHECK_FORM) from error
            waiting = {status: live_value(texts.WAITING, fraction=0.0), self.phase: panel}
            return self.set_buttons(**{where: "waiting", other: "off"}) | waiting | clear

        def work(http: gr.Request, *values) -> Iterator[dict]:
            token = self.stops.begin(http.session_hash)
            try:
                yield self.set_buttons(**{where: "running", other: "off"})
                yield from run(token, *values)
            except Exception as error:
                yield {status: live_value(texts.INTERRUPTED)}
                raise failure(error) from error
            finally:
                self.stops.end(http.session_hash, token)

        def leave_queue(round_: Round, pick: Pick) -> dict:
            """The place in the queue is given up; what was on the page before is still there."""
            return self.to_idle(round_, pick) | {status: live_value(texts.LEFT_QUEUE)}

        ends = [*self.buttons, *self.choosing.view, self.phase]
        checked = gr.on(
            triggers,
            before,
            [self.phase, *state, *settings],
            [*self.buttons, status, self.phase, *clear],
            **CHECKED,
        )
        checked.success(None, js=SHOW_PANEL.format(panel), api_visibility="private")
        started = checked.success(
            work,
            [*state, self.baselines, *settings],
            [*outputs, status, *self.buttons],
            show_progress_on=status,
            show_progress="minimal",
            api_visibility="private",
            **ON_DEVICE,
        )
        started.success(self.to_idle, state, ends, **QUICK)
        started.failure(self.to_idle, state, ends, **QUICK)  # then() alone would not follow an error
        leave.click(leave_queue, state, [*ends, status], cancels=[started], **QUICK)
        return started

    def connect_save(self, button: gr.Button, make: Callable, inputs: object) -> None:
        """Connects a button that saves what `make(*inputs)` writes; it returns the path of a file."""
        button.click(make, inputs, self.saved, **CHECKED).success(
            None, self.saved, None, js=SAVE_FILE, api_visibility="private"
        )

    def connect_stops(self) -> None:
        """The Stop buttons act outside of the queue, within the step under way; so does closing the tab."""
        for _, stop, _ in (self.draw_buttons, self.animate_buttons):
            stop.click(self.on_stop, None, None, **QUICK)

    def on_stop(self, http: gr.Request) -> None:
        """Ends this tab's run: it was told to, or the tab was closed."""
        self.stops.stop(http.session_hash)

    # What the form says

    def runtime_of(self, choice: Choice) -> Runtime:
        """The runtime of a choice. Raises `RequestError` if that cannot be, or not in this app."""
        runtime = offer.runtime_of(self.runtime, choice)
        if runtime is None:
            raise RequestError(texts.OTHER_MODEL.format(model=choice.model))
        return runtime

    def check_round(self, round_: Round) -> None:
        """Raises `RequestError` for candidates that the form could not have asked for.

        A run that somebody opens may be of any size.
        """
        request, usual = round_.request, self.runtime_of(round_.choice).defaults
        too_large = request.height * request.width > 2 * usual.height * usual.width
        if too_large or request.num_inference_steps > imagine.MAX_STEPS:
            raise RequestError(texts.TOO_LARGE)

    def read(self, settings: Sequence) -> tuple[Runtime, Request]:
        """The form as a runtime and a request. Raises `gr.Error` in the words of what is wrong."""
        form = imagine.Form(*settings)
        try:
            runtime = self.runtime_of(form.choice())
            return runtime, form.request(runtime.defaults)
        except (RequestError, ModelError) as error:
            raise refusal(str(error), texts.CHECK_FORM) from error

    def animation(
        self, round_: Round, pick: Pick, settings: Sequence
    ) -> tuple[Runtime, Request, watch.Anchor, list[str]]:
        """What to animate, how, and what to compare it with. Raises `gr.Error` if something is missing or
        wrong.
        """
        anchor = watch.make_anchor(round_, pick)
        if anchor is None:
            raise refusal(texts.NEEDS_ANCHOR, texts.NOT_NOW)
        form = imagine.Form(*settings)
        if round_.candidates:  # their model, prompt and seed, whatever the form says by now
            self.check_round(round_)
            form = imagine.with_choice(form, round_.choice)
            form = replace(form, prompt=round_.request.prompt, seed=round_.request.seed)
        runtime, request = self.read(astuple(form))
        return runtime, watch.animation_request(request, round_), anchor, form.compare


def failure(error: Exception) -> gr.Error:
    """What a person is told when a run breaks. The log has the rest."""
    if isinstance(error, gr.Error):
        return error
    log.exception("a run failed")
    reason = str(error).strip() or type(error).__name__
    return gr.Error(texts.FAILED.format(error=reason.splitlines()[0]), title=texts.SORRY, print_exception=False)
