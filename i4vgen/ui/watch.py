"""Panel 3, Watch it move: the live view while a video is made, and the player for the finished ones."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradio.processing_utils import save_file_to_cache
from PIL import Image

from i4vgen.events import Event, Loading, Preview, Progress, Result, Stage
from i4vgen.free_init import ITERATIONS
from i4vgen.media import write_video
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.request import Defaults, Request
from i4vgen.runtime import Runtime, StopToken
from i4vgen.ui import layout, pictures, texts
from i4vgen.ui.compare import ComparePlayer
from i4vgen.ui.live import LiveView, live_value
from i4vgen.ui.progress import Tracker
from i4vgen.ui.session import Baselines, Clip, Pick, Round, anchor_position, baseline_key, best_position

PREVIEW_EVERY = 2
"""Decode the video after every so many steps. Each preview costs one pass of the decoder."""

PASSES = {"vanilla": 1, "freeinit": ITERATIONS}
"""How often a video is drawn."""


@dataclass
class WatchPanel:
    """The components of panel 3."""

    live: LiveView
    player: ComparePlayer


def build(defaults: Defaults) -> WatchPanel:
    """Draws panel 3."""
    crisp = ["crisp"] if pictures.is_small(defaults.height, defaults.width) else []
    with layout.panel(3, texts.WATCH, texts.WATCH_HINT, "watch"):
        live = LiveView(texts.LIVE_EMPTY, elem_id="live", elem_classes=crisp)
        player = ComparePlayer(elem_id="player", elem_classes=crisp)
    return WatchPanel(live, player)


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
    position = anchor_position(round_.candidates, pick)
    if position is None:
        return None
    reason = "highest reward" if position == best_position(round_.candidates) else "picked"
    return Anchor.from_candidate(round_.candidates[position], reason)


def animate(
    runtime: Runtime,
    panel: WatchPanel,
    request: Request,
    anchor: Anchor,
    compare: Sequence[str],
    known: Baselines,
    token: StopToken,
) -> Iterator[tuple[Baselines, dict]]:
    """Stage 2 and what it is compared with: yields the baselines to remember, and what changed on the page."""
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
    strip = ""
    half_way: Result | None = None

    def events(pipeline: I4VGenPipeline) -> Iterator[Event]:
        return pipeline.animate(request, anchor, PREVIEW_EVERY, missing)

    def live(words: str, fraction: float | None) -> dict:
        stages = tracker.stages() if fraction is not None else []
        return {panel.live: live_value(words, fraction=fraction, stages=stages, strip=strip, **view)}

    yield known, live(texts.STARTING, 0.0)  # the earlier comparison stays until there is a new one
    for event in runtime.stream(events, token):
        match event:
            case Loading(place, done, total):
                yield known, live(texts.downloading(place, done, total), done / total)
            case Stage(name, total):
                tracker.begin(name, total)
            case Progress(stage, step, _, _, seconds):
                if tracker.step(stage, step, seconds):
                    yield known, live(tracker.words(), tracker.fraction)
            case Preview():
                strip = pictures.film_strip(event.frames)
                yield known, live(tracker.words(), tracker.fraction)
            case Result():
                strip = pictures.film_strip(event.frames)
                if event.name == "ni_vsds":
                    half_way = event  # in the live view now; a video of its own only if it stays the last one
                    continue
                clip = shown[event.name] = save_clip(event, panel.player.GRADIO_CACHE)
                if event.name in missing:
                    known = known.with_clip(clip)
                yield known, {panel.player: in_order(shown)} | live(tracker.words(), tracker.fraction)
    strip = ""  # the player takes over
    if {"i4vgen", *compare} <= set(shown):
        # The player once more, for API clients, who see the last update only.
        done = live(texts.animate_done(time.perf_counter() - started), None)
        yield known, done | {panel.player: in_order(shown)}
        return
    stopped = live(texts.animate_stopped(bool(half_way)), None)
    if half_way and "i4vgen" not in shown:
        shown["ni_vsds"] = save_clip(half_way, panel.player.GRADIO_CACHE)
        stopped |= {panel.player: in_order(shown)}
    yield known, stopped


def in_order(clips: Mapping[str, Clip]) -> list[Clip]:
    """The panes from left to right: the plain videos, then what the anchor made of them."""
    return [clips[name] for name in ("vanilla", "freeinit", "ni_vsds", "i4vgen") if name in clips]


def save_clip(result: Result, cache: str) -> Clip:
    """Writes a finished video into Gradio's cache, where it is cleaned up with the other files of the app."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{result.name}.mp4"
        write_video(path, pictures.enlarge(result.frames), result.fps)
        kept = save_file_to_cache(path, cache_dir=cache)
    return Clip(result.name, kept, len(result.frames), result.fps, result.seconds)
