"""Panel 2, Choose the anchor: the gallery of candidates and the card of the one that will move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
from gradio.processing_utils import save_img_array_to_cache

from i4vgen.errors import RequestError
from i4vgen.events import Candidate, Loading, Progress, Stage
from i4vgen.media import fit_picture, open_picture
from i4vgen.request import Defaults, Request
from i4vgen.runtime import Runtime, StopToken
from i4vgen.ui import layout, pictures, texts
from i4vgen.ui.live import LiveView, live_value
from i4vgen.ui.progress import Tracker
from i4vgen.ui.session import (
    Pick,
    Round,
    anchor_position,
    best_position,
    caption,
    describe_anchor,
)


@dataclass
class ChoosePanel:
    """The components of panel 2."""

    status: LiveView
    gallery: gr.Gallery
    anchor: gr.Image
    words: gr.HTML
    upload: gr.UploadButton
    back: gr.Button
    animate: gr.Button
    stop: gr.Button
    leave: gr.Button

    @property
    def view(self) -> list[gr.components.Component]:
        """What `show_choice` fills: everything that depends on who the anchor is."""
        return [self.gallery, self.anchor, self.words, self.back]


def build(defaults: Defaults) -> ChoosePanel:
    """Draws panel 2."""
    crisp = ["crisp"] if pictures.is_small(defaults.height, defaults.width) else []
    with layout.panel(2, texts.CHOOSE, texts.CHOOSE_HINT, "choose"):
        status = LiveView(texts.GALLERY_EMPTY, elem_id="candidates-status")
        with gr.Row(elem_classes="choice"):
            with gr.Column(scale=7, min_width=300):
                gallery = gr.Gallery(
                    label=texts.GALLERY,
                    show_label=False,
                    columns=None,
                    height="auto",
                    format="png",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    fit_columns=False,
                    elem_id="gallery",
                    elem_classes=crisp,
                )
            with gr.Column(scale=3, min_width=260, elem_classes="anchor-card"):
                anchor = gr.Image(
                    label=texts.ANCHOR,
                    show_label=False,
                    interactive=False,
                    format="png",
                    buttons=[],
                    elem_id="anchor",
                    elem_classes=crisp,
                )
                words = gr.HTML(_words(texts.NO_ANCHOR), elem_id="anchor-words", apply_default_css=False)
                animate = gr.Button(
                    texts.ANIMATE, variant="primary", size="lg", interactive=False, elem_id="animate"
                )
                stop = gr.Button(texts.STOP, variant="stop", size="lg", visible=False, elem_id="stop-animate")
                leave = gr.Button(texts.LEAVE_QUEUE, size="lg", visible=False)
                back = gr.Button(texts.BACK_TO_BEST, size="md", visible=False, elem_id="back")
                upload = gr.UploadButton(texts.UPLOAD, file_types=["image"], size="md", elem_id="upload")
    return ChoosePanel(status, gallery, anchor, words, upload, back, animate, stop, leave)


def draw(
    runtime: Runtime, panel: ChoosePanel, request: Request, token: StopToken
) -> Iterator[tuple[Round, dict]]:
    """Stage 1: yields the round as far as it is, and what changed on the page, after every step."""
    started = time.perf_counter()
    round_ = Round(request, runtime.choice)
    tracker = Tracker({"candidates": 0})
    yield round_, {panel.status: live_value(texts.STARTING, fraction=0.0)}
    for event in runtime.stream(lambda pipeline: pipeline.candidates(request), token):
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
                file = save_img_array_to_cache(event.image, cache_dir=panel.gallery.GRADIO_CACHE, format="png")
                round_ = round_.with_candidate(event, file)
                yield round_, {}
    finished = len(round_.candidates)
    if finished == request.num_candidates:
        words = texts.candidates_done(finished, time.perf_counter() - started)
    else:
        words = texts.candidates_stopped(finished, request.num_candidates)
    yield round_, {panel.status: live_value(words)}


def pick_upload(path: str, height: int, width: int) -> Pick:
    """A picture of one's own, cropped to the video's shape. Raises `gr.Error` if it is none."""
    try:
        return Pick(picture=fit_picture(open_picture(path), height, width))
    except RequestError as error:  # its words name a temporary file, which nobody would recognise
        raise layout.refusal(texts.BAD_PICTURE, texts.NOT_NOW) from error


def show_choice(panel: ChoosePanel, round_: Round, pick: Pick) -> dict:
    """The page's view of a choice: captions, the anchor's card, and which buttons make sense."""
    count = len(round_.candidates)
    position = anchor_position(round_.candidates, pick)
    drawn = None if position is None else round_.files[position]
    picture = drawn if pick.picture is None else pick.picture
    is_best = pick.picture is None and position == best_position(round_.candidates)
    return {
        panel.gallery: [(round_.files[i], caption(round_.candidates, i, pick)) for i in range(count)],
        panel.anchor: picture,
        panel.words: _words(describe_anchor(round_.candidates, pick)),
        panel.back: gr.update(visible=bool(count) and not is_best),
    }


def _words(text: str) -> str:
    return f'<p role="status">{text}</p>'
