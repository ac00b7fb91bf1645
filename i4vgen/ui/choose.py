"""Panel 2, Choose the anchor: the gallery of candidates and the card of the one that will move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import gradio as gr
import numpy as np
from gradio.data_classes import ImageData
from gradio.processing_utils import save_img_array_to_cache
from gradio.utils import get_upload_folder

from i4vgen.events import Candidate, Loading, Progress, Scores, Stage
from i4vgen.media import fit_picture, open_picture, upright
from i4vgen.runtime import Runtime, StopToken
from i4vgen.ui import layout, pictures, texts
from i4vgen.ui.chart import ScoreChart, chart_value
from i4vgen.ui.live import LiveView, live_value
from i4vgen.ui.progress import Tracker
from i4vgen.ui.session import AnchorSelection, CandidateSet, anchor_index, caption, describe_anchor

MORE = 8
"""So many further candidates at a time."""


class DropZone(gr.Image):
    """Takes a picture and hands on its path, unopened: whoever opens a file can say what is wrong with it."""

    is_template = True  # to the browser it is Gradio's own

    def preprocess(self, payload: ImageData | None) -> str | None:
        return payload and payload.path


@dataclass
class ChoosePanel:
    """The components of panel 2."""

    status: LiveView
    order: gr.Radio
    more: gr.Button
    rescore: gr.Button
    restore: gr.Button
    export: gr.Button
    gallery: gr.Gallery
    chart: ScoreChart
    anchor: gr.Image
    words: gr.HTML
    star: gr.Button
    drop: gr.Button
    animate: gr.Button
    stop: gr.Button
    leave: gr.Button
    back: gr.Button
    own: DropZone
    crop: gr.Image
    position: gr.Slider

    @property
    def view(self) -> list[gr.components.Component]:
        """What `show_choice` fills: everything that depends on the candidates and on who the anchor is."""
        tools = [self.order, self.more, self.rescore, self.restore, self.export]
        return [*tools, self.gallery, self.chart, self.anchor, self.words, self.star, self.drop, self.back]


def build() -> ChoosePanel:
    """Draws panel 2, empty."""
    with layout.panel(2, texts.CHOOSE, texts.CHOOSE_HINT, "choose"):
        status = LiveView(texts.GALLERY_EMPTY, elem_id="candidates-status")
        with gr.Row(elem_classes="tools"):
            order = gr.Radio(
                [(texts.BY_INDEX, False), (texts.BY_SCORE, True)],
                value=False,
                show_label=False,
                label=texts.ORDER,
                container=False,
                visible=False,
                elem_id="order",
            )
            more = gr.Button(texts.more(MORE), size="sm", visible=False, elem_id="more")
            rescore = gr.Button(texts.RESCORE, size="sm", visible=False, elem_id="rescore")
            restore = gr.Button("", size="sm", visible=False, elem_id="restore")
            export = gr.Button(texts.EXPORT, size="sm", visible=False, elem_id="export")
        with gr.Row(elem_classes="choice"):
            with gr.Column(scale=7, min_width=300):
                gallery = layout.cards(texts.GALLERY, "gallery")
                chart = ScoreChart(elem_id="chart")
            with gr.Column(scale=3, min_width=260, elem_classes="anchor-card"):
                anchor = gr.Image(
                    label=texts.ANCHOR,
                    show_label=False,
                    interactive=False,
                    format="png",
                    buttons=[],
                    elem_id="anchor",
                )
                words = gr.HTML(say(texts.NO_ANCHOR), elem_id="anchor-words", apply_default_css=False)
                with gr.Row(elem_classes="marks"):
                    star = gr.Button(texts.STAR_IT, size="sm", min_width=100, visible=False, elem_id="star")
                    drop = gr.Button(texts.DROP_IT, size="sm", min_width=100, visible=False, elem_id="drop")
                animate = gr.Button(
                    texts.ANIMATE, variant="primary", size="lg", interactive=False, elem_id="animate"
                )
                stop = gr.Button(texts.STOP, variant="stop", size="lg", visible=False, elem_id="stop-animate")
                leave = gr.Button(texts.LEAVE_QUEUE, size="lg", visible=False)
                back = gr.Button(texts.BACK_TO_BEST, size="md", visible=False, elem_id="back")
                with gr.Accordion(texts.OWN, open=False, elem_id="own"):
                    own = DropZone(
                        label=texts.OWN_DROP,
                        show_label=False,
                        sources=["upload", "clipboard"],
                        height=170,
                        buttons=[],
                        elem_id="own-picture",
                    )
                    crop = gr.Image(
                        label=texts.CROP,
                        show_label=False,
                        interactive=False,
                        format="png",
                        buttons=[],
                        visible=False,
                        elem_id="crop",
                    )
                    position = gr.Slider(
                        0,
                        1,
                        0.5,
                        step=0.01,
                        label=texts.CROP_POSITION,
                        buttons=[],
                        visible=False,
                        elem_id="crop-position",
                    )
    return ChoosePanel(
        status, order, more, rescore, restore, export, gallery, chart, anchor, words, star, drop, animate, stop,
        leave, back, own, crop, position,
    )  # fmt: skip


def draw(
    runtime: Runtime, panel: ChoosePanel, candidate_set: CandidateSet, token: StopToken
) -> Iterator[tuple[CandidateSet, dict]]:
    """Stage 1: draws the candidates that `candidate_set.config` asks for and that are not there yet.

    Yields the set as far as it is, and what changed on the page, after every step.
    """
    started, config, first = time.perf_counter(), candidate_set.config, candidate_set.next_index
    before = len(candidate_set.candidates)
    tracker = Tracker({"candidates": 0})
    yield candidate_set, {panel.status: live_value(texts.STARTING, fraction=0.0)}
    for event in runtime.stream(lambda pipeline: pipeline.candidates(config, first), token):
        match event:
            case Loading(repo_or_path, done, total):
                words = texts.downloading(repo_or_path, done, total)
                yield candidate_set, {panel.status: live_value(words, fraction=done / total)}
            case Stage(name, total):
                tracker.begin(name, total)
            case Progress(stage, step, _, _, seconds):
                if tracker.step(stage, step, seconds):
                    yield candidate_set, {panel.status: live_value(tracker.words(), fraction=tracker.fraction)}
            case Candidate():
                made = candidate_set.made or runtime.describe()  # now that the model is loaded
                candidate_set = replace(candidate_set, made=made).with_candidate(
                    event, save_picture(event.image)
                )
                yield candidate_set, {}
    finished, asked = len(candidate_set.candidates) - before, config.num_candidates - first
    if finished == asked:
        words = texts.candidates_done(finished, time.perf_counter() - started)
    else:
        words = texts.candidates_stopped(finished, asked)
    yield candidate_set, {panel.status: live_value(words)}


def score_again(
    runtime: Runtime, panel: ChoosePanel, candidate_set: CandidateSet, prompt: str, token: StopToken
) -> Iterator[tuple[CandidateSet, dict]]:
    """Judges the same candidates against another prompt. Yields as `draw` does; stopped, all stays as is."""
    images = [candidate.image for candidate in candidate_set.candidates]
    yield candidate_set, {panel.status: live_value(texts.STARTING, fraction=0.0)}
    scores = []
    for event in runtime.stream(lambda pipeline: pipeline.score(prompt, images), token):
        match event:
            case Loading(repo_or_path, done, total):
                words = texts.downloading(repo_or_path, done, total)
                yield candidate_set, {panel.status: live_value(words, fraction=done / total)}
            case Scores(given):
                scores.append(given)
    if len(scores) < len(images):
        yield candidate_set, {panel.status: live_value(texts.NOT_SCORED)}
        return
    yield (
        candidate_set.with_scores(prompt, scores),
        {panel.status: live_value(texts.scored(len(scores), prompt))},
    )


def save_picture(image: np.ndarray) -> str:
    """The picture of a candidate, uint8 [H, W, 3], as a file for the browser."""
    return save_img_array_to_cache(image, cache_dir=get_upload_folder(), format="png")


def pick_upload(path: str, height: int, width: int, position: float = 0.5) -> AnchorSelection:
    """A picture of one's own, cropped to the video's shape. Raises `InvalidInputError` if it is none."""
    return AnchorSelection(picture=fit_picture(open_picture(path), height, width, position))


def show_crop(panel: ChoosePanel, path: str | None, height: int, width: int, position: float) -> dict:
    """What is cut off one's own picture, and where. Nothing, if nothing is."""
    if path is None:
        return {panel.crop: gr.update(visible=False), panel.position: gr.update(visible=False)}
    image = upright(open_picture(path))
    is_cut = round(image.width * height / image.height) != width
    view = pictures.crop_view(image, height, width, position) if is_cut else None
    return {
        panel.crop: gr.update(value=view, visible=is_cut),
        panel.position: gr.update(value=position, visible=is_cut),
    }


def show_choice(panel: ChoosePanel, candidate_set: CandidateSet, selection: AnchorSelection) -> dict:
    """The page's view of a choice: the cards, the anchor's, and which buttons make sense."""
    index = anchor_index(candidate_set, selection)
    picture = selection.picture if index is None else candidate_set.find(index)[1]
    scored = any(candidate.scores for candidate in candidate_set.kept)
    some, dropped = bool(candidate_set.kept), len(candidate_set.dropped)
    star = texts.UNSTAR_IT if index in candidate_set.stars else texts.STAR_IT
    return {
        panel.order: gr.update(value=candidate_set.by_score, visible=scored),
        panel.more: gr.update(visible=some),
        panel.rescore: gr.update(visible=scored),
        panel.restore: gr.update(value=texts.restore(dropped), visible=bool(dropped)),
        panel.export: gr.update(visible=some),
        panel.gallery: [
            (candidate_set.find(c.index)[1], caption(candidate_set, c, selection)) for c in candidate_set.shown
        ],
        panel.chart: chart_value(candidate_set, selection),
        panel.anchor: picture,
        panel.words: say(describe_anchor(candidate_set, selection)),
        panel.star: gr.update(value=star, visible=index is not None),
        panel.drop: gr.update(visible=index is not None and len(candidate_set.kept) > 1),
        panel.back: gr.update(visible=some and index != candidate_set.best),
    }


def say(words: str) -> str:
    """Words under the anchor (HTML)."""
    return f'<p role="status">{words}</p>'
