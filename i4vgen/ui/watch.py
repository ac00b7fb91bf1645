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
from i4vgen.comparisons import COMPARISONS
from i4vgen.events import Event, Loading, Preview, Progress, Result, Selected, Stage
from i4vgen.generation_config import GenerationConfig
from i4vgen.media import write_image, write_video
from i4vgen.metrics import Measures
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.runtime import Runtime, StopToken
from i4vgen.tracking import PREVIEWS
from i4vgen.ui import files, layout, pictures, texts
from i4vgen.ui.compare import ComparePlayer
from i4vgen.ui.live import LiveView, live_value
from i4vgen.ui.progress import Tracker
from i4vgen.ui.report import Report, report_value
from i4vgen.ui.session import (
    AnchorSelection,
    Animation,
    Baselines,
    CandidateSet,
    Clip,
    anchor_index,
    baseline_key,
    reason,
)


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


def animation_config(form: GenerationConfig, candidate_set: CandidateSet) -> GenerationConfig:
    """What to animate: the form, but with the words and the seed of the candidates on the page."""
    drawn = candidate_set.config
    if drawn is None or not candidate_set.candidates:
        return form
    return replace(
        form,
        prompt=drawn.prompt,
        negative_prompt=drawn.negative_prompt,
        seed=drawn.seed,
        height=drawn.height,
        width=drawn.width,
    )


def make_anchor(candidate_set: CandidateSet, selection: AnchorSelection) -> Anchor | None:
    """The anchor for the engine, or None if nothing was drawn and nothing was brought."""
    if selection.picture is not None:
        return Anchor.from_image(Image.fromarray(selection.picture))
    index = anchor_index(candidate_set, selection)
    if index is None:
        return None
    return Anchor.from_candidate(candidate_set.find(index)[0], reason(candidate_set, index))


def animate(
    runtime: Runtime,
    panel: WatchPanel,
    candidate_set: CandidateSet,
    config: GenerationConfig,
    anchor: Anchor,
    compare: Sequence[str],
    known: Baselines,
    token: StopToken,
) -> Iterator[tuple[Baselines, Animation | None, dict]]:
    """Stage 2 and what it is compared with.

    Yields the baselines to remember, what is finished so far, and what changed on the page.
    """
    started = time.perf_counter()
    key = baseline_key(runtime.spec, config, anchor if runtime.entry.backbone.image_to_video else None)
    if known.key != key or not all(Path(clip.path).is_file() for clip in known.clips.values()):
        known = Baselines(key)
    missing = [name for name in compare if name not in known.clips]
    shown = {name: clip for name, clip in known.clips.items() if name in compare}
    plan = {"ni_vsds": config.ni_vsds_steps, "regeneration": config.regeneration_steps}
    plan |= {name: COMPARISONS[name].steps(config) for name in missing}
    tracker = Tracker(plan)
    view = {
        "num_frames": config.num_frames,
        "fps": runtime.defaults.fps,
        "ratio": config.width / config.height,
    }
    strip, facts, trace = "", "", []
    animation: Animation | None = None

    def events(pipeline: I4VGenPipeline) -> Iterator[Event]:
        return pipeline.animate(config, anchor, PREVIEWS, missing, judge=True)

    def live(words: str, fraction: float | None) -> dict:
        if fraction is None:
            return {panel.live: live_value(words)}
        progress = {"stages": tracker.stages(), "facts": facts, "trace": trace, "total": tracker.total}
        return {panel.live: live_value(words, fraction=fraction, strip=strip, **progress, **view)}

    yield known, animation, live(texts.STARTING, 0.0)  # the earlier comparison stays until there is a new one
    for event in runtime.stream(events, token):
        match event:
            case Loading(repo_or_path, done, total):
                yield known, animation, live(texts.downloading(repo_or_path, done, total), done / total)
            case Selected():
                clips = (save_picture(event.image),)
                made = runtime.describe()
                animation = Animation(candidate_set, config, runtime.spec, made, event, tuple(compare), clips)
            case Stage(name, total):
                tracker.begin(name, total)
                trace = []
            case Progress(stage, step, _, timestep, seconds, weight, update):
                trace.append(update)
                facts = texts.step_facts(timestep, weight, update)
                if tracker.step(stage, step, seconds):
                    yield known, animation, live(tracker.words(), tracker.fraction)
            case Preview():
                strip = pictures.film_strip(event.frames)
                yield known, animation, live(tracker.words(), tracker.fraction)
            case Result():
                strip = pictures.film_strip(event.frames)
                clip = shown[event.name] = save_clip(event)
                if event.name in missing:
                    known = known.with_clip(clip)
                animation = replace(animation, clips=in_order(animation.clips[0], shown))
                changes = {panel.player: animation.clips} if "i4vgen" in shown else {}
                yield known, animation, changes | live(tracker.words(), tracker.fraction)
    if {"i4vgen", *compare} <= set(shown):
        words = texts.animate_done(time.perf_counter() - started)
    else:
        words = texts.animate_stopped("ni_vsds" in shown)
    yield known, animation, live(words, None) | ({panel.player: animation.clips} if "ni_vsds" in shown else {})


def measure(animation: Animation) -> dict[str, Measures]:
    """The figures of every video of a take, by name."""
    anchor = animation.anchor.image
    return {clip.name: metrics.measure(clip.frames, anchor, clip.scores) for clip in animation.videos}


def show_report(panel: WatchPanel, animation: Animation | None) -> dict:
    """The figures under the player, and the buttons that save."""
    videos = animation.videos if animation else ()
    saves = {button: gr.update(visible=bool(videos)) for button in panel.saves}
    known = {clip.name: clip.frames for clip in videos if clip.name in animation.measures}
    return saves | {panel.report: report_value(known, animation.measures if animation else {})}


def show_take(panel: WatchPanel, animation: Animation | None) -> dict:
    """A take as it was left, without computing it again."""
    clips, words = (animation.clips, texts.LIVE_STORED) if animation else (None, texts.LIVE_EMPTY)
    return {panel.player: clips, panel.live: live_value(words)} | show_report(panel, animation)


def in_order(anchor: Clip, videos: Mapping[str, Clip]) -> tuple[Clip, ...]:
    """The panes from left to right: the plain videos, then the anchor and what was made of it."""
    panes = {"anchor": anchor, **videos}
    order = (*COMPARISONS, "anchor", "ni_vsds", "i4vgen")
    return tuple(panes[name] for name in order if name in panes)


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
