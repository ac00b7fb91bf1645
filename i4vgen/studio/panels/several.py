"""Several prompts, in panel 1: a box of prompts to queue, and the list of queued prompts.

The server runs them even if the page is closed (`prompt_queue`). The browser stores the prompts and the names
of their runs. Its pages poll the server for them and add the finished runs to the history.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from contextlib import suppress

import gradio as gr
from gradio.components import Component

from i4vgen.bounds import shown
from i4vgen.errors import InvalidInputError, ModelError, StorageError
from i4vgen.serving.jobs.job import Place, QueueFullError
from i4vgen.serving.prompt_queue import PromptQueue
from i4vgen.studio import layout, run_io, strings
from i4vgen.studio.captions import prompt_warnings
from i4vgen.studio.components.queue import QueueList, QueueRow, queue_value
from i4vgen.studio.context import AppContext, read_form
from i4vgen.studio.errors import log_for_operator, refusal, words_of
from i4vgen.studio.form import Form
from i4vgen.studio.queueing import IN_BROWSER, QUICK
from i4vgen.studio.remembering import REMEMBER, RememberedPrompt, remembered_run
from i4vgen.studio.scripts import call
from i4vgen.studio.session import visitor_of

ASK_EVERY = 2.5
"""Seconds between two polls while this browser has queued prompts."""

MOST_LINES = 4 * REMEMBER
"""Maximum number of lines queued at once, and of queued prompts in one poll."""

COLLECT_AT_ONCE = 4
"""Maximum number of finished runs that one poll opens for their thumbnails. The next poll opens more."""

HINT = (
    "Each line becomes a run of its own, with the settings that the form has when you queue it, and the best "
    "candidate. Go on working here, or close the page: finished runs appear in your history. The queue "
    "survives a restart of the server."
)
NOT_HERE = (
    "This server provides a GPU only while your page is open, so prompts cannot be queued. To queue them, run "
    "the studio on a device of your own, or give a file of prompts to <code>python -m i4vgen batch</code>."
)


class SeveralPanel:
    """The box and the list, in their accordion in panel 1.

    Attributes:
        known: The queued prompts that this browser stores: a list of `RememberedPrompt`s as JSON types.
        collected: The finished runs (`Page.collected`).
        changes: The prompts that the browser has to store (`added`) and the names it has to delete (`over`).
    """

    def __init__(self, context: AppContext, accordion: gr.Accordion, form: Mapping[str, Component]) -> None:
        """Draws the panel.

        Args:
            context: The services of the app.
            accordion: The accordion for the box and the list.
            form: The settings form (`Page.form`).
        """
        self.context, self.accordion, self.form = context, accordion, form
        self.known = gr.JSON([], visible="hidden")
        self.changes = gr.JSON(visible="hidden")
        self.collected = gr.JSON([], visible="hidden")
        self.look = gr.Button(visible="hidden", elem_id="look")
        self.come_back = gr.Button(visible="hidden", elem_id="come-back")
        self.timer = gr.Timer(ASK_EVERY, active=False)
        offered = context.prompts is not None
        with accordion:
            words = HINT if offered else NOT_HERE
            gr.HTML(f"<p>{words}</p>", elem_classes="hint", apply_default_css=False)
            self.lines = gr.Textbox(
                label="Prompts, one on a line",
                placeholder="a rocket rising in a starry night\na whale coming closer by the sea",
                lines=4,
                max_lines=10,
                visible=offered,
                elem_id="queue-lines",
            )
            with gr.Row(elem_classes="tools", visible=offered):
                self.queue = layout.tool("Queue these prompts", "queue-them", visible=True)
                self.leave = layout.tool("Take all out of the queue", "leave-all")
                self.again = layout.tool("Back into the box", "again")
            self.said = gr.HTML("", visible=False, elem_classes="note", apply_default_css=False)
            self.list = QueueList(elem_id="queue")

    @property
    def prompts(self) -> PromptQueue:
        """The queue of prompts.

        Raises:
            LookupError: Prompts cannot be queued on this server. The page has no button for it then.
        """
        if self.context.prompts is None:
            raise LookupError("prompts cannot be queued here")
        return self.context.prompts

    def connect(self, demo: gr.Blocks) -> None:
        """Connects the box and the list."""
        if self.context.prompts is None:
            return
        form, plain = set(self.form.values()), self.context.handlers.for_visitor
        demo.load(None, None, None, js=call("openQueue"), **IN_BROWSER)
        remembers = {"inputs": self.changes, "outputs": self.known, "js": call("changeQueue")}
        for looks, handler in (
            ([self.timer.tick, self.look.click], self.on_look),
            ([self.come_back.click], self.on_come_back),
        ):
            looked = gr.on(looks, plain(handler), self.known, self.outputs, js=call("recallQueue"), **QUICK)
            looked.success(None, **remembers, **IN_BROWSER)
        for event, handler, inputs in (
            (self.queue.click, self.on_queue, {self.lines, *form}),
            (self.list.select, self.on_leave, None),
            (self.leave.click, self.on_leave_all, self.known),
            (self.again.click, self.on_again, [self.known, self.lines]),
        ):
            changed = event(plain(handler), inputs, [self.changes, self.lines, self.said], **QUICK)
            remembered = changed.success(None, **remembers, **IN_BROWSER)
            remembered.success(plain(self.on_look), self.known, self.outputs, **QUICK)

    # Display

    @property
    def outputs(self) -> list[Component | gr.Accordion]:
        """The components that a poll updates."""
        shown = [self.list, self.leave, self.again, self.timer, self.changes]
        return [self.accordion, self.collected, *shown]

    def on_come_back(self, request: gr.Request, known: list) -> dict:
        """Updates the list like a poll, and opens the accordion if the list has entries."""
        changes = self.on_look(request, known)
        is_open = changes[self.list] is not None
        return changes | {self.accordion: changes[self.accordion] | ({"open": True} if is_open else {})}

    def on_look(self, _request: gr.Request, known: list) -> dict:
        """Updates the list and collects finished runs."""
        rows, finished, over, more = [], [], [], False
        remembered = read_known(known)
        places = self.prompts.places_of([each.run for each in remembered])
        for each in remembered:
            place = places.get(each.run)
            if place is None and len(finished) == COLLECT_AT_ONCE and self.context.run_store.path(each.run):
                more = True
            elif place is None and (done := self.find_finished(each.run)):
                finished.insert(0, done)
                over.append(each.run)
            else:
                rows.append(QueueRow(each.run, each.prompt, place or Place(None)))
        return self.show(rows, more) | {self.collected: finished, self.changes: {"over": over}}

    def find_finished(self, run: str) -> dict | None:
        """Returns the history's entry of a run; None if the run is not finished or cannot be opened.

        Args:
            run: The name of the run.
        """
        try:
            saved = self.context.run_store.open(run)
            if saved is None:
                return None
            settings = Form.of_run(saved.config, saved.spec, saved.compare, self.context.models).values()
            return remembered_run(run, run_io.last_frame(saved), settings)
        except (InvalidInputError, ModelError, LookupError):
            return None

    def show(self, rows: list[QueueRow], more: bool) -> dict:
        """Returns the updates of the list, its buttons, the heading and the timer.

        Args:
            rows: The rows of the list.
            more: Whether there are further finished runs to collect.
        """
        places = [row.place for row in rows if row.place.position is not None]
        times = [place.seconds_left for place in places]
        label = strings.SEVERAL
        if places:
            label += f": {len(places)} queued"
            known = [seconds for seconds in times if seconds is not None]
            label += f", {strings.seconds_left(max(known))}" if len(known) == len(times) else ""
        return {
            self.accordion: gr.update(label=label),
            self.list: queue_value(rows),
            self.leave: gr.update(visible=len(places) > 1),
            self.again: gr.update(visible=len(rows) > len(places)),
            self.timer: gr.update(active=more or bool(places)),
        }

    # Events

    def on_queue(self, request: gr.Request, values: dict) -> dict:
        """Queues the lines with the settings of the form. Refused lines stay in the box."""
        form = read_form(self.form, values)
        prompts = read_lines(values[self.lines])
        if not prompts:
            raise refusal("Write a prompt on each line first.", strings.CHECK_FORM)
        if len(prompts) > MOST_LINES:
            words = f"{MOST_LINES} lines is the most at once. For more, give a file to python -m i4vgen batch."
            raise refusal(words, strings.CHECK_FORM)
        try:
            runtime = self.context.plan_run(form.with_values({"prompt": "-"})).runtime
        except (InvalidInputError, ModelError) as error:
            raise refusal(words_of(error), strings.CHECK_FORM) from error
        added, kept, notes = [], [], []
        for number, prompt in enumerate(prompts):
            try:
                run = self.add(visitor_of(request), form, prompt, [each["prompt"] for each in added])
            except (QueueFullError, StorageError) as error:
                log_for_operator(error, "a prompt was not queued")
                kept += prompts[number:]
                notes.append(html.escape(words_of(error)))
                break
            except (InvalidInputError, ModelError) as error:
                kept.append(prompt)
                notes.append(note(prompt, html.escape(words_of(error))))
            else:
                added.append({"run": run, "prompt": prompt})
                notes += [note(prompt, warning) for warning in prompt_warnings(runtime, prompt)]
        said = summary(len(added), len(kept), notes)
        return {self.changes: {"added": added}, self.lines: "\n".join(kept), self.said: said}

    def add(self, visitor: str, form: Form, prompt: str, before: list[str]) -> str:
        """Queues a line with the settings of the form.

        Args:
            visitor: The visitor.
            form: The form.
            prompt: The line.
            before: The lines that the same click has queued already.

        Returns:
            The name of the run.

        Raises:
            InvalidInputError: The line is in `before`, a setting is invalid, or the run exceeds a limit.
            ModelError: The model's files are missing, damaged or of an unsupported kind.
            QueueFullError: The queue of the visitor or of the server is full.
            StorageError: The prompt cannot be stored.
        """
        if prompt in before:
            raise InvalidInputError("this line is there twice")
        plan = self.context.plan_run(form.with_values({"prompt": prompt}))
        self.context.budget.check_time(plan)
        return self.prompts.add(plan, visitor)

    def on_leave(self, _request: gr.Request, event: gr.EventData) -> dict:
        """Removes one prompt from the queue."""
        return self.remove([event.value])

    def on_leave_all(self, _request: gr.Request, known: list) -> dict:
        """Removes all prompts of this browser from the queue."""
        return self.remove([each.run for each in read_known(known)])

    def on_again(self, _request: gr.Request, known: list, lines: str) -> dict:
        """Moves failed and lost prompts back into the box."""
        remembered = read_known(known)
        places = self.prompts.places_of([each.run for each in remembered])
        runs = self.context.run_store
        failed = [
            each
            for each in remembered
            if (places[each.run].position is None if each.run in places else runs.path(each.run) is None)
        ]
        box = "\n".join([*read_lines(lines), *(each.prompt for each in failed)])
        return self.remove([each.run for each in failed]) | {self.lines: box}

    def remove(self, runs: list[str]) -> dict:
        """Removes prompts from the queue and from the browser's storage."""
        self.prompts.leave(runs)
        return {self.changes: {"over": runs}, self.said: gr.update(visible=False)}


def read_lines(text: str | None) -> list[str]:
    """Returns the prompts in the box."""
    lines = [line.strip() for line in (text or "").splitlines()]
    return [line for line in lines if line]


def read_known(known: object) -> list[RememberedPrompt]:
    """Reads the queued prompts that a browser stores. Skips invalid entries, because they are untrusted."""
    found = {}
    for item in known[:MOST_LINES] if isinstance(known, list) else []:
        with suppress(ValueError):
            prompt = RememberedPrompt.model_validate(item)
            found[prompt.run] = prompt
    return list(found.values())


def note(prompt: str, words: str) -> str:
    """Returns a note about a line (HTML).

    Args:
        prompt: The line.
        words: The text of the note as HTML.
    """
    return f"<bdi>{html.escape(shown(prompt))}</bdi>: {words}"


def summary(queued: int, kept: int, notes: list[str]) -> dict:
    """Returns the update that shows how many lines were queued and how many stay in the box.

    Args:
        queued: The number of queued lines.
        kept: The number of lines that stay in the box.
        notes: The notes about lines as HTML.
    """
    words = [f"{queued} prompt{'s are' if queued != 1 else ' is'} queued."] if queued else []
    if kept:
        stay = (
            "1 line could not be queued and stays"
            if kept == 1
            else f"{kept} lines could not be queued and stay"
        )
        words.append(f"{stay} in the box.")
    items = "".join(f"<li>{note}</li>" for note in notes)
    more = f"<ul>{items}</ul>" if items else ""
    return gr.update(value=f'<div class="said" role="status">{" ".join(words)}{more}</div>', visible=True)
