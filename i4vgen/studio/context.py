"""The app's services and the parts of the page that panels share. No panel imports another."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
from anyio.to_thread import run_sync
from gradio.components import Component
from gradio.events import Dependency

from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.serving.budget import Budget, RunPlan
from i4vgen.serving.jobs.job import Handle, Job, Place
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.middleware import OpenStreams
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.pace import RunClock
from i4vgen.serving.prompt_queue import PromptQueue
from i4vgen.serving.runtime import StopToken
from i4vgen.storage.run_store import RunStore
from i4vgen.studio import strings
from i4vgen.studio.animating import reusable
from i4vgen.studio.components.live import LiveView, live_value
from i4vgen.studio.errors import failure, failure_words, refusal, words_of
from i4vgen.studio.form import SETTINGS, Form
from i4vgen.studio.handlers import Handlers
from i4vgen.studio.queueing import AT_ONCE, IN_BROWSER, QUICK
from i4vgen.studio.recipes import Recipes
from i4vgen.studio.scripts import call
from i4vgen.studio.session import IDLE, Session, Sessions, SubmittedRun
from i4vgen.studio.state import AnchorSelection, Baselines, CandidateSet, fixed_settings, make_anchors

WAITING = "Waiting for the device\u2026"


@dataclass(frozen=True)
class RunButtons:
    """The buttons of one of the two kinds of run. The phase of the run decides which are visible.

    Attributes:
        name: The id of the panel that the page scrolls to, and `Session.phase` until the run is over.
        go: Starts the run.
        stop: Stops the run.
        leave: Takes the run out of the queue.
        triggers: The events that start the run.
    """

    name: str
    go: gr.Button
    stop: gr.Button
    leave: gr.Button
    triggers: Sequence[Callable]

    def in_phase(self, phase: str) -> dict:
        """Returns the updates of the buttons for a phase.

        Args:
            phase: "go" (can start), "off" (cannot start), "waiting" (queued) or "running".
        """
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
    """The display of a part of the tab's state.

    Attributes:
        outputs: The components that `show` updates.
        show: Returns the updates for a state.
    """

    outputs: Sequence[Component]
    show: Callable[..., dict]


@dataclass(frozen=True)
class Tab:
    """The state of a tab and its form at the time of an event."""

    candidate_set: CandidateSet
    selection: AnchorSelection
    baselines: Baselines
    form: Form


@dataclass(frozen=True)
class StartedRun:
    """A run that a tab has started.

    Attributes:
        plan: The plan of the run.
        tab: The tab at the start of the run.
        session: The session that the run updates.
        token: Stops the run.
        clock: Measures the run.
    """

    plan: RunPlan
    tab: Tab
    session: Session
    token: StopToken
    clock: RunClock


@dataclass(frozen=True)
class PageRun:
    """A run that a tab can start.

    Attributes:
        buttons: The buttons that start and stop the run.
        status: The view that shows the run's progress.
        plan: Plans the run. Raises `InvalidInputError`, `ModelError` or `gr.Error` if it cannot be started.
        steps: Yields the page updates, until the run is done or its token is stopped.
        begin: Returns the updates, besides the candidates, for a page that starts to follow the run.
        end: Returns further updates at the end of the run, also if it fails or is refused.
    """

    buttons: RunButtons
    status: LiveView
    plan: Callable[[Tab], RunPlan]
    steps: Callable[[StartedRun], Iterator[dict]]
    begin: Callable[[Session], dict] = lambda _session: {}
    end: Callable[[Session], dict] = lambda _session: {}


class AppContext:
    """The services of the app. The state of a tab is in its `Session`.

    Attributes:
        prompts: The queued prompts; None if a run needs the visitor's page to stay open.
        saved: The hidden component that holds the file to download.
        tab: The hidden component with the tab's token and form values, which the browser keeps.
        run_token: The hidden component with the token of the run on the page, or an empty string.
        in_progress: The hidden component with whether a run was in progress when the page was loaded.
    """

    def __init__(
        self,
        models: OfferedModels,
        run_store: RunStore,
        budget: Budget,
        jobs: JobQueue | None = None,
        prompts: PromptQueue | None = None,
        streams: OpenStreams | None = None,
        recipes: Recipes | None = None,
    ) -> None:
        self.models = models
        self.jobs = JobQueue(budget.limits) if jobs is None else jobs
        self.prompts = prompts
        self.budget = budget
        self.run_store = run_store
        self.streams = streams or OpenStreams()
        self.recipes = recipes or Recipes()
        self.sessions = Sessions()
        self.handlers = Handlers(self.sessions)
        self.saved = gr.File(visible="hidden")
        self.tab = gr.JSON(visible="hidden")
        self.run_token = gr.Textbox(visible="hidden")  # rendered: the browser writes it into the link
        self.in_progress = gr.Checkbox(visible="hidden")

    def offer_animation(
        self, candidate_set: CandidateSet, selection: AnchorSelection, idle: bool = True
    ) -> dict:
        """Returns the update of the button that animates.

        Args:
            candidate_set: The candidates.
            selection: The selected anchors.
            idle: Whether no run is in progress.
        """
        count = len(make_anchors(candidate_set, selection))
        return gr.update(value=strings.animate(count), interactive=idle and count > 0)

    def connect_save(self, button: gr.Button, make: Callable[[Session], str]) -> None:
        """Connects a button that downloads a file.

        Args:
            button: The button.
            make: Writes the file for the tab and returns its path.
        """
        saved = button.click(self.handlers.for_tab(make), None, self.saved, **QUICK)
        saved.success(None, self.saved, None, js=call("saveFile"), **IN_BROWSER)

    def on_stop(self, request: gr.Request) -> None:
        """Stops this tab's run."""
        if (run := self.handlers.session_of(request).run) is not None:
            run.handle.stop()

    def check_candidates(self, candidate_set: CandidateSet) -> None:
        """Checks that the form could have asked for these candidates. Those of opened runs may be of any size.

        Raises:
            InvalidInputError: The run exceeds a limit, or the app does not offer its model.
            ModelError: The model's files are missing, damaged or of an unsupported kind.
            LookupError: There has been no run yet.
        """
        config, spec = candidate_set.request
        self.budget.check(RunPlan(self.models.runtime_for(spec), config))
        _, most, _ = SETTINGS["num_inference_steps"].range
        if config.num_inference_steps > most:
            raise InvalidInputError(
                "This run has more steps than the form allows. Its settings are in the form: draw again."
            )

    def plan_run(self, form: Form, anchors: int = 1) -> RunPlan:
        """Plans and checks a run from the prompt to the videos.

        Args:
            form: The settings.
            anchors: The number of anchors to animate.

        Raises:
            InvalidInputError: A setting is missing or invalid, or the run exceeds a limit.
            ModelError: The model's files are missing, damaged or of an unsupported kind.
        """
        runtime = self.models.runtime_for(form.spec())
        plan = replace(RunPlan.whole(runtime, form.config(runtime.defaults), form.compare), anchors=anchors)
        self.budget.check(plan)
        return plan

    def plan_animation(self, tab: Tab) -> RunPlan:
        """Plans and checks the animation of the tab's anchors.

        Raises:
            InvalidInputError: A setting is missing or invalid, or the run exceeds a limit.
            ModelError: The model's files are missing, damaged or of an unsupported kind.
            gr.Error: The tab has no anchor.
        """
        form, candidate_set = tab.form, tab.candidate_set
        fixed = fixed_settings(candidate_set)
        anchors = make_anchors(candidate_set, tab.selection)
        if not anchors:
            raise refusal("Choose an anchor first: draw candidates or upload an image.")
        if candidate_set.candidates:
            self.check_candidates(candidate_set)
            _, spec = candidate_set.request
            form = form.with_spec(self.models.runtime_for(spec).spec).with_values(fixed)
        plan = self.plan_run(form.with_values({"animate_best": 1}), len(anchors))  # each anchor is a run
        plan = replace(plan, config=replace(plan.config, **fixed), draws=0)
        known = reusable(plan, anchors[0], tab.baselines).clips
        return replace(plan, reused=[name for name in plan.compare if name in known])


@dataclass(frozen=True)
class Page:
    """The parts of the page that several panels use.

    A run has two events. The first checks it at once and leaves the page unchanged if it is refused. The second
    submits it as a job and follows it. The job outlives that event.

    Attributes:
        context: The services of the app.
        form: The components of the settings form by field name (`form.FIELDS`).
        drawing: The buttons of the run that draws candidates.
        animating: The buttons of the run that animates.
        collected: The finished runs of queued prompts that the page has just received, newest first.
        form_view: Shows a `Form`.
        candidates_view: Shows a `CandidateSet` with an `AnchorSelection`.
        candidates_status: Shows the progress of the candidates.
        video_view: Shows an `AnimationSet`.
        runs: The last connected run of each kind, by the name of its buttons.
        starts: The events that check and follow a run that its buttons start, by the name of the buttons.
        run_outputs: The components that runs update.
    """

    context: AppContext
    form: Mapping[str, Component]
    drawing: RunButtons
    animating: RunButtons
    collected: gr.JSON
    form_view: View
    candidates_view: View
    candidates_status: LiveView
    video_view: View
    runs: dict[str, PageRun] = field(default_factory=dict)
    starts: dict[str, tuple[Dependency, Dependency]] = field(default_factory=dict)
    run_outputs: dict[Component, None] = field(default_factory=dict)

    @property
    def every_button(self) -> list[gr.Button]:
        return [*self.drawing.all, *self.animating.all]

    def read_tab(self, session: Session, values: Mapping[Component, Any]) -> Tab:
        """Returns the tab for an event, from the values of its input components."""
        return Tab(session.candidate_set, session.selection, session.baselines, read_form(self.form, values))

    def set_phases(self, buttons: RunButtons | None = None, phase: str = "go") -> dict:
        """Returns the updates that put one run's buttons into a phase and disable the other run's.

        Args:
            buttons: The buttons of the run; None if all runs can be started.
            phase: The phase (`RunButtons.in_phase`).
        """
        changes = {}
        for each in (self.drawing, self.animating):
            changes |= each.in_phase("go" if buttons is None else phase if each is buttons else "off")
        return changes

    def to_idle(self, session: Session) -> dict:
        """Returns the updates for a tab with no run in progress."""
        changes = self.set_phases()
        changes[self.animating.go] |= self.context.offer_animation(session.candidate_set, session.selection)
        return changes | self.candidates_view.show(session.candidate_set, session.selection)

    def show_end(self, session: Session, run: PageRun) -> dict:
        """Returns the updates at the end of a run, whether it is done, fails or is refused."""
        return self.to_idle(session) | run.end(session)

    def connect_run(
        self,
        run: PageRun,
        triggers: Sequence[Callable],
        outputs: Sequence[Component],
        clear: Mapping[Component, object] | None = None,
    ) -> Dependency:
        """Connects a run to the events that start it.

        Args:
            run: The run.
            triggers: The events that start the run.
            outputs: The components that the run updates, besides the status, the buttons and the candidates.
            clear: Further updates when the run is accepted.

        Returns:
            The event that follows the run.
        """
        clear = dict(clear or {})
        form = set(self.form.values())
        self.runs[run.buttons.name] = run

        def check(session: Session, values: dict) -> dict:
            check_idle(session)
            try:
                self.context.budget.check_time(run.plan(self.read_tab(session, values)))
            except (InvalidInputError, ModelError) as error:
                raise refusal(words_of(error), strings.CHECK_FORM) from error
            waiting = {run.status: live_value(WAITING, fraction=0.0)}
            return self.set_phases(run.buttons, "waiting") | waiting | clear

        async def work(values: dict, request: gr.Request) -> AsyncIterator[dict]:
            session = self.context.handlers.session_of(request)
            try:
                async with session.lock:
                    await run_sync(self.submit, session, run, values)
            except gr.Error as refused:
                yield await run_sync(self.show_end, session, run) | {run.status: live_value(refused.message)}
                raise
            async for changes in self.follow(session, run, request):
                yield changes

        checked = gr.on(
            triggers,
            self.context.handlers.for_tab(check),
            form,
            [*self.every_button, run.status, *clear],
            **QUICK,
        )
        checked.success(None, js=call("scrollToPanel", run.buttons.name), **IN_BROWSER)
        shown = dict.fromkeys([*outputs, run.status, *self.every_button, *self.candidates_view.outputs])
        self.run_outputs.update(shown)
        shows_progress: dict[str, Any] = {"show_progress_on": run.status, "show_progress": "minimal"}
        followed = checked.success(work, form, [*shown], **shows_progress, **AT_ONCE, **IN_BROWSER)
        if triggers is run.buttons.triggers:
            self.starts[run.buttons.name] = checked, followed
        return followed

    def submit(self, session: Session, run: PageRun, values: dict) -> None:
        """Submits a run of a tab.

        Raises:
            gr.Error: The run is refused.
        """
        check_idle(session)
        tab = self.read_tab(session, values)
        try:
            plan = run.plan(tab)
            clock = self.context.budget.clock(plan)

            def start(token: StopToken) -> Iterator[dict]:
                shown: dict = {}
                for changes in run.steps(StartedRun(plan, tab, session, token, clock)):
                    shown = shown | changes  # a new dict: listeners may read the previous one
                    yield shown

            handle = self.context.jobs.submit(Job(session.visitor, start, clock))
        except (InvalidInputError, ModelError) as error:
            raise refusal(words_of(error)) from error
        session.run = SubmittedRun(handle, run.buttons.name)

    def connect_return(self, loaded: Dependency) -> Dependency:
        """Connects the event that follows a run again on a reloaded page, after the event `loaded`."""
        outputs = [*self.run_outputs]
        hidden: dict[str, Any] = {"show_progress": "hidden", **AT_ONCE, **IN_BROWSER}
        return loaded.success(self.follow_again, self.context.in_progress, outputs, **hidden)

    async def follow_again(self, in_progress: bool, request: gr.Request) -> AsyncIterator[dict]:
        """Follows the tab's run again if the page shows it as in progress. It may have ended since."""
        session = self.context.handlers.session_of(request)
        if session.run is None or not in_progress:
            yield gr.skip()
            return
        async for changes in self.follow(session, self.runs[session.run.panel], request):
            yield changes

    async def follow(self, session: Session, run: PageRun, request: gr.Request) -> AsyncIterator[dict]:
        """Yields the page updates of the session's run until it ends.

        Each update has the whole values of all changed components, because the page may draw only the last
        update. Until the run is over, it also has a beat, which shows the page that updates still arrive.

        Raises:
            gr.Error: The run fails.
        """
        if session.run is None:
            return
        handle = session.run.handle
        shown = self.candidates_view.show(session.candidate_set, session.selection) | run.begin(session)
        try:
            async for place in handle.updates(lambda: self.context.streams.has_listener(request.session_hash)):
                shown |= self.show_run(handle, place, run)
                if place.position is None:
                    shown |= await run_sync(self.show_end, session, run)
                else:
                    shown[run.status] = shown[run.status] | {"beat": time.monotonic()}
                yield {component: copy(value) for component, value in shown.items()}  # Gradio edits updates
        except Exception as error:
            shown |= await run_sync(self.show_end, session, run)
            yield shown | {run.status: live_value(failure_words(error))}
            raise failure(error) from error

    def last_words(self, session: Session) -> dict:
        """Returns the update with the final status of the tab's last run; empty if there is none."""
        if session.run is None or not session.run.handle.is_over:
            return {}
        handle, run = session.run.handle, self.runs[session.run.panel]
        if handle.error is not None:
            return {run.status: live_value(failure_words(handle.error))}
        return {run.status: self.show_run(handle, handle.place, run)[run.status]}

    def show_run(self, handle: Handle, place: Place, run: PageRun) -> dict:
        """Returns the updates for a run that is queued, in progress or over."""
        if isinstance(handle.snapshot, dict):
            return self.set_phases(run.buttons, "running") | handle.snapshot
        if place.position is None:
            left = "You left the queue. Your candidates and videos are unchanged."
            return {run.status: live_value(left)}
        phase, words = "running", strings.STARTING
        if place.position:
            phase, words = "waiting", f"{WAITING} Position {place.position}"
            if place.seconds_left is not None:
                words += f", {strings.seconds_left(place.seconds_left)}"
        return self.set_phases(run.buttons, phase) | {run.status: live_value(words, fraction=0.0)}

    def connect_stops(self) -> None:
        """Connects the buttons that stop a run or take it out of the queue."""
        for buttons in (self.drawing, self.animating):
            for button in (buttons.stop, buttons.leave):
                button.click(self.context.handlers.for_visitor(self.context.on_stop), None, None, **QUICK)


def read_form(form: Mapping[str, Component], values: Mapping[Component, Any]) -> Form:
    """Reads the settings form (`Page.form`) from the values of an event's input components."""
    return Form.of({name: values[component] for name, component in form.items()})


def check_idle(session: Session) -> None:
    """Checks that no run is queued or in progress, because a run relies on the page's state until it ends.

    Raises:
        gr.Error: A run is queued or in progress.
    """
    if session.phase != IDLE:
        raise refusal("A run is still in progress. Wait for it to finish or stop it first.")
