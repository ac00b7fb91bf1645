"""What the panels share: the app's runtime, the states of a tab, and how a run is started and ended.

A panel registers here what the others need of it: the buttons of its run, and how it shows a state (`View`).
So no panel knows another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.generation_config import GenerationConfig
from i4vgen.pipeline import Anchor
from i4vgen.runtime import Runtime, StopToken
from i4vgen.ui import strings
from i4vgen.ui.components.live import LiveView, live_value
from i4vgen.ui.errors import failure, refusal
from i4vgen.ui.form import SETTINGS, Form
from i4vgen.ui.limits import Budget
from i4vgen.ui.models import OfferedModels
from i4vgen.ui.prompt_queue import PromptQueue
from i4vgen.ui.queueing import IN_TURN, ON_DEVICE, QUICK
from i4vgen.ui.run_store import RunStore
from i4vgen.ui.state import AnchorSelection, AnimationSet, Baselines, CandidateSet, make_anchors, settled
from i4vgen.ui.stops import Stops

FORGET_AFTER = 24 * 3600
"""Seconds after which candidates and videos that nobody touched are forgotten, even if their tab is open."""

SHOW_PANEL = "() => document.getElementById('{}').scrollIntoView({{behavior: 'smooth', block: 'nearest'}})"

SAVE_FILE = """(file) => {
  const link = document.createElement("a");
  [link.href, link.download] = [file.url, file.orig_name];
  link.click();
}"""


@dataclass(frozen=True)
class RunButtons:
    """The buttons of one of the two runs. Which of them is seen depends on its phase.

    Attributes:
        name: What the tab's phase is called while it runs; also the panel that the page scrolls to.
        triggers: The events that start it.
    """

    name: str
    go: gr.Button
    stop: gr.Button
    leave: gr.Button
    triggers: Sequence[Callable]

    def in_phase(self, phase: str) -> dict:
        """phase: "go" (can be started), "off" (not now), "waiting" (queued) or "running"."""
        return {
            self.go: gr.update(visible=phase in ("go", "off"), interactive=phase == "go"),
            self.stop: gr.update(visible=phase == "running"),
            self.leave: gr.update(visible=phase == "waiting"),
        }

    @property
    def all(self) -> list[gr.Button]:
        return [self.go, self.stop, self.leave]


@dataclass(frozen=True)
class View:
    """How a panel shows a state of the tab.

    Attributes:
        outputs: The components that it fills.
        show: Called with the state, returns their updates.
    """

    outputs: Sequence[Component]
    show: Callable[..., dict]


@dataclass(frozen=True)
class Tab:
    """What a tab's states and its form say when an event fires."""

    candidate_set: CandidateSet
    selection: AnchorSelection
    baselines: Baselines
    form: Form


class AppContext:
    """One for the whole app: what belongs to a tab is in the states.

    A run goes through three events: a check that answers at once (and keeps the page as it is if something
    is wrong), the run itself in the queue, and the return to idle, which also follows a failure.

    Attributes:
        models: Which models the app runs.
        budget: What runs cost, and which the app makes.
        run_store: Finished runs, for as long as the server keeps them.
        prompts: Those that wait without anybody waiting for them; None where they cannot.
        form: The components of the settings form, by the names of `form.FIELDS`.
        drawing, animating: The buttons of the two runs.
        several: Where several prompts are queued.
        collected: The finished runs of queued prompts that the page has just learnt of, the newest first.
        form_view: Shows a `Form`.
        candidates_view: Shows a `CandidateSet` with an `AnchorSelection`.
        candidates_status: Says how far the candidates are.
        video_view: Shows an `AnimationSet`.
        animated: The event that ends an animation.
        kept: The event that keeps another one of several.
        run_token: The token of the run on the page, or an empty text.
    """

    form: Mapping[str, Component]
    drawing: RunButtons
    animating: RunButtons
    several: gr.Accordion
    collected: gr.JSON
    form_view: View
    candidates_view: View
    candidates_status: LiveView
    video_view: View
    animated: Dependency
    kept: Dependency

    def __init__(
        self,
        models: OfferedModels,
        run_store: RunStore,
        budget: Budget,
        prompts: PromptQueue | None = None,
    ) -> None:
        self.models = models
        self.prompts = prompts
        self.budget = budget
        self.run_store = run_store
        self.stops = Stops()
        self.candidate_set = gr.State(CandidateSet(), time_to_live=FORGET_AFTER)
        self.selection = gr.State(AnchorSelection(), time_to_live=FORGET_AFTER)
        self.animations = gr.State(AnimationSet(), time_to_live=FORGET_AFTER)
        self.baselines = gr.State(Baselines(), time_to_live=FORGET_AFTER)
        self.phase = gr.State("idle")
        self.saved = gr.File(visible="hidden")
        self.run_token = gr.Textbox(visible="hidden")  # no State, as the link is written in the browser

    # What an event is given

    @property
    def tab(self) -> list[Component]:
        """The inputs that `read_tab` reads."""
        return [self.candidate_set, self.selection, self.baselines, *self.form.values()]

    def read_form(self, values: Mapping[Component, Any]) -> Form:
        """values: what Gradio hands to an event whose inputs are a set."""
        return Form.of({name: values[component] for name, component in self.form.items()})

    def read_tab(self, values: Mapping[Component, Any]) -> Tab:
        """values: see `read_form`."""
        form = self.read_form(values)
        return Tab(values[self.candidate_set], values[self.selection], values[self.baselines], form)

    # What the page looks like in each phase

    def set_buttons(self, drawing: str = "go", animating: str = "go") -> dict:
        """The phases of the two runs, see `RunButtons.in_phase`."""
        return self.drawing.in_phase(drawing) | self.animating.in_phase(animating)

    def offer_animation(
        self, candidate_set: CandidateSet, selection: AnchorSelection, idle: bool = True
    ) -> dict:
        """The update of the button that animates. idle: whether no run is in progress."""
        count = len(make_anchors(candidate_set, selection))
        return gr.update(value=strings.animate(count), interactive=idle and count > 0)

    def to_idle(self, candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
        """No run is in progress in this tab."""
        buttons = self.set_buttons()
        buttons[self.animating.go] |= self.offer_animation(candidate_set, selection)
        return buttons | self.candidates_view.show(candidate_set, selection) | {self.phase: "idle"}

    # How a run is started and ended

    def connect_run(
        self,
        buttons: RunButtons,
        triggers: Sequence[Callable],
        check: Callable[[Tab], object],
        run: Callable[[StopToken, Tab], Iterator[dict]],
        outputs: Sequence[Component],
        status: LiveView,
        clear: Mapping[Component, object] | None = None,
    ) -> Dependency:
        """Connects a run.

        Args:
            buttons: Of this run.
            triggers: The events that start it.
            check: Raises `InvalidInputError` or `ModelError` where the run cannot be started.
            run: Yields what changes on the page, until it is done or its token is stopped.
            outputs: The components that `run` changes, besides the status.
            status: Where progress is shown.
            clear: What else changes on the page when the run is accepted.

        Returns:
            The run's event.
        """
        clear = dict(clear or {})
        this, other = ("drawing", "animating") if buttons is self.drawing else ("animating", "drawing")
        every_button = [*self.drawing.all, *self.animating.all]
        state = [self.candidate_set, self.selection]

        def before(values: dict) -> dict:
            check_idle(values[self.phase])
            try:
                check(self.read_tab(values))
            except (InvalidInputError, ModelError) as error:
                raise refusal(str(error), strings.CHECK_FORM) from error
            waiting = {status: live_value(strings.WAITING, fraction=0.0), self.phase: buttons.name}
            return self.set_buttons(**{this: "waiting", other: "off"}) | waiting | clear

        def work(values: dict, http: gr.Request) -> Iterator[dict]:
            token = self.stops.begin(http.session_hash)
            try:
                yield self.set_buttons(**{this: "running", other: "off"})
                yield from run(token, self.read_tab(values))
            except Exception as error:
                yield {status: live_value(strings.INTERRUPTED)}
                raise failure(error) from error
            finally:
                self.stops.end(http.session_hash, token)

        def leave_queue(candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
            """What was on the page before is still there."""
            return self.to_idle(candidate_set, selection) | {status: live_value(strings.LEFT_QUEUE)}

        ends = [*every_button, *self.candidates_view.outputs, self.phase]
        checked = gr.on(
            triggers,
            before,
            {self.phase, *self.tab},
            [*every_button, status, self.phase, *clear],
            **IN_TURN,
        )
        checked.success(None, js=SHOW_PANEL.format(buttons.name), api_visibility="private")
        started = checked.success(
            work,
            set(self.tab),
            [*outputs, status, *every_button],
            show_progress_on=status,
            show_progress="minimal",
            api_visibility="private",
            **ON_DEVICE,
        )
        started.success(self.to_idle, state, ends, **IN_TURN)
        started.failure(self.to_idle, state, ends, **IN_TURN)  # then() alone would not follow an error
        buttons.leave.click(leave_queue, state, [*ends, status], cancels=[started], **IN_TURN)
        return started

    def connect_save(self, button: gr.Button, make: Callable, inputs: Component | Sequence[Component]) -> None:
        """Connects a button that saves what `make(*inputs)` writes; it returns the path of a file."""
        button.click(make, inputs, self.saved, **QUICK).success(
            None, self.saved, None, js=SAVE_FILE, api_visibility="private"
        )

    def connect_stops(self) -> None:
        """The Stop buttons act within the step in progress."""
        for buttons in (self.drawing, self.animating):
            buttons.stop.click(self.on_stop, None, None, **QUICK)

    def on_stop(self, http: gr.Request) -> None:
        """Ends this tab's run."""
        self.stops.stop(http.session_hash)

    # What the form asks for

    def check_candidates(self, candidate_set: CandidateSet) -> None:
        """Whether the form could have asked for these candidates: an opened run may be of any size.

        Raises:
            InvalidInputError: It could not.
        """
        config, spec = candidate_set.asked
        self.budget.check(self.models.runtime_for(spec), config)
        _, most, _ = SETTINGS["num_inference_steps"].range
        if config.num_inference_steps > most:
            raise InvalidInputError(strings.TOO_LARGE)

    def read_run(self, form: Form, anchors: int = 1) -> tuple[Runtime, GenerationConfig]:
        """What the form asks for. anchors: how many it is asked for.

        Raises:
            InvalidInputError, ModelError: Something is missing or wrong.
        """
        runtime = self.models.runtime_for(form.spec())
        config = form.config(runtime.defaults)
        self.budget.check(runtime, config, form.compare, anchors)
        return runtime, config

    def read_animation(self, tab: Tab) -> tuple[Runtime, GenerationConfig, tuple[Anchor, ...]]:
        """What to animate, and how.

        Raises:
            InvalidInputError, ModelError: Something is missing or wrong.
        """
        form, candidate_set = tab.form, tab.candidate_set
        kept = settled(candidate_set)
        anchors = make_anchors(candidate_set, tab.selection)
        if not anchors:
            raise refusal(strings.NEEDS_ANCHOR, strings.NOT_NOW)
        if candidate_set.candidates:
            self.check_candidates(candidate_set)
            _, spec = candidate_set.asked
            form = form.with_spec(spec).with_values(kept)
        runtime, config = self.read_run(form, len(anchors))
        return runtime, replace(config, **kept), anchors


def check_idle(phase: str) -> None:
    """A run in progress must not find another page when it comes back. Raises `gr.Error`."""
    if phase != "idle":
        raise refusal(strings.BUSY, strings.NOT_NOW)
