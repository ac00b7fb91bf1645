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
from i4vgen.ui.session import Pick, Round, anchor_index, caption, describe_anchor

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


def draw(runtime: Runtime, panel: ChoosePanel, round_: Round, token: StopToken) -> Iterator[tuple[Round, dict]]:
    """Stage 1: draws the candidates that `round_.request` asks for and that are not there yet.

    Yields the round as far as it is, and what changed on the page, after every step.
    """
    started, request, first = time.perf_counter(), round_.request, round_.next_index
    before = len(round_.candidates)
    tracker = Tracker({"candidates": 0})
    yield round_, {panel.status: live_value(texts.STARTING, fraction=0.0)}
    for event in runtime.stream(lambda pipeline: pipeline.candidates(request, first), token):
        match event:
            case Loading(place, done, total):
                words = texts.downloading(place, done, total)
                yield round_, {panel.status: live_value(words, fraction=done / total)}
            case Stage(name, total):
                tracker.begin(name, total)
            case Progress(stage, step, _, _, seconds):
                if tracker.step(stage, step, seconds):
                    yield round_, {panel.status: live_value(tracker.words(), fraction=tracker.fraction)}
            case Candidate():
                made = round_.made or runtime.describe()  # now that the model is loaded
                round_ = replace(round_, made=made).with_candidate(event, save_picture(event.image))
                yield round_, {}
    finished, asked = len(round_.candidates) - before, request.num_candidates - first
    if finished == asked:
        words = texts.candidates_done(finished, time.perf_counter() - started)
    else:
        words = texts.candidates_stopped(finished, asked)
    yield round_, {panel.status: live_value(words)}


def score_again(
    runtime: Runtime, panel: ChoosePanel, round_: Round, prompt: str, token: StopToken
) -> Iterator[tuple[Round, dict]]:
    """Judges the same candidates against another prompt. Yields as `draw` does; stopped, all stays as is."""
    images = [candidate.image for candidate in round_.candidates]
    yield round_, {panel.status: live_value(texts.STARTING, fraction=0.0)}
    scores = []
    for event in runtime.stream(lambda pipeline: pipeline.score(prompt, images), token):
        match event:
            case Loading(place, done, total):
                words = texts.downloading(place, done, total)
                yield round_, {panel.status: live_value(words, fraction=done / total)}
            case Scores(given):
                scores.append(given)
    if len(scores) < len(images):
        yield round_, {panel.status: live_value(texts.NOT_SCORED)}
        return
    yield round_.with_scores(prompt, scores), {panel.status: live_value(texts.scored(len(scores), prompt))}


def save_picture(image: np.ndarray) -> str:
    """The picture of a candidate, uint8 [H, W, 3], as a file for the browser."""
    return save_img_array_to_cache(image, cache_dir=get_upload_folder(), format="png")


def pick_upload(path: str, height: int, width: int, position: float = 0.5) -> Pick:
    """A picture of one's own, cropped to the video's shape. Raises `RequestError` if it is none."""
    return Pick(picture=fit_picture(open_picture(path), height, width, position))


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


def show_choice(panel: ChoosePanel, round_: Round, pick: Pick) -> dict:
    """The page's view of a choice: the cards, the anchor's, and which buttons make sense."""
    index = anchor_index(round_, pick)
    picture = pick.picture if index is None else round_.find(index)[1]
    scored = any(candidate.scores for candidate in round_.kept)
    some, dropped = bool(round_.kept), len(round_.dropped)
    star = texts.UNSTAR_IT if index in round_.stars else texts.STAR_IT
    return {
        panel.order: gr.update(value=round_.by_score, visible=scored),
        panel.more: gr.update(visible=some),
        panel.rescore: gr.update(visible=scored),
        panel.restore: gr.update(value=texts.restore(dropped), visible=bool(dropped)),
        panel.export: gr.update(visible=some),
        panel.gallery: [(round_.find(c.index)[1], caption(round_, c, pick)) for c in round_.shown],
        panel.chart: chart_value(round_, pick),
        panel.anchor: picture,
        panel.words: say(describe_anchor(round_, pick)),
        panel.star: gr.update(value=star, visible=index is not None),
        panel.drop: gr.update(visible=index is not None and len(round_.kept) > 1),
        panel.back: gr.update(visible=some and index != round_.best),
    }


def say(words: str) -> str:
    """Words under the anchor (HTML)."""
    return f'<p role="status">{words}</p>'
