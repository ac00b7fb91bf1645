"""What all panels share: the states of a tab, the phases of its buttons, and how a run is started and ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, replace

import gradio as gr
from gradio.events import Dependency

from i4vgen.catalog import ModelSpec
from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.generation_config import GenerationConfig
from i4vgen.runtime import Runtime
from i4vgen.ui import choose, imagine, offer, shelf, texts, watch
from i4vgen.ui.layout import refusal
from i4vgen.ui.library import Library
from i4vgen.ui.live import LiveView, live_value
from i4vgen.ui.queueing import CHECKED, ON_DEVICE, QUICK
from i4vgen.ui.session import AnchorSelection, Baselines, CandidateSet
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


class AppContext:
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
        self.candidate_set = gr.State(CandidateSet(), time_to_live=FORGET_AFTER)
        self.selection = gr.State(AnchorSelection(), time_to_live=FORGET_AFTER)
        self.animation = gr.State(None, time_to_live=FORGET_AFTER)
        self.baselines = gr.State(Baselines(), time_to_live=FORGET_AFTER)
        self.phase = gr.State("idle")
        self.saved = gr.File(visible="hidden")
        self.known_model = gr.State(runtime.spec.model)
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

    def show_choice(self, candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
        """The gallery and the anchor as they now stand."""
        return choose.show_choice(self.choosing, candidate_set, selection)

    def to_idle(self, candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
        """No run is under way in this tab."""
        has_anchor = watch.make_anchor(candidate_set, selection) is not None
        buttons = self.set_buttons(animate="go" if has_anchor else "off")
        return buttons | self.show_choice(candidate_set, selection) | {self.phase: "idle"}

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
        """Connects a run: `check(candidate_set, selection, *settings)` refuses or prepares it, then `run(token,
        candidate_set, selection, baselines, *settings)` yields what changes on the page.

        status: where the progress is said. panel: where the page scrolls to. buttons: go, stop, leave.
        clear: what else changes on the page when the run is accepted. Returns the run's event.
        """
        clear = clear or {}
        _, stop, leave = buttons
        state = [self.candidate_set, self.selection]
        settings = self.asking.settings
        where = "draw" if buttons is self.draw_buttons else "animate"
        other = "animate" if where == "draw" else "draw"

        def before(phase: str, candidate_set: CandidateSet, selection: AnchorSelection, *values) -> dict:
            if phase != "idle":
                raise refusal(texts.BUSY, texts.NOT_NOW)
            try:
                check(candidate_set, selection, *values)
            except (InvalidInputError, ModelError) as error:
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

        def leave_queue(candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
            """The place in the queue is given up; what was on the page before is still there."""
            return self.to_idle(candidate_set, selection) | {status: live_value(texts.LEFT_QUEUE)}

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

    def runtime_of(self, spec: ModelSpec) -> Runtime:
        """The runtime of a choice. Raises `InvalidInputError` if that cannot be, or not in this app."""
        runtime = offer.runtime_of(self.runtime, spec)
        if runtime is None:
            raise InvalidInputError(texts.OTHER_MODEL.format(model=spec.model))
        return runtime

    def check_candidates(self, candidate_set: CandidateSet) -> None:
        """Raises `InvalidInputError` for candidates that the form could not have asked for.

        A run that somebody opens may be of any size.
        """
        config, usual = candidate_set.config, self.runtime_of(candidate_set.spec).defaults
        too_large = config.height * config.width > 2 * usual.height * usual.width
        if too_large or config.num_inference_steps > imagine.MAX_STEPS:
            raise InvalidInputError(texts.TOO_LARGE)

    def read(self, settings: Sequence) -> tuple[Runtime, GenerationConfig]:
        """The form as a runtime and a request. Raises `gr.Error` in the words of what is wrong."""
        form = imagine.Form(*settings)
        try:
            runtime = self.runtime_of(form.spec())
            return runtime, form.config(runtime.defaults)
        except (InvalidInputError, ModelError) as error:
            raise refusal(str(error), texts.CHECK_FORM) from error

    def read_animation(
        self, candidate_set: CandidateSet, selection: AnchorSelection, settings: Sequence
    ) -> tuple[Runtime, GenerationConfig, watch.Anchor, list[str]]:
        """What to animate, how, and what to compare it with. Raises `gr.Error` if something is missing or
        wrong.
        """
        anchor = watch.make_anchor(candidate_set, selection)
        if anchor is None:
            raise refusal(texts.NEEDS_ANCHOR, texts.NOT_NOW)
        form = imagine.Form(*settings)
        if candidate_set.candidates:  # their model, prompt and seed, whatever the form says by now
            self.check_candidates(candidate_set)
            form = imagine.with_spec(form, candidate_set.spec)
            form = replace(form, prompt=candidate_set.config.prompt, seed=candidate_set.config.seed)
        runtime, config = self.read(astuple(form))
        return runtime, watch.animation_config(config, candidate_set), anchor, form.compare


def failure(error: Exception) -> gr.Error:
    """What a person is told when a run breaks. The log has the rest."""
    if isinstance(error, gr.Error):
        return error
    log.exception("a run failed")
    reason = str(error).strip() or type(error).__name__
    return gr.Error(texts.FAILED.format(error=reason.splitlines()[0]), title=texts.SORRY, print_exception=False)
