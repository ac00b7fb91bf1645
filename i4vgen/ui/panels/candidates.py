"""Panel 2, Choose the anchor: the gallery of candidates and the card of the one that will move."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

import gradio as gr
from gradio.components import Component
from gradio.data_classes import ImageData

from i4vgen.errors import InvalidInputError
from i4vgen.generation_config import MAX_CANDIDATES
from i4vgen.media import fit_picture, open_picture, upright
from i4vgen.runtime import Runtime, StopToken
from i4vgen.ui import drawing, files, layout, pictures, run_io, strings
from i4vgen.ui.captions import describe_anchor
from i4vgen.ui.components.cards import CandidateCards, cards_value
from i4vgen.ui.components.chart import ScoreChart, chart_value
from i4vgen.ui.components.live import LiveView
from i4vgen.ui.context import AppContext, RunButtons, Tab, View
from i4vgen.ui.errors import refusal, warn
from i4vgen.ui.queueing import IN_TURN
from i4vgen.ui.state import (
    AnchorSelection,
    CandidateSet,
    anchor_index,
    anchor_indices,
    toggle_anchor,
)

MORE = 8
"""Number of further candidates that one click asks for."""


class DropZone(gr.Image):
    """Takes a picture and hands on its path, unopened: whoever opens a file can say what is wrong with it."""

    is_template = True  # to the browser it is Gradio's own

    def preprocess(self, payload: ImageData | None) -> str | None:
        return payload and payload.path


class CandidatesPanel:
    """Draws panel 2, empty."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        with layout.panel(2, strings.CHOOSE, strings.CHOOSE_HINT, "choose"):
            self.status = LiveView(strings.GALLERY_EMPTY, elem_id="candidates-status")
            with gr.Row(elem_classes="tools"):
                self.order = gr.Radio(
                    [(strings.BY_INDEX, False), (strings.BY_SCORE, True)],
                    value=False,
                    show_label=False,
                    label=strings.ORDER,
                    container=False,
                    visible=False,
                    elem_id="order",
                )
                self.more = gr.Button(strings.more(MORE), size="sm", visible=False, elem_id="more")
                self.rescore = gr.Button(strings.RESCORE, size="sm", visible=False, elem_id="rescore")
                self.restore = gr.Button("", size="sm", visible=False, elem_id="restore")
                self.export = gr.Button(strings.EXPORT, size="sm", visible=False, elem_id="export")
            with gr.Row(elem_classes="choice"):
                with gr.Column(scale=7, min_width=300):
                    self.gallery = CandidateCards(elem_id="gallery", elem_classes="cards")
                    self.chart = ScoreChart(elem_id="chart")
                with gr.Column(scale=3, min_width=260, elem_classes="anchor-card"):
                    self.draw_anchor_card()
        context.animating = RunButtons("watch", self.animate, self.stop, self.leave, [self.animate.click])
        context.candidates_view = View(self.outputs, self.show)
        context.candidates_status = self.status

    def draw_anchor_card(self) -> None:
        """The anchor, what can be done with it, and the place for an image of one's own."""
        self.anchor = gr.Image(
            label=strings.ANCHOR,
            show_label=False,
            interactive=False,
            format="png",
            buttons=[],
            elem_id="anchor",
        )
        self.words = gr.HTML(say(strings.NO_ANCHOR), elem_id="anchor-words", apply_default_css=False)
        with gr.Row(elem_classes="marks"):
            self.star = gr.Button(strings.STAR_IT, size="sm", min_width=100, visible=False, elem_id="star")
            self.drop = gr.Button(strings.DROP_IT, size="sm", min_width=100, visible=False, elem_id="drop")
        self.animate = gr.Button(
            strings.animate(1), variant="primary", size="lg", interactive=False, elem_id="animate"
        )
        self.stop = gr.Button(strings.STOP, variant="stop", size="lg", visible=False, elem_id="stop-animate")
        self.leave = gr.Button(strings.LEAVE_QUEUE, size="lg", visible=False)
        self.back = gr.Button(strings.BACK_TO_BEST, size="md", visible=False, elem_id="back")
        with gr.Accordion(strings.OWN, open=False, elem_id="own"):
            self.own = DropZone(
                label=strings.OWN_DROP,
                show_label=False,
                sources=["upload", "clipboard"],
                height=170,
                buttons=[],
                elem_id="own-picture",
            )
            self.crop = gr.Image(
                label=strings.CROP,
                show_label=False,
                interactive=False,
                format="png",
                buttons=[],
                visible=False,
                elem_id="crop",
            )
            self.position = gr.Slider(
                0,
                1,
                0.5,
                step=0.01,
                label=strings.CROP_POSITION,
                buttons=[],
                visible=False,
                elem_id="crop-position",
            )

    # What it shows

    @property
    def outputs(self) -> list[Component]:
        """What `show` fills: everything that depends on the candidates and on who the anchor is."""
        tools = [self.order, self.more, self.rescore, self.restore, self.export]
        return [*tools, self.gallery, self.chart, self.anchor, self.words, self.star, self.drop, self.back]

    def show(self, candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
        """The cards, the anchor's, and the buttons that make sense."""
        index = anchor_index(candidate_set, selection)
        picture = selection.picture if index is None else candidate_set.find(index)[1]
        scored = any(candidate.scores for candidate in candidate_set.kept)
        some, dropped, best = bool(candidate_set.kept), len(candidate_set.dropped), (candidate_set.best,)
        star = strings.UNSTAR_IT if index in candidate_set.stars else strings.STAR_IT
        return {
            self.order: gr.update(value=candidate_set.by_score, visible=scored),
            self.more: gr.update(visible=some),
            self.rescore: gr.update(visible=scored),
            self.restore: gr.update(value=strings.restore(dropped), visible=bool(dropped)),
            self.export: gr.update(visible=some),
            self.gallery: cards_value(candidate_set, selection),
            self.chart: chart_value(candidate_set, selection),
            self.anchor: picture,
            self.words: say(describe_anchor(candidate_set, selection)),
            self.star: gr.update(value=star, visible=index is not None),
            self.drop: gr.update(visible=index is not None and len(candidate_set.kept) > 1),
            self.back: gr.update(visible=some and anchor_indices(candidate_set, selection) != best),
        }

    def show_set(self, candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
        """Remembers the candidates and the selection, and shows them."""
        states = {self.context.candidate_set: candidate_set, self.context.selection: selection}
        return states | self.show(candidate_set, selection)

    def show_crop(self, path: str | None, height: int, width: int, position: float) -> dict:
        """What is cut off an uploaded image, and where. Nothing, if nothing is."""
        if path is None:
            return {self.crop: gr.update(visible=False), self.position: gr.update(visible=False)}
        image = upright(open_picture(path))
        is_cut = round(image.width * height / image.height) != width
        view = pictures.crop_view(image, height, width, position) if is_cut else None
        return {
            self.crop: gr.update(value=view, visible=is_cut),
            self.position: gr.update(value=position, visible=is_cut),
        }

    # Drawing and judging

    def connect(self) -> None:
        """Connects what draws and judges candidates, and what people do to finished ones."""
        context, buttons = self.context, self.context.drawing
        outputs = [*self.outputs, context.candidate_set, context.selection]
        for triggers, check, run in (
            (buttons.triggers, self.check_draw, self.run_draw),
            ([self.more.click], self.check_more, self.run_more),
            ([self.rescore.click], self.check_score, self.run_score),
        ):
            context.connect_run(buttons, triggers, check, run, outputs, self.status)
        self.connect_curation()

    def check_draw(self, tab: Tab) -> None:
        runtime, config = self.context.read_run(tab.form)
        self.context.budget.check_time(runtime, config, draws=config.num_candidates)

    def run_draw(self, token: StopToken, tab: Tab) -> Iterator[dict]:
        """Draws new candidates."""
        runtime, config = self.context.read_run(tab.form)
        by_score = tab.candidate_set.by_score
        fresh = CandidateSet(config, runtime.spec, judged_by=config.prompt, by_score=by_score)
        yield from self.follow_drawing(runtime, fresh, AnchorSelection(), token)

    def check_more(self, tab: Tab) -> None:
        self.context.check_candidates(tab.candidate_set)
        if tab.candidate_set.next_index >= MAX_CANDIDATES:
            raise refusal(strings.NO_MORE, strings.NOT_NOW)
        config, spec = tab.candidate_set.asked
        self.context.budget.check_time(self.context.models.runtime_for(spec), config, draws=MORE)

    def run_more(self, token: StopToken, tab: Tab) -> Iterator[dict]:
        """Draws further candidates of the same run."""
        before, selection = tab.candidate_set, tab.selection
        count = min(before.next_index + MORE, MAX_CANDIDATES)
        config, spec = before.asked
        asked = replace(before, config=replace(config, num_candidates=count))
        runtime = self.context.models.runtime_for(spec)
        drawn = yield from self.follow_drawing(runtime, asked, selection, token)
        if drawn.judged_by != config.prompt:  # which the new ones were drawn and scored with
            yield from self.follow_scoring(runtime, drawn, selection, drawn.judged_by, token)

    def check_score(self, tab: Tab) -> None:
        self.context.check_candidates(tab.candidate_set)
        if not tab.form.prompt:
            raise refusal(strings.NEEDS_PROMPT, strings.CHECK_FORM)

    def run_score(self, token: StopToken, tab: Tab) -> Iterator[dict]:
        """Judges the same candidates against the prompt in the form."""
        _, spec = tab.candidate_set.asked
        runtime = self.context.models.runtime_for(spec)
        yield from self.follow_scoring(runtime, tab.candidate_set, tab.selection, tab.form.prompt, token)

    def follow_drawing(
        self, runtime: Runtime, candidate_set: CandidateSet, selection: AnchorSelection, token: StopToken
    ) -> Generator[dict, None, CandidateSet]:
        """The candidates as they are finished. Returns all of them."""
        shown = candidate_set.candidates
        for now, status in drawing.draw(runtime, candidate_set, token, self.context.budget):
            changes = {self.status: status}
            # The earlier set is forgotten when the new one has something to offer, not before: after a
            # failure or an early stop it comes back.
            if now.candidates is not shown:
                shown = now.candidates
                changes |= self.show_set(now, selection)
            yield changes
        return now

    def follow_scoring(
        self,
        runtime: Runtime,
        candidate_set: CandidateSet,
        selection: AnchorSelection,
        prompt: str,
        token: StopToken,
    ) -> Iterator[dict]:
        """The same candidates with other scores."""
        for judged, status in drawing.score_again(runtime, candidate_set, prompt, token):
            shown = self.show(judged, selection) | {self.context.candidate_set: judged}
            yield {self.status: status} | shown

    # Curating

    def connect_curation(self) -> None:
        """Connects everything that people do to finished candidates."""
        context = self.context
        outputs = [context.candidate_set, context.selection, *self.outputs, self.animate]
        state = [context.candidate_set, context.selection, context.phase]
        for event, handler, *more in (
            (self.gallery.select, self.on_card),
            (self.chart.select, self.on_mark),
            (self.back.click, self.on_back),
            (self.star.click, self.on_star),
            (self.drop.click, self.on_drop),
            (self.restore.click, self.on_restore),
            (self.order.input, self.on_order, self.order),
        ):
            event(handler, [*state, *more], outputs, **IN_TURN)
        gr.on(
            [self.own.input, self.position.release],
            self.on_upload,
            {*state, self.own, self.position, *context.form.values()},
            [*outputs, self.own, self.crop, self.position],
            **IN_TURN,
        )
        context.connect_save(self.export, save_set, [context.candidate_set, context.selection])

    def choose(self, candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        """Remembers a choice and shows it. An animation in progress keeps the anchor it began with."""
        if phase == self.context.drawing.name:
            raise refusal(strings.STILL_DRAWING, strings.NOT_NOW)
        offered = self.context.offer_animation(candidate_set, selection, phase == "idle")
        return self.show_set(candidate_set, selection) | {self.animate: offered}

    def on_card(
        self, candidate_set: CandidateSet, selection: AnchorSelection, phase: str, event: gr.EventData
    ) -> dict:
        candidate, _ = candidate_set.find(event.index)
        if not event.toggle:
            return self.choose(candidate_set, AnchorSelection(candidate.index), phase)
        try:
            return self.choose(candidate_set, toggle_anchor(candidate_set, selection, candidate.index), phase)
        except InvalidInputError as error:
            raise refusal(str(error), strings.NOT_NOW) from error

    def on_mark(
        self, candidate_set: CandidateSet, selection: AnchorSelection, phase: str, event: gr.EventData
    ) -> dict:
        return self.choose(candidate_set, AnchorSelection(event.index), phase)

    def on_back(self, candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        return self.choose(candidate_set, AnchorSelection(), phase)

    def on_star(self, candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        index = anchor_index(candidate_set, selection)
        starred = candidate_set if index is None else candidate_set.toggle_star(index)
        return self.choose(starred, selection, phase)

    def on_drop(self, candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        index = anchor_index(candidate_set, selection)
        if index is None:
            return self.choose(candidate_set, AnchorSelection(), phase)
        return self.choose(candidate_set.drop(index), toggle_anchor(candidate_set, selection, index), phase)

    def on_restore(self, candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        return self.choose(replace(candidate_set, dropped=frozenset()), selection, phase)

    def on_order(
        self, candidate_set: CandidateSet, selection: AnchorSelection, phase: str, by_score: bool
    ) -> dict:
        return self.choose(replace(candidate_set, by_score=bool(by_score)), selection, phase)

    def on_upload(self, values: dict) -> dict:
        """The uploaded image is the anchor; without one, the best candidate is again."""
        context, path, position = self.context, values[self.own], values[self.position]
        candidate_set = values[context.candidate_set]
        form = context.read_form(values)
        shape = (
            candidate_set.config
            if candidate_set.candidates
            else context.models.runtime_for(form.spec()).defaults
        )
        size = shape.height, shape.width
        try:
            selection = AnchorSelection() if path is None else select_upload(path, *size, position)
        except InvalidInputError:  # its words name a temporary file, which nobody would recognise
            warn(strings.BAD_PICTURE)
            return {self.own: None}
        chosen = self.choose(candidate_set, selection, values[context.phase])
        return chosen | self.show_crop(path, *size, position)


def select_upload(path: str, height: int, width: int, position: float = 0.5) -> AnchorSelection:
    """An uploaded image, cropped to the video's shape. Raises `InvalidInputError` if it is none."""
    return AnchorSelection(picture=fit_picture(open_picture(path), height, width, position))


def save_set(candidate_set: CandidateSet, selection: AnchorSelection) -> str:
    """The candidates as they were curated, packed. Returns the path."""
    config, _ = candidate_set.asked
    path = files.fresh(files.name_of(config, "candidates", "zip"))
    return str(run_io.pack_candidates(candidate_set, selection, path))


def say(words: str) -> str:
    """Words under the anchor (HTML)."""
    return f'<p role="status">{words}</p>'
