"""Several prompts, in panel 1: a box of lines that are queued, and what becomes of each.

The server makes their runs whether anybody looks or not (`prompt_queue`). The browser remembers their names; a
page that knows any asks after them now and again, and puts the finished runs into its history.
"""

from __future__ import annotations

import html
from contextlib import suppress
from typing import Any

import gradio as gr
from gradio.blocks import BlockContext
from gradio.components import Component

from i4vgen.bounds import shown
from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.ui import run_io, strings
from i4vgen.ui.captions import doubts
from i4vgen.ui.components.queue import QueueList, Row, queue_value
from i4vgen.ui.context import AppContext
from i4vgen.ui.errors import refusal
from i4vgen.ui.form import Form
from i4vgen.ui.prompt_queue import Place, PromptQueue, QueueFullError
from i4vgen.ui.queueing import QUICK
from i4vgen.ui.remembering import CHANGE_QUEUE, COME_BACK, RECALL_QUEUE, REMEMBER, RememberedPrompt, entry
from i4vgen.ui.visitors import current_visitor

ASK_EVERY = 2.5
"""Seconds between two looks at the queue, for as long as prompts of this browser are in it."""

MOST_LINES = 4 * REMEMBER
"""Maximum number of lines that are looked at, and of queued prompts that a browser may ask after."""

COLLECT_AT_ONCE = 4
"""Maximum number of finished runs that one look brings, each opened for its thumbnail. The next brings more."""


class SeveralPanel:
    """Draws the box into `AppContext.several`.

    Attributes:
        known: The queued prompts that this browser remembers: a list of `RememberedPrompt`s as JSON types.
        changes: Which are to be remembered further (`added`), and the names of those that are over (`over`).
    """

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.known = gr.JSON([], visible="hidden")
        self.changes = gr.JSON(visible="hidden")
        context.collected = gr.JSON([], visible="hidden")
        self.look = gr.Button(visible="hidden", elem_id="look")
        self.come_back = gr.Button(visible="hidden", elem_id="come-back")
        self.timer = gr.Timer(ASK_EVERY, active=False)
        offered = context.prompts is not None
        with context.several:
            gr.HTML(
                f"<p>{strings.SEVERAL_HINT if offered else strings.SEVERAL_NOT_HERE}</p>",
                elem_classes="hint",
                apply_default_css=False,
            )
            self.lines = gr.Textbox(
                label=strings.SEVERAL_LINES,
                placeholder=strings.SEVERAL_PLACEHOLDER,
                lines=4,
                max_lines=10,
                visible=offered,
                elem_id="queue-lines",
            )
            with gr.Row(elem_classes="tools", visible=offered):
                self.queue = gr.Button(strings.QUEUE_THEM, size="sm", elem_id="queue-them")
                self.leave = gr.Button(strings.LEAVE_WITH_ALL, size="sm", visible=False, elem_id="leave-all")
                self.again = gr.Button(strings.BACK_INTO_BOX, size="sm", visible=False, elem_id="again")
            self.said = gr.HTML("", visible=False, elem_classes="note", apply_default_css=False)
            self.list = QueueList(elem_id="queue")

    @property
    def prompts(self) -> PromptQueue:
        """The queue. Raises `LookupError` where prompts cannot wait: the page shows no button then."""
        if self.context.prompts is None:
            raise LookupError("prompts cannot be queued here")
        return self.context.prompts

    def connect(self, demo: gr.Blocks) -> None:
        """Connects the box and the list. demo: the page, for what it begins with."""
        if self.context.prompts is None:
            return
        in_browser: dict[str, Any] = {"api_visibility": "private"}
        form = set(self.context.form.values())
        demo.load(None, None, None, js=COME_BACK, **in_browser)
        for looks, handler in (
            ([self.timer.tick, self.look.click], self.on_look),
            ([self.come_back.click], self.on_come_back),
        ):
            looked = gr.on(looks, handler, self.known, self.outputs, js=RECALL_QUEUE, **QUICK)
            looked.success(None, [self.changes, self.known], self.known, js=CHANGE_QUEUE, **in_browser)
        for event, handler, inputs in (
            (self.queue.click, self.on_queue, {self.lines, *form}),
            (self.list.select, self.on_leave, None),
            (self.leave.click, self.on_leave_all, self.known),
            (self.again.click, self.on_again, [self.known, self.lines]),
        ):
            event(handler, inputs, [self.changes, self.lines, self.said], **QUICK).success(
                None, [self.changes, self.known], self.known, js=CHANGE_QUEUE, **in_browser
            ).success(self.on_look, self.known, self.outputs, **QUICK)

    # What it shows

    @property
    def outputs(self) -> list[Component | BlockContext]:
        """What `show` fills."""
        context = self.context
        shown = [self.list, self.leave, self.again, self.timer, self.changes]
        return [context.several, context.collected, *shown]

    def on_come_back(self, known: list) -> dict:
        """The page of a browser that has queued prompts begins with them."""
        changes = self.on_look(known)
        is_open = changes[self.list] is not None
        return changes | {
            self.context.several: changes[self.context.several] | ({"open": True} if is_open else {})
        }

    def on_look(self, known: list) -> dict:
        """The list as it is now; what is finished goes into the history."""
        rows, finished, over, more = [], [], [], False
        remembered = read_known(known)
        places = self.prompts.look([each.run for each in remembered])
        for each in remembered:
            place = places.get(each.run)
            if place is None and len(finished) == COLLECT_AT_ONCE and self.context.run_store.path(each.run):
                more = True
            elif place is None and (done := self.find_finished(each.run)):
                finished.insert(0, done)
                over.append(each.run)
            else:
                rows.append(Row(each.run, each.prompt, place or Place(None, words=strings.LOST)))
        return self.show(rows, more) | {self.context.collected: finished, self.changes: {"over": over}}

    def find_finished(self, run: str) -> dict | None:
        """The entry of a run in the history; None if it cannot be had. run: its name."""
        try:
            saved = self.context.run_store.open(run)
            if saved is None:
                return None
            settings = Form.of_run(saved.config, saved.spec, saved.compare).values()
            return entry(run, run_io.last_frame(saved), settings)
        except (InvalidInputError, ModelError, LookupError):
            return None

    def show(self, rows: list[Row], more: bool) -> dict:
        """The list, its buttons, and how far it is in the heading above it.

        more: whether there is more to collect.
        """
        places = [row.place for row in rows if row.place.position is not None]
        times = [place.seconds_left for place in places]
        longest = max((seconds for seconds in times if seconds is not None), default=None)
        label = strings.several(len(places), None if None in times else longest)
        return {
            self.context.several: gr.update(label=label),
            self.list: queue_value(rows),
            self.leave: gr.update(visible=len(places) > 1),
            self.again: gr.update(visible=len(rows) > len(places)),
            self.timer: gr.update(active=more or bool(places)),
        }

    # What people do

    def on_queue(self, values: dict) -> dict:
        """Queues the lines with the settings of the form. Those that cannot be queued stay in the box."""
        form = self.context.read_form(values)
        prompts = read_lines(values[self.lines])
        if not prompts:
            raise refusal(strings.NEEDS_LINES, strings.CHECK_FORM)
        if len(prompts) > MOST_LINES:
            raise refusal(strings.too_many_lines(MOST_LINES), strings.CHECK_FORM)
        try:
            runtime, _ = self.context.read_run(form.with_values({"prompt": "-"}))
        except (InvalidInputError, ModelError) as error:
            raise refusal(str(error), strings.CHECK_FORM) from error
        added, kept, notes = [], [], []
        for at, prompt in enumerate(prompts):
            try:
                run = self.add(form, prompt, [each["prompt"] for each in added])
            except QueueFullError as error:
                kept += prompts[at:]
                notes.append(html.escape(str(error)))
                break
            except (InvalidInputError, ModelError) as error:
                kept.append(prompt)
                notes.append(note(prompt, html.escape(str(error))))
            else:
                added.append({"run": run, "prompt": prompt})
                notes += [note(prompt, doubt) for doubt in doubts(runtime, prompt)]
        heading = strings.queued(len(added), len(kept))
        return {self.changes: {"added": added}, self.lines: "\n".join(kept), self.said: say(heading, notes)}

    def add(self, form: Form, prompt: str, before: list[str]) -> str:
        """Queues a line. Returns its name.

        Args:
            form: Its settings.
            before: The lines before it.

        Raises:
            InvalidInputError, ModelError: It cannot be queued.
        """
        if prompt in before:
            raise InvalidInputError(strings.LINE_TWICE)
        runtime, config = self.context.read_run(form.with_values({"prompt": prompt}))
        self.context.budget.check_time(runtime, config, config.num_candidates, 1, form.compare)
        return self.prompts.add(runtime, config, form.compare, current_visitor())

    def on_leave(self, event: gr.EventData) -> dict:
        """Takes one out of the list."""
        self.prompts.leave([event.value])
        return {self.changes: {"over": [event.value]}, self.said: gr.update(visible=False)}

    def on_leave_all(self, known: list) -> dict:
        """Takes all out of the list."""
        runs = [each.run for each in read_known(known)]
        self.prompts.leave(runs)
        return {self.changes: {"over": runs}, self.said: gr.update(visible=False)}

    def on_again(self, known: list, lines: str) -> dict:
        """What failed or was lost goes back into the box."""
        remembered = read_known(known)
        places = self.prompts.look([each.run for each in remembered])
        runs = self.context.run_store
        failed = [
            each
            for each in remembered
            if (places[each.run].position is None if each.run in places else runs.path(each.run) is None)
        ]
        over = [each.run for each in failed]
        self.prompts.leave(over)
        box = "\n".join([*read_lines(lines), *(each.prompt for each in failed)])
        return {self.changes: {"over": over}, self.lines: box, self.said: gr.update(visible=False)}


def read_lines(text: str | None) -> list[str]:
    """The prompts in the box."""
    lines = [line.strip() for line in (text or "").splitlines()]
    return [line for line in lines if line]


def read_known(known: object) -> list[RememberedPrompt]:
    """What a browser says that it has queued: data from anybody."""
    found = {}
    for item in known[:MOST_LINES] if isinstance(known, list) else []:
        with suppress(ValueError):
            prompt = RememberedPrompt.model_validate(item)
            found[prompt.run] = prompt
    return list(found.values())


def note(prompt: str, words: str) -> str:
    """Something about a line (HTML). words: HTML."""
    return f"{html.escape(shown(prompt))}: {words}"


def say(heading: str, notes: list[str]) -> dict:
    """What became of the lines. notes: HTML."""
    items = "".join(f"<li>{note}</li>" for note in notes)
    more = f"<ul>{items}</ul>" if items else ""
    return gr.update(value=f'<div class="said" role="status">{heading}{more}</div>', visible=True)
