"""Panel 3, Watch it move: the live view while a video is made, and the player for the finished ones."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from i4vgen import metrics
from i4vgen.events import Event, Loading, Preview, Progress, Result, Selected, Stage
from i4vgen.free_init import ITERATIONS
from i4vgen.media import write_image, write_video
from i4vgen.metrics import Measures
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.request import Request
from i4vgen.runtime import Runtime, StopToken
from i4vgen.tracking import PREVIEWS
from i4vgen.ui import files, layout, pictures, texts
from i4vgen.ui.compare import ComparePlayer
from i4vgen.ui.live import LiveView, live_value
from i4vgen.ui.progress import Tracker
from i4vgen.ui.report import Report, report_value
from i4vgen.ui.session import (
    Baselines,
    Clip,
    Pick,
    Round,
    Take,
    anchor_index,
    baseline_key,
    reason,
)

PASSES = {"vanilla": 1, "freeinit": ITERATIONS}
"""How often a video is drawn."""


@dataclass
class WatchPanel:
    """The components of panel 3."""

    live: LiveView
    player: ComparePlayer
    report: Report
    side: gr.Button
    gif: gr.Button
    everything: gr.Button

    @property
    def saves(self) -> list[gr.Button]:
        """The buttons that need finished videos."""
        return [self.side, self.gif, self.everything]


def build() -> WatchPanel:
    """Draws panel 3, empty."""
    with layout.panel(3, texts.WATCH, texts.WATCH_HINT, "watch"):
        live = LiveView(texts.LIVE_EMPTY, elem_id="live")
        player = ComparePlayer(elem_id="player")
        with gr.Row(elem_classes="tools saves"):
            side = gr.Button(texts.SAVE_SIDE, size="sm", visible=False, elem_id="save-side")
            gif = gr.Button(texts.SAVE_GIF, size="sm", visible=False, elem_id="save-gif")
            everything = gr.Button(texts.SAVE_ALL, size="sm", visible=False, elem_id="save-all")
        report = Report(elem_id="report")
    return WatchPanel(live, player, report, side, gif, everything)


def animation_request(form: Request, round_: Round) -> Request:
    """What to animate: the form, but with the words and the seed of the candidates on the page."""
    drawn = round_.request
    if drawn is None or not round_.candidates:
        return form
    return replace(
        form,
        prompt=drawn.prompt,
        negative_prompt=drawn.negative_prompt,
        seed=drawn.seed,
        height=drawn.height,
        width=drawn.width,
    )


def make_anchor(round_: Round, pick: Pick) -> Anchor | None:
    """The anchor for the engine, or None if nothing was drawn and nothing was brought."""
    if pick.picture is not None:
        return Anchor.from_image(Image.fromarray(pick.picture))
    index = anchor_index(round_, pick)
    if index is None:
        return None
    return Anchor.from_candidate(round_.find(index)[0], reason(round_, index))


def animate(
    runtime: Runtime,
    panel: WatchPanel,
    round_: Round,
    request: Request,
    anchor: Anchor,
    compare: Sequence[str],
    known: Baselines,
    token: StopToken,
) -> Iterator[tuple[Baselines, Take | None, dict]]:
    """Stage 2 and what it is compared with.

    Yields the baselines to remember, what is finished so far, and what changed on the page.
    """
    started = time.perf_counter()
    key = baseline_key(runtime.choice, request, anchor if runtime.entry.backbone.image_to_video else None)
    if known.key != key or not all(Path(clip.path).is_file() for clip in known.clips.values()):
        known = Baselines(key)
    missing = [name for name in compare if name not in known.clips]
    shown = {name: clip for name, clip in known.clips.items() if name in compare}
    plan = {"ni_vsds": request.ni_vsds_steps, "regeneration": request.regeneration_steps}
    plan |= {name: PASSES[name] * request.num_inference_steps for name in missing}
    tracker = Tracker(plan)
    view = {
        "num_frames": request.num_frames,
        "fps": runtime.defaults.fps,
        "ratio": request.width / request.height,
    }
    strip, facts, trace = "", "", []
    take: Take | None = None

    def events(pipeline: I4VGenPipeline) -> Iterator[Event]:
        return pipeline.animate(request, anchor, PREVIEWS, missing, judge=True)

    def live(words: str, fraction: float | None) -> dict:
        if fraction is None:
            return {panel.live: live_value(words)}
        progress = {"stages": tracker.stages(), "facts": facts, "trace": trace, "total": tracker.total}
        return {panel.live: live_value(words, fraction=fraction, strip=strip, **progress, **view)}

    yield known, take, live(texts.STARTING, 0.0)  # the earlier comparison stays until there is a new one
    for event in runtime.stream(events, token):
        match event:
            case Loading(place, done, total):
                yield known, take, live(texts.downloading(place, done, total), done / total)
            case Selected():
                clips = (save_picture(event.image),)
                made = runtime.describe()
                take = Take(round_, request, runtime.choice, made, event, tuple(compare), clips)
            case Stage(name, total):
                tracker.begin(name, total)
                trace = []
            case Progress(stage, step, _, timestep, seconds, weight, update):
                trace.append(update)
                facts = texts.step_facts(timestep, weight, update)
                if tracker.step(stage, step, seconds):
                    yield known, take, live(tracker.words(), tracker.fraction)
            case Preview():
                strip = pictures.film_strip(event.frames)
                yield known, take, live(tracker.words(), tracker.fraction)
            case Result():
                strip = pictures.film_strip(event.frames)
                clip = shown[event.name] = save_clip(event)
                if event.name in missing:
                    known = known.with_clip(clip)
                take = replace(take, clips=in_order(take.clips[0], shown))
                changes = {panel.player: take.clips} if "i4vgen" in shown else {}
                yield known, take, changes | live(tracker.words(), tracker.fraction)
    if {"i4vgen", *compare} <= set(shown):
        words = texts.animate_done(time.perf_counter() - started)
    else:
        words = texts.animate_stopped("ni_vsds" in shown)
    yield known, take, live(words, None) | ({panel.player: take.clips} if "ni_vsds" in shown else {})


def measure(take: Take) -> dict[str, Measures]:
    """The figures of every video of a take, by name."""
    anchor = take.anchor.image
    return {clip.name: metrics.measure(clip.frames, anchor, clip.scores) for clip in take.videos}


def show_report(panel: WatchPanel, take: Take | None) -> dict:
    """The figures under the player, and the buttons that save."""
    videos = take.videos if take else ()
    saves = {button: gr.update(visible=bool(videos)) for button in panel.saves}
    known = {clip.name: clip.frames for clip in videos if clip.name in take.measures}
    return saves | {panel.report: report_value(known, take.measures if take else {})}


def show_take(panel: WatchPanel, take: Take | None) -> dict:
    """A take as it was left, without computing it again."""
    clips, words = (take.clips, texts.LIVE_STORED) if take else (None, texts.LIVE_EMPTY)
    return {panel.player: clips, panel.live: live_value(words)} | show_report(panel, take)


def in_order(anchor: Clip, videos: Mapping[str, Clip]) -> tuple[Clip, ...]:
    """The panes from left to right: the plain videos, then the anchor and what was made of it."""
    panes = {"anchor": anchor, **videos}
    return tuple(
        panes[name] for name in ("vanilla", "freeinit", "anchor", "ni_vsds", "i4vgen") if name in panes
    )


def save_clip(result: Result) -> Clip:
    """Writes a finished video where the browser finds it."""
    path = files.fresh(f"{result.name}.mp4")
    write_video(path, result.frames, result.fps)
    frames = result.frames
    return Clip(result.name, str(path), len(frames), result.fps, result.seconds, frames, result.scores)


def save_picture(image: np.ndarray) -> Clip:
    """Writes the anchor, uint8 [H, W, 3], as a still pane of the player."""
    path = files.fresh("anchor.png")
    write_image(path, image)
    return Clip("anchor", str(path), 1, 1, 0.0, image[None])
