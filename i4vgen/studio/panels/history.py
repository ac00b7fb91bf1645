"""Panel 4, Your runs, and all other ways to restore a run: examples, files and links."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from i4vgen.errors import InvalidInputError, ModelError, StorageError
from i4vgen.events import PICKED, UPLOADED
from i4vgen.storage.runs import SavedRun, open_run
from i4vgen.studio import layout, run_io, strings
from i4vgen.studio.components.live import live_value
from i4vgen.studio.context import AppContext, Page, check_idle, read_form
from i4vgen.studio.errors import log_for_operator, refusal, warn, words_of
from i4vgen.studio.examples import Example, StoredRuns
from i4vgen.studio.form import FIELDS, Form, from_query
from i4vgen.studio.queueing import IN_BROWSER, QUICK
from i4vgen.studio.remembering import REMEMBER, RememberedRun, remembered_run
from i4vgen.studio.run_io import OpenedRun
from i4vgen.studio.scripts import call
from i4vgen.studio.session import IDLE, Session, visitor_of
from i4vgen.studio.state import AnimationSet

RUN_FILES = (".json", ".zip", ".mp4", ".gif", ".png", ".webp")
"""Suffixes of files that can be opened as a run: run files, and media that record how they were made."""

RUN = "run"
"""The parameter of a link that names a finished run, which the server may have deleted."""


class HistoryPanel:
    """Panel 4, initially empty.

    Attributes:
        memory: The runs that the browser stores, newest first, in the format of `remembered_run`.
        newest: The runs that the browser is about to store, in the same order and format.
    """

    def __init__(
        self,
        context: AppContext,
        page: Page,
        examples: Sequence[Example],
        offered: gr.Dataset,
        stored: StoredRuns,
    ) -> None:
        """Draws the panel.

        Args:
            context: The services of the app.
            page: The parts of the page that a run restores.
            examples: The examples, in the order of the dataset.
            offered: The dataset component with the examples.
            stored: Opens the runs of the examples.
        """
        self.context, self.page = context, page
        self.examples, self.offered, self.stored = examples, offered, stored
        title = "Your runs"
        hint = (
            "Kept in this browser. To restore a run, open it, or drop its file or video anywhere on the page."
        )
        with layout.panel(4, title, hint, "runs"):
            self.memory = gr.JSON([], visible=False)
            self.newest = gr.JSON(visible=False)
            self.recall = gr.Button(visible="hidden", elem_id="recall")
            with gr.Row(elem_classes="tools"):
                self.file = gr.UploadButton(
                    "Open a run or one of its files", file_types=[*RUN_FILES], size="sm", elem_id="open-run"
                )
                self.copy = layout.tool("Copy the link to this page", "copy-link", visible=True)
                self.forget = layout.tool("Forget all", "forget")
            self.gallery = gr.Gallery(
                label=title,
                show_label=False,
                columns=None,
                height="auto",
                format="png",
                allow_preview=False,
                interactive=False,
                buttons=[],
                fit_columns=False,
                visible=False,
                elem_id="history",
                elem_classes="cards",
            )

    # Display

    @property
    def outputs(self) -> list[Component]:
        """The components that `show_memory` updates."""
        return [self.memory, self.gallery, self.forget]

    def show_memory(self, memory: list) -> dict:
        """Returns the updates that show the runs that the browser stores, without unreadable entries."""
        cards, known = [], []
        for item in memory[:REMEMBER] if isinstance(memory, list) else []:
            try:  # another version or app may have stored it
                run = RememberedRun.model_validate(item)
                settings = run.settings
                words = f"{settings.prompt}\nseed {settings.seed} \u00b7 {settings.model}"
                cards.append((run.thumbnail(), words))
            except ValueError:
                continue
            known.append(run.model_dump())
        return {
            self.memory: known,
            self.gallery: gr.update(value=cards, visible=bool(cards)),
            self.forget: gr.update(visible=bool(cards)),
        }

    # Restoring runs

    def connect(self, demo: gr.Blocks, animated: Dependency, kept: Dependency) -> None:
        """Connects the events that restore runs, store them and write the page's link.

        Args:
            demo: The page.
            animated: The event that follows an animation until it ends.
            kept: The event that chooses which of several animations to keep.
        """
        context, page, form = self.context, self.page, set(self.page.form.values())
        for_tab, plain = context.handlers.for_tab, context.handlers.for_visitor
        demo.load(None, None, None, js=call("watchStorage"), **IN_BROWSER)
        attach = demo.load(None, None, [self.memory, context.tab], js=call("attach"), **IN_BROWSER)
        loaded = attach.success(
            plain(self.on_load),
            {self.memory, context.tab, *form},
            list(dict.fromkeys([*self.restored, *self.outputs, *page.every_button, context.in_progress])),
            **QUICK,
        )
        loaded.success(None, None, None, js=call("restorePlace"), **IN_BROWSER)
        returned = page.connect_return(loaded)
        fields: list[Any] = [*page.form.values()]
        keep_form = call("keepForm", list(page.form))
        gr.on([field.change for field in fields], None, fields, None, js=keep_form, **IN_BROWSER)
        for opens, handler, given in (
            (self.offered.click, self.on_example, self.offered),
            (self.gallery.select, self.on_history, self.memory),
            (self.file.upload, self.on_file, self.file),
        ):
            self.write_link(opens(for_tab(handler), {given, *form}, self.restored, **QUICK).success)
        self.copy.click(None, None, None, js=call("copyLink"), **IN_BROWSER)
        self.write_link(kept.success)
        # A new run is not the one in the address. That one returns if the new run fails or ends without videos.
        without_run = call("writeLink", list(FIELDS), "")
        for started, _ in page.starts.values():
            started.success(None, fields, None, js=without_run, **IN_BROWSER)
        _, drawn = page.starts[page.drawing.name]
        drawn.success(plain(forget_token), None, context.run_token, **QUICK)
        self.write_link(drawn.failure)
        remembered = [self.remember_after(ended) for ended in (animated.success, animated.failure)]
        for each in remembered:
            self.write_link(each.success)
        found = self.remember_after(returned.success)
        inputs = [self.newest, context.run_token, *fields]
        new_link = call("writeNewLink", list(FIELDS))
        found.success(None, inputs, None, js=new_link, **IN_BROWSER)
        add = {"js": call("addRuns", REMEMBER), **IN_BROWSER}
        for changed in (
            *[each.success(None, self.newest, self.memory, **add) for each in (*remembered, found)],
            page.collected.change(None, page.collected, self.memory, **add),
            self.forget.click(None, None, self.memory, js=call("forgetRuns"), **IN_BROWSER),
            self.recall.click(None, None, self.memory, js=call("recallRuns"), **IN_BROWSER),
        ):
            changed.success(plain(self.on_memory), self.memory, self.outputs, **QUICK)

    @property
    def restored(self) -> list[Component]:
        """The components that opening a run updates."""
        context, page = self.context, self.page
        views = (page.form_view, page.candidates_view, page.video_view)
        shown = [component for view in views for component in view.outputs]
        return [context.run_token, *shown, page.candidates_status, page.animating.go]

    def write_link(self, then: Callable) -> None:
        """Writes the run and the form into the address bar after an event.

        Args:
            then: `success` or `failure` of the event.
        """
        inputs = [self.context.run_token, *self.page.form.values()]
        then(None, inputs, None, js=call("writeLink", list(FIELDS)), **IN_BROWSER)

    def remember_after(self, then: Callable) -> Dependency:
        """Stores the tab's new finished runs after an event.

        Args:
            then: `success` or `failure` of the event.
        """
        outputs = [self.context.run_token, self.newest]
        return then(self.context.handlers.for_tab(self.remember), None, outputs, **QUICK)

    def on_memory(self, _request: gr.Request, memory: list) -> dict:
        """Shows the stored runs after this tab or another one has changed them."""
        return self.show_memory(memory)

    def on_load(self, request: gr.Request, values: dict) -> dict:
        """Restores the tab's state, or else shows the link's run or settings, or the first example's run."""
        query, form = dict(request.query_params), read_form(self.page.form, values)
        remembered = self.show_memory(values[self.memory])
        tab = values[self.context.tab] if isinstance(values[self.context.tab], dict) else {}
        session = self.context.sessions.attach(request.session_hash, tab.get("token"))
        session.visitor = visitor_of(request)
        if not session.is_empty:
            return self.show_session(session, form, tab.get("form")) | remembered
        token = query.get(RUN)
        if saved := self.context.run_store.open(token):
            shown = self.show_saved(session, saved, form, strings.RESTORED)
            return shown | remembered | {self.context.run_token: token}
        given, bad = from_query(query)
        changes = self.show_settings(given, form) if given else {}
        if bad:
            gr.Warning(f"Some settings in the link could not be used: {', '.join(bad)}.")
        if given or bad or self.stored.first is None:
            return changes | remembered
        # The form is unchanged: it has the same values, and the visitor may be typing in it.
        return self.show_result(session, self.stored.open(self.stored.first), strings.STORED) | remembered

    def show_session(self, session: Session, form: Form, kept: object) -> dict:
        """Returns the updates that restore the page of a tab.

        Args:
            session: The state of the tab.
            form: The form on the page.
            kept: The form that the browser has stored, untrusted.
        """
        context, page, changes = self.context, self.page, {}
        if isinstance(kept, dict):
            with suppress(InvalidInputError, ModelError, TypeError, ValueError):
                changes = page.form_view.show(form.with_values(kept))
        animations = session.animations
        changes |= page.candidates_view.show(session.candidate_set, session.selection)
        changes |= page.video_view.show(animations) | page.to_idle(session)
        if (phase := session.phase) != IDLE:
            changes |= page.set_phases(page.runs[phase].buttons, "running")
        words = strings.RESTORED if session.candidate_set.candidates else strings.GALLERY_EMPTY
        token = animations.kept.token if animations.kept else ""
        changes |= {page.candidates_status: live_value(words), context.run_token: token}
        return changes | {context.in_progress: phase != IDLE} | page.last_words(session)

    def on_example(self, session: Session, values: dict) -> dict:
        """Fills the form with an example and shows its finished run, if it has one."""
        check_idle(session)
        example, form = self.examples[values[self.offered]], read_form(self.page.form, values)
        if example.run is None:
            return self.show_settings({"prompt": example.prompt, "seed": example.seed}, form)
        return self.show_opened(session, self.stored.open(example.run), form, strings.STORED)

    def on_history(self, session: Session, values: dict, event: gr.SelectData) -> dict:
        """Opens a run that the browser stores, or only its settings if the server has deleted it."""
        check_idle(session)
        item, form = values[self.memory][event.index], read_form(self.page.form, values)
        saved = self.context.run_store.open(item["run"])
        if saved is None:
            gr.Info(
                "This run has expired on the server. Its settings are in the form: the same seed gives the same"
                " run."
            )
            return self.show_settings(item["settings"], form)
        return self.show_saved(session, saved, form, strings.RESTORED) | {self.context.run_token: item["run"]}

    def on_file(self, session: Session, values: dict) -> dict:
        """Opens a run.json, a packed run, or a picture or video of a run."""
        check_idle(session)
        path, form = values[self.file], read_form(self.page.form, values)
        try:
            run = open_run(path)
            if not run.is_recipe:
                return self.show_saved(session, run, form, strings.RESTORED)
            token = self.context.run_store.find(run.file, session.visitor)
            if kept := self.context.run_store.open(token):
                shown = self.show_saved(session, kept, form, strings.RESTORED)
                return shown | {self.context.run_token: token}
            gr.Info(recipe_words(run.file.anchor_reason, run.anchor_index))
            return self.show_saved(session, run, form, strings.RESTORED)
        except InvalidInputError as error:
            raise refusal(words_of(error).replace(path, Path(path).name), strings.NO_RUN) from error

    def show_settings(self, given: Mapping[str, object], form: Form) -> dict:
        """Returns the updates that put settings into the form. The rest of the page is unchanged.

        Raises:
            gr.Error: The settings cannot be shown.
        """
        try:
            return self.page.form_view.show(form.with_values(given))
        except (ModelError, InvalidInputError) as error:
            raise refusal(words_of(error), strings.CHECK_FORM) from error

    def show_saved(self, session: Session, saved: SavedRun, form: Form, words: str) -> dict:
        """Puts a run from a file or the run store into the session, and returns the updates that show it.

        Raises:
            gr.Error: The run cannot be read or shown.
        """
        try:
            return self.show_opened(session, OpenedRun.of(saved, self.context.recipes), form, words)
        except (ModelError, InvalidInputError) as error:
            raise refusal(words_of(error), strings.NO_RUN) from error

    def show_opened(self, session: Session, opened: OpenedRun, form: Form, words: str) -> dict:
        """Puts a run into the session and returns the updates that show it, with its form."""
        run = opened.run
        compare = run.compare if run.file.has_compare else form.compare
        asked = Form.of_run(run.config, run.spec, compare, self.context.models)
        return self.page.form_view.show(asked) | self.show_result(session, opened, words)

    def show_result(self, session: Session, opened: OpenedRun, words: str) -> dict:
        """Puts a run into the session and returns the updates that show it, without its form.

        Does nothing for a run that has neither candidates nor videos, such as a run.json alone.
        """
        context, page = self.context, self.page
        candidate_set, selection, animation = opened.candidate_set, opened.selection, opened.animation
        if not candidate_set.candidates and animation is None:
            return {}
        animations = AnimationSet((animation,) if animation else ())
        session.candidate_set, session.selection, session.animations = candidate_set, selection, animations
        session.made_here = False
        shown = page.candidates_view.show(candidate_set, selection) | page.video_view.show(animations)
        status = {page.candidates_status: live_value(words)}
        offered = {page.animating.go: context.offer_animation(candidate_set, selection)}
        return {context.run_token: ""} | shown | status | offered

    def remember(self, session: Session) -> dict:
        """Stores the tab's new finished runs on the server, and returns their entries for the browser."""
        context, animations = self.context, session.animations
        if not session.made_here:
            return {context.run_token: gr.skip(), self.newest: []}
        newest, kept = [], list(animations.animations)
        for at in sorted(range(len(kept)), key=lambda at: at == animations.kept_index):
            animation = kept[at]
            if animation.result is None or animation.token:
                continue
            try:
                pack = partial(run_io.pack_animation, animation, context.recipes)
                token = context.run_store.keep(pack, session.visitor)
            except (InvalidInputError, StorageError) as error:
                log_for_operator(error, "a run was not kept")
                warn(words_of(error))
                break
            kept[at] = replace(animation, token=token)
            form = Form.of_run(animation.config, animation.spec, animation.compare, context.models)
            newest.insert(0, remembered_run(token, animation.result.frames[-1], form.values()))
        session.animations = replace(animations, animations=tuple(kept))
        token = session.animations.kept.token if session.animations.kept else ""
        return {context.run_token: token, self.newest: newest}


def forget_token(_request: gr.Request) -> str:
    """Clears the run's token when other candidates have been drawn."""
    return ""


def recipe_words(reason: str | None, index: int | None) -> str:
    """Returns the message for an opened picture or video whose run is not among the visitor's stored runs.

    Args:
        reason: The reason for the choice of the anchor; None if the picture is a candidate.
        index: The index of the anchor; None if it was an uploaded image, or if the picture is a candidate.
    """
    anchor = ""
    if reason == UPLOADED:
        anchor = " It was animated from an uploaded image, which is not in the file."
    elif reason == PICKED and index is not None:
        anchor = f" Its anchor was candidate {index + 1}, picked by hand."
    return f"The settings of this file are in the form. Draw, and the same seed gives the same run.{anchor}"
