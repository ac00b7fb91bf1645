"""Panel 4, Your runs, and all other ways back to a run: examples, a file, a link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.runs import SavedRun, open_run
from i4vgen.ui import layout, run_io, strings
from i4vgen.ui.components.live import live_value
from i4vgen.ui.context import AppContext, check_idle
from i4vgen.ui.errors import refusal, warn
from i4vgen.ui.examples import Example, StoredRuns
from i4vgen.ui.form import FIELDS, Form, from_query
from i4vgen.ui.queueing import IN_TURN, QUICK
from i4vgen.ui.remembering import ADD, FORGET, RECALL, REMEMBER, WATCH, RememberedRun, entry
from i4vgen.ui.run_io import OpenedRun
from i4vgen.ui.state import AnimationSet
from i4vgen.ui.visitors import current_visitor

RUN_FILES = (".json", ".zip", ".mp4", ".gif", ".png", ".webp")
"""What a run can be opened by: its own files, and pictures and videos that say how they were made."""

RUN = "run"
"""The parameter of a link that names a finished run which the server may still have."""

WRITE_LINK = """(run, ...values) => {
  const query = new URLSearchParams();
  FIELDS.forEach((name, i) => values[i] !== null && values[i] !== "" && query.set(name, values[i]));
  if (run) query.set("run", run);
  const theme = new URLSearchParams(location.search).get("__theme");
  if (theme) query.set("__theme", theme);
  history.replaceState(null, "", "?" + query);
}""".replace("FIELDS", f"{list(FIELDS)}")

COPY_LINK = """async () => {
  const button = document.getElementById("copy-link"), words = button.textContent;
  await navigator.clipboard.writeText(location.href);
  button.textContent = "COPIED";
  setTimeout(() => { button.textContent = words; }, 1500);
}"""


class HistoryPanel:
    """Draws panel 4, empty.

    Attributes:
        memory: What the browser remembers, as far as the page shows it: a list of `entry(...)`, newest first.
        newest: The runs that the browser is to remember, newest first.
    """

    def __init__(self, context: AppContext) -> None:
        self.context = context
        with layout.panel(4, strings.RUNS, strings.RUNS_HINT, "runs"):
            self.memory = gr.JSON([], visible=False)
            self.newest = gr.JSON(visible=False)
            self.recall = gr.Button(visible="hidden", elem_id="recall")
            with gr.Row(elem_classes="tools"):
                self.file = gr.UploadButton(
                    strings.OPEN_RUN, file_types=[*RUN_FILES], size="sm", elem_id="open-run"
                )
                self.copy = gr.Button(strings.COPY_LINK, size="sm", elem_id="copy-link")
                self.forget = gr.Button(strings.FORGET, size="sm", visible=False, elem_id="forget")
            self.gallery = layout.cards(strings.RUNS, "history", visible=False)

    # What it shows

    @property
    def outputs(self) -> list[Component]:
        """What `show_memory` fills."""
        return [self.memory, self.gallery, self.forget]

    def show_memory(self, memory: list) -> dict:
        """The thumbnails of what is remembered."""
        cards, known = [], []
        for item in memory[:REMEMBER] if isinstance(memory, list) else []:
            try:  # it comes from the browser, where another version or another app may have written it
                run = RememberedRun.model_validate(item)
                settings = run.settings
                words = strings.run_caption(settings.prompt, settings.seed, settings.model)
                cards.append((run.thumbnail(), words))
            except (ValueError, OSError):
                continue
            known.append(run.model_dump())
        return {
            self.memory: known,
            self.gallery: gr.update(value=cards, visible=bool(cards)),
            self.forget: gr.update(visible=bool(cards)),
        }

    # Ways back

    def connect(
        self, demo: gr.Blocks, examples: list[Example], offered: gr.Dataset, stored: StoredRuns
    ) -> None:
        """Connects everything that brings a run back.

        Args:
            demo: The page, for what it begins with.
            examples: In the order of the dataset.
            offered: The dataset that offers them.
            stored: Opens their runs.
        """
        self.examples, self.offered, self.stored = examples, offered, stored
        context, form = self.context, set(self.context.form.values())
        page = self.page
        in_browser: dict[str, Any] = {"api_visibility": "private"}
        demo.load(None, None, None, js=WATCH, **in_browser)
        demo.load(None, self.memory, self.memory, js=RECALL, **in_browser).success(
            self.on_load, {self.memory, *form}, [*page, *self.outputs], **IN_TURN
        )
        events = (
            (offered.click, self.on_example, offered),
            (self.gallery.select, self.on_history, self.memory),
            (self.file.upload, self.on_file, self.file),
        )
        for opens, handler, given in events:
            self.write_link(opens(handler, {given, context.phase, *form}, page, **IN_TURN))
        self.copy.click(None, None, None, js=COPY_LINK.replace("COPIED", strings.COPIED), **in_browser)
        # Whatever is started now is another run than the one in the address.
        starts = [*context.drawing.triggers, *context.animating.triggers]
        self.write_link(gr.on(starts, lambda: "", None, context.run_token, **QUICK))
        outputs = [context.animations, context.run_token, self.newest]
        remembered = context.animated.success(self.remember, {context.animations}, outputs, **IN_TURN)
        self.write_link(remembered)
        self.write_link(context.kept)
        for changed in (
            remembered.success(None, [self.newest, self.memory], self.memory, js=ADD, **in_browser),
            context.collected.change(None, [context.collected, self.memory], self.memory, js=ADD, **in_browser),
            self.forget.click(None, None, self.memory, js=FORGET, **in_browser),
            self.recall.click(None, self.memory, self.memory, js=RECALL, **in_browser),
        ):
            changed.success(self.show_memory, self.memory, self.outputs, **IN_TURN)

    @property
    def page(self) -> list[Component]:
        """Everything on the page that a run restores."""
        context = self.context
        states = [context.candidate_set, context.selection, context.animations, context.run_token]
        views = (context.form_view, context.candidates_view, context.video_view)
        shown = [component for view in views for component in view.outputs]
        return [*states, *shown, context.candidates_status, context.animating.go]

    def write_link(self, event: Dependency) -> None:
        """After the event, the address bar says what the page shows."""
        inputs = [self.context.run_token, *self.context.form.values()]
        event.success(None, inputs, None, js=WRITE_LINK, api_visibility="private")

    def on_load(self, values: dict, http: gr.Request) -> dict:
        """What the page begins with: what the link says, else the first stored example."""
        query, form = dict(http.query_params), self.context.read_form(values)
        remembered = self.show_memory(values[self.memory])
        token = query.get(RUN)
        if saved := self.context.run_store.open(token):
            shown = self.show_saved(saved, form, strings.RESTORED)
            return shown | remembered | {self.context.run_token: token}
        given, bad = from_query(query)
        changes = self.show_settings(given, form) if given else {}
        if bad:
            gr.Warning(strings.BAD_LINK.format(names=", ".join(bad)))
        if given or bad or self.stored.first is None:
            return changes | remembered
        # The form says the same already, and somebody may be typing in it.
        return self.show_result(self.stored.open(self.stored.first), strings.STORED) | remembered

    def on_example(self, values: dict) -> dict:
        """An example fills the form and shows what became of it."""
        check_idle(values[self.context.phase])
        example, form = self.examples[values[self.offered]], self.context.read_form(values)
        if example.run is None:
            return self.show_settings({"prompt": example.prompt, "seed": example.seed}, form)
        return self.show_opened(self.stored.open(example.run), form, strings.STORED)

    def on_history(self, values: dict, event: gr.SelectData) -> dict:
        """A run that this browser remembers; its settings alone, where it has expired on the server."""
        check_idle(values[self.context.phase])
        item, form = values[self.memory][event.index], self.context.read_form(values)
        saved = self.context.run_store.open(item["run"])
        if saved is None:
            gr.Info(strings.GONE)
            return self.show_settings(item["settings"], form)
        return self.show_saved(saved, form, strings.RESTORED) | {self.context.run_token: item["run"]}

    def on_file(self, values: dict) -> dict:
        """A run.json, a packed run, or a picture or video of one."""
        check_idle(values[self.context.phase])
        path, form = values[self.file], self.context.read_form(values)
        try:
            run = open_run(path)
            if not run.is_recipe:
                return self.show_saved(run, form, strings.RESTORED)
            token = self.context.run_store.find(run.file, current_visitor())
            if kept := self.context.run_store.open(token):
                return self.show_saved(kept, form, strings.RESTORED) | {self.context.run_token: token}
            gr.Info(strings.recipe_opened(run.file.anchor_reason, run.anchor_index))
            return self.show_saved(run, form, strings.RESTORED)
        except InvalidInputError as error:
            raise refusal(str(error).replace(path, Path(path).name), strings.NO_RUN) from error

    def show_settings(self, given: Mapping[str, object], form: Form) -> dict:
        """The form with these settings; everything else on the page stays."""
        try:
            return self.context.form_view.show(form.with_values(given))
        except (ModelError, InvalidInputError) as error:
            raise refusal(str(error), strings.CHECK_FORM) from error

    def show_saved(self, saved: SavedRun, form: Form, words: str) -> dict:
        """The page as the run left it. Raises `gr.Error` for a run that cannot be read or shown."""
        try:
            return self.show_opened(OpenedRun.of(saved), form, words)
        except (ModelError, InvalidInputError) as error:
            raise refusal(str(error), strings.NO_RUN) from error

    def show_opened(self, opened: OpenedRun, form: Form, words: str) -> dict:
        """Form, candidates, choice, videos and figures of a run."""
        run = opened.run
        compare = run.compare if run.file.says_compare else form.compare
        asked = Form.of_run(run.config, run.spec, compare)
        return self.context.form_view.show(asked) | self.show_result(opened, words)

    def show_result(self, opened: OpenedRun, words: str) -> dict:
        """Everything but the form. A run.json alone has none of it: then all stays."""
        context = self.context
        candidate_set, selection, animation = opened.candidate_set, opened.selection, opened.animation
        if not candidate_set.candidates and animation is None:
            return {}
        animations = AnimationSet((animation,) if animation else ())
        states = {
            context.candidate_set: candidate_set,
            context.selection: selection,
            context.animations: animations,
            context.run_token: "",
        }
        shown = context.candidates_view.show(candidate_set, selection) | context.video_view.show(animations)
        status = {context.candidates_status: live_value(words)}
        return (
            states | shown | status | {context.animating.go: context.offer_animation(candidate_set, selection)}
        )

    # Remembering

    def remember(self, values: dict) -> dict:
        """Finished runs are kept on the server, and their thumbnails in this browser."""
        context, animations = self.context, values[self.context.animations]
        newest, kept = [], list(animations.animations)
        for at in sorted(range(len(kept)), key=lambda at: at == animations.kept_at):
            animation = kept[at]
            if animation.result is None:
                continue
            try:
                token = context.run_store.keep(partial(run_io.pack_animation, animation), current_visitor())
            except InvalidInputError as error:
                warn(str(error))
                break
            kept[at] = replace(animation, token=token)
            settings = Form.of_run(animation.config, animation.spec, animation.compare).values()
            newest.insert(0, entry(token, animation.result.frames[-1], settings))
        animations = replace(animations, animations=tuple(kept))
        token = animations.kept.token if animations.kept else ""
        return {context.animations: animations, context.run_token: token, self.newest: newest}
