"""Panel 2, Choose the anchor: the gallery of candidates and the card of the anchor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component

from i4vgen.config import MAX_ANCHORS, MAX_CANDIDATES
from i4vgen.errors import InvalidInputError
from i4vgen.media import PictureError, fit_picture, open_picture, upright
from i4vgen.serving.budget import RunPlan
from i4vgen.studio import drawing, files, layout, pictures, run_io, strings
from i4vgen.studio.captions import anchor_caption
from i4vgen.studio.components.cards import CandidateCards, cards_value
from i4vgen.studio.components.chart import ScoreChart, chart_value
from i4vgen.studio.components.live import LiveView
from i4vgen.studio.context import (
    AppContext,
    Page,
    PageRun,
    RunButtons,
    StartedRun,
    Tab,
    View,
    read_form,
)
from i4vgen.studio.errors import refusal, warn, words_of
from i4vgen.studio.queueing import QUICK
from i4vgen.studio.session import IDLE, Session
from i4vgen.studio.state import (
    AnchorSelection,
    CandidateSet,
    anchor_index,
    anchor_indices,
    toggle_anchor,
)

MORE = 8
"""Number of further candidates that one click draws, up to `MAX_CANDIDATES` in all."""


class DropZone(gr.Image):
    """An image input that passes on a file's path without opening it, so that the handler can report errors."""

    is_template = True  # the browser uses Gradio's own component

    def preprocess(self, payload: gr.FileData | None) -> str | None:
        return payload and payload.path


class CandidatesPanel:
    """Panel 2, initially empty.

    Attributes:
        status: Shows the progress of the run that draws or scores candidates.
        buttons: The buttons of the run that animates.
        view: Shows a `CandidateSet` with an `AnchorSelection`.
    """

    def __init__(self, context: AppContext, form: Mapping[str, Component], drawing: RunButtons) -> None:
        """Draws the panel.

        Args:
            context: The services of the app.
            form: The settings form (`Page.form`).
            drawing: The buttons of the run that draws candidates.
        """
        self.context, self.form, self.drawing = context, form, drawing
        hint = (
            "The candidate with the highest reward is selected. Click another one to override it, or tick up "
            f"to {MAX_ANCHORS} to animate them all."
        )
        with layout.panel(2, "Choose the anchor", hint, "choose"):
            self.status = LiveView(strings.GALLERY_EMPTY, elem_id="candidates-status")
            with gr.Row(elem_classes="tools"):
                self.order = gr.Radio(
                    [("As drawn", False), ("By score", True)],
                    value=False,
                    show_label=False,
                    label="Order of the cards",
                    container=False,
                    visible=False,
                    elem_id="order",
                )
                self.more = layout.tool(f"{MORE} more candidates", "more")
                self.rescore = layout.tool("Score again", "rescore")
                self.restore = layout.tool("", "restore")
                self.export = layout.tool("Export this set", "export")
            with gr.Row(elem_classes="choice"):
                with gr.Column(scale=7, min_width=300):
                    self.gallery = CandidateCards(elem_id="gallery", elem_classes="cards")
                    self.chart = ScoreChart(elem_id="chart")
                with gr.Column(scale=3, min_width=260, elem_classes="anchor-card"):
                    self.draw_anchor_card()
        self.buttons = RunButtons("watch", self.animate, self.stop, self.leave, [self.animate.click])
        self.view = View(self.outputs, self.show)

    def draw_anchor_card(self) -> None:
        """Draws the anchor, its buttons and the drop zone for an uploaded image."""
        self.anchor = layout.picture("Anchor", elem_id="anchor")
        self.shown = gr.JSON(visible="hidden")  # the anchor on the card, for the card's buttons
        self.words = gr.HTML(status_line(strings.NO_ANCHOR), elem_id="anchor-words", apply_default_css=False)
        with gr.Row(elem_classes="marks"):
            self.star = layout.tool("\u2606 Star", "star", min_width=100)
            self.drop = layout.tool("Drop it", "drop", min_width=100)
        self.animate = gr.Button(
            strings.animate(1), variant="primary", size="lg", interactive=False, elem_id="animate"
        )
        self.stop, self.leave = layout.stop_buttons("stop-animate")
        self.back = gr.Button("Back to the best candidate", size="md", visible=False, elem_id="back")
        with gr.Accordion("Use an image of my own", open=False, elem_id="own"):
            self.own = DropZone(
                label="Drop, paste or choose an image",
                show_label=False,
                sources=["upload", "clipboard"],
                height=170,
                buttons=[],
                elem_id="own-picture",
            )
            self.crop = layout.picture("What is cut off", visible=False, elem_id="crop")
            self.position = gr.Slider(
                0,
                1,
                0.5,
                step=0.01,
                label="Move the crop",
                buttons=[],
                visible=False,
                elem_id="crop-position",
            )

    # Display

    @property
    def outputs(self) -> list[Component]:
        """The components that `show` updates."""
        tools = [self.order, self.more, self.rescore, self.restore, self.export]
        card = [self.anchor, self.shown, self.words, self.star, self.drop, self.back]
        return [*tools, self.gallery, self.chart, *card]

    def show(self, candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
        """Returns the updates of the gallery, the chart, the anchor's card and the tools."""
        index = anchor_index(candidate_set, selection)
        picture = selection.picture if index is None else candidate_set.find(index)[1]
        scored = any(candidate.scores for candidate in candidate_set.kept)
        some, dropped = bool(candidate_set.kept), len(candidate_set.dropped)
        is_own = anchor_indices(candidate_set, selection) != anchor_indices(candidate_set, selection.automatic)
        starred = index in candidate_set.stars
        return {
            self.order: gr.update(value=candidate_set.by_score, visible=scored),
            self.more: gr.update(visible=some),
            self.rescore: gr.update(visible=scored),
            self.restore: gr.update(value=f"Bring back {dropped} dropped", visible=bool(dropped)),
            self.export: gr.update(visible=some),
            self.gallery: cards_value(candidate_set, selection),
            self.chart: chart_value(candidate_set, selection),
            self.anchor: picture,
            self.shown: {"anchor": index, "starred": starred},
            self.words: status_line(anchor_caption(candidate_set, selection)),
            self.star: gr.update(
                value="\u2605 Starred" if starred else "\u2606 Star", visible=index is not None
            ),
            self.drop: gr.update(visible=index is not None and len(candidate_set.kept) > 1),
            self.back: gr.update(visible=some and is_own),
        }

    def show_set(self, session: Session, candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
        """Stores the candidates and the selection, and returns the updates that show them."""
        session.candidate_set, session.selection = candidate_set, selection
        return self.show(candidate_set, selection)

    def show_crop(self, path: str | None, height: int, width: int, position: float) -> dict:
        """Returns the updates that show which part of an uploaded image is cut off, if any.

        Args:
            path: The path of the image; None without one.
            height: The height of the video in pixels.
            width: The width of the video in pixels.
            position: The position of the crop, 0 to 1.
        """
        if path is None:
            return {self.crop: gr.update(visible=False), self.position: gr.update(visible=False)}
        image = upright(open_picture(path))
        is_cut = round(image.width * height / image.height) != width
        view = pictures.crop_view(image, height, width, position) if is_cut else None
        return {
            self.crop: gr.update(value=view, visible=is_cut),
            self.position: gr.update(value=position, visible=is_cut),
        }

    # Drawing and scoring

    def connect(self, page: Page) -> None:
        """Connects the runs that draw and score candidates, and the events that curate them."""
        for triggers, plan, steps in (
            (self.drawing.triggers, self.plan_draw, self.draw),
            ([self.more.click], self.plan_more, self.draw_more),
            ([self.rescore.click], self.plan_score, self.score),
        ):
            page.connect_run(PageRun(self.drawing, self.status, plan, steps), triggers, self.outputs)
        self.connect_curation()

    def plan_draw(self, tab: Tab) -> RunPlan:
        return replace(self.context.plan_run(tab.form), anchors=0)

    def plan_more(self, tab: Tab) -> RunPlan:
        if tab.candidate_set.next_index >= MAX_CANDIDATES:
            raise refusal(f"{MAX_CANDIDATES} candidates is the maximum.")
        return replace(self.plan_set(tab), draws=MORE)

    def plan_score(self, tab: Tab) -> RunPlan:
        plan = self.plan_set(tab)
        if not tab.form.prompt:
            raise refusal(strings.NEEDS_PROMPT, strings.CHECK_FORM)
        return plan

    def plan_set(self, tab: Tab) -> RunPlan:
        """Returns a plan with the settings of the candidates on the page.

        Raises:
            InvalidInputError: The run exceeds a limit, or the app does not offer its model.
            ModelError: The model's files are missing, damaged or of an unsupported kind.
            LookupError: No candidates have been drawn or opened yet.
        """
        self.context.check_candidates(tab.candidate_set)
        config, spec = tab.candidate_set.request
        return RunPlan(self.context.models.runtime_for(spec), config)

    def draw(self, run: StartedRun) -> Iterator[dict]:
        """Draws new candidates."""
        config = run.plan.config
        drawn = CandidateSet(
            replace(config, animate_best=1),  # does not affect the candidates
            run.plan.runtime.spec,
            scored_prompt=config.prompt,
            by_score=run.tab.candidate_set.by_score,
        )
        yield from self.follow_drawing(run, drawn, AnchorSelection(best=config.animate_best))

    def draw_more(self, run: StartedRun) -> Iterator[dict]:
        """Draws further candidates with the same settings."""
        before, selection, config = run.tab.candidate_set, run.tab.selection, run.plan.config
        count = min(before.next_index + MORE, MAX_CANDIDATES)
        asked = replace(before, config=replace(config, num_candidates=count))
        yield from self.follow_drawing(run, asked, selection)

    def score(self, run: StartedRun) -> Iterator[dict]:
        """Scores the candidates against the prompt in the form."""
        prompt = run.tab.form.prompt
        for judged, status in drawing.score_again(run.plan.runtime, run.tab.candidate_set, prompt, run.token):
            yield {self.status: status} | self.show_set(run.session, judged, run.tab.selection)

    def follow_drawing(
        self, run: StartedRun, candidate_set: CandidateSet, selection: AnchorSelection
    ) -> Iterator[dict]:
        """Draws a set's missing candidates and yields the updates."""
        shown = candidate_set.candidates
        steps = drawing.draw(run.plan.runtime, candidate_set, run.token, run.clock, self.context.recipes)
        for now, status in steps:
            changes = {self.status: status}
            # The new set replaces the earlier one when its first candidate is finished, so the earlier one
            # stays if the run fails or is stopped before that.
            if now.candidates is not shown:
                shown = now.candidates
                changes |= self.show_set(run.session, now, selection)
            yield changes

    # Curating

    def connect_curation(self) -> None:
        """Connects the events that choose anchors, curate the candidates and export them."""
        context = self.context
        outputs = [*self.outputs, self.animate]
        for_tab = context.handlers.for_tab
        for event, handler, inputs in (
            (self.gallery.select, self.on_card, None),
            (self.chart.select, self.on_mark, None),
            (self.back.click, self.on_back, None),
            (self.star.click, self.on_star, self.shown),
            (self.drop.click, self.on_drop, self.shown),
            (self.restore.click, self.on_restore, None),
            (self.order.input, self.on_order, self.order),
        ):
            event(for_tab(handler), inputs, outputs, **QUICK)
        gr.on(
            [self.own.input, self.position.release],
            for_tab(self.on_upload),
            {self.own, self.position, *self.form.values()},
            [*outputs, self.own, self.crop, self.position],
            **QUICK,
        )
        count: Any = self.form["animate_best"]  # Any: `Component` does not declare the events
        count.input(for_tab(self.on_count), count, [*outputs, count], **QUICK)
        context.connect_save(self.export, self.save_set)

    def choose(self, session: Session, candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
        """Stores and shows the candidates and a selection. An animation in progress keeps its anchor.

        Raises:
            gr.Error: A run that draws or scores candidates is queued or in progress.
        """
        if session.phase == self.drawing.name:
            raise refusal(strings.STILL_DRAWING)
        offered = self.context.offer_animation(candidate_set, selection, session.phase == IDLE)
        return self.show_set(session, candidate_set, selection) | {self.animate: offered}

    def on_card(self, session: Session, event: gr.EventData) -> dict:
        """Makes a candidate the only anchor, or adds it to the anchors or removes it."""
        candidate, _ = session.candidate_set.find(event.index)
        if event.ticked is None:
            return self.choose(session, session.candidate_set, session.selection.pick(candidate.index))
        is_anchor = candidate.index in anchor_indices(session.candidate_set, session.selection)
        selection = session.selection
        if bool(event.ticked) is not is_anchor:
            try:
                selection = toggle_anchor(session.candidate_set, selection, candidate.index)
            except InvalidInputError as error:
                raise refusal(words_of(error)) from error
        return self.choose(session, session.candidate_set, selection)

    def on_mark(self, session: Session, event: gr.EventData) -> dict:
        return self.choose(session, session.candidate_set, session.selection.pick(event.index))

    def on_back(self, session: Session) -> dict:
        return self.choose(session, session.candidate_set, session.selection.automatic)

    def on_count(self, session: Session, count: float | None) -> dict:
        """Changes the number of best candidates to animate, except while candidates are drawn or scored."""
        if session.phase == self.drawing.name:
            warn(strings.STILL_DRAWING)
            return {self.form["animate_best"]: session.selection.best}
        best = min(max(round(count or 1), 1), MAX_ANCHORS)  # the field may be partly typed
        return self.choose(session, session.candidate_set, replace(session.selection, best=best))

    def on_star(self, session: Session, shown: dict) -> dict:
        """Stars the anchor that the page shows, or removes its star, as the button was labelled."""
        candidate, _ = session.candidate_set.find(shown["anchor"])
        starred = session.candidate_set.with_star(candidate.index, not shown["starred"])
        return self.choose(session, starred, session.selection)

    def on_drop(self, session: Session, shown: dict) -> dict:
        """Drops the anchor that the page shows."""
        candidate_set, selection = session.candidate_set, session.selection
        candidate, _ = candidate_set.find(shown["anchor"])
        if candidate.index in anchor_indices(candidate_set, selection):
            selection = toggle_anchor(candidate_set, selection, candidate.index)
        return self.choose(session, candidate_set.drop(candidate.index), selection)

    def on_restore(self, session: Session) -> dict:
        return self.choose(session, replace(session.candidate_set, dropped=frozenset()), session.selection)

    def on_order(self, session: Session, by_score: bool) -> dict:
        return self.choose(session, replace(session.candidate_set, by_score=bool(by_score)), session.selection)

    def save_set(self, session: Session) -> str:
        """Packs the curated candidates and returns the path of the zip file."""
        config, _ = session.candidate_set.request
        path = files.new_path(files.download_name(config, "candidates", "zip"))
        run_io.pack_candidates(session.candidate_set, session.selection, self.context.recipes, path)
        return str(path)

    def on_upload(self, session: Session, values: dict) -> dict:
        """Makes the uploaded image the anchor, or restores the reward's choice if the image was removed."""
        path, position = values[self.own], values[self.position]
        candidate_set, before = session.candidate_set, session.selection
        shape = candidate_set.config if candidate_set.candidates else None
        shape = shape or self.context.models.runtime_for(read_form(self.form, values).spec()).defaults
        size = shape.height, shape.width
        try:
            selection = before.automatic if path is None else select_upload(path, *size, position)
        except PictureError as error:  # its message names a temporary file
            warn(f"That file {error.reason}.")
            return {self.own: None}
        chosen = self.choose(session, candidate_set, replace(selection, best=before.best))
        return chosen | self.show_crop(path, *size, position)


def select_upload(path: str, height: int, width: int, position: float = 0.5) -> AnchorSelection:
    """Returns the selection of an uploaded image, cropped to the video's shape.

    Raises:
        PictureError: The file cannot be read as an image, or is too large.
    """
    return AnchorSelection(picture=fit_picture(open_picture(path), height, width, position))


def status_line(words: str) -> str:
    """Returns the status line under the anchor (HTML)."""
    return f'<p role="status">{words}</p>'
