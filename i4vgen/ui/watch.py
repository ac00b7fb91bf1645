"""Panel 3, Watch it move: the live view while a video is made, and the player for the finished ones."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gradio.processing_utils import save_file_to_cache
from PIL import Image

from i4vgen.events import Event, Preview, Progress, Result, Stage
from i4vgen.media import write_video
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.request import Defaults, Request
from i4vgen.runtime import Runtime, StopToken
from i4vgen.ui import layout, pictures, texts
from i4vgen.ui.compare import ComparePlayer
from i4vgen.ui.live import LiveView, live_value
from i4vgen.ui.progress import Tracker
from i4vgen.ui.session import Clip, Pick, Round, VanillaCache, anchor_position, best_position, vanilla_key

PREVIEW_EVERY = 2
"""Decode the video after every so many steps. Each preview costs one pass of the decoder."""


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
    known: VanillaCache,
    token: StopToken,
) -> Iterator[tuple[VanillaCache, dict]]:
    """Stage 2 and the vanilla video: yields the vanilla video to remember, and what changed on the page."""
    started = time.perf_counter()
    key = vanilla_key(request)
    vanilla = known.clip if known.key == key and known.clip and Path(known.clip.path).is_file() else None
    plan = {"ni_vsds": request.ni_vsds_steps, "regeneration": request.regeneration_steps}
    if vanilla is None:
        plan["vanilla"] = request.num_inference_steps
    tracker = Tracker(plan)
    view = {
        "num_frames": request.num_frames,
        "fps": runtime.defaults.fps,
        "ratio": request.width / request.height,
    }
    clips: dict[str, Clip] = {}
    strip = ""
    half_way: Result | None = None

    def events(pipeline: I4VGenPipeline) -> Iterator[Event]:
        yield from pipeline.animate(request, anchor, preview_every=PREVIEW_EVERY)
        if vanilla is None:
            yield from pipeline.vanilla(request, preview_every=PREVIEW_EVERY)

    def live(words: str, fraction: float | None) -> dict:
        stages = tracker.stages() if fraction is not None else []
        return {panel.live: live_value(words, fraction=fraction, stages=stages, strip=strip, **view)}

    yield known, live(texts.STARTING, 0.0)  # the earlier comparison stays until there is a new one
    for event in runtime.stream(events, token):
        match event:
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
                clips[event.name] = save_clip(event, panel.player.GRADIO_CACHE)
                if event.name == "vanilla":
                    known = VanillaCache(key, clips["vanilla"])
                yield (
                    known,
                    {panel.player: in_order(clips, vanilla)} | live(tracker.words(), tracker.fraction),
                )
    strip = ""  # the player takes over
    if "i4vgen" in clips and (vanilla or "vanilla" in clips):
        yield known, live(texts.animate_done(time.perf_counter() - started), None)
        return
    stopped = live(texts.animate_stopped(bool(clips or half_way)), None)
    if half_way and not clips:
        clips["ni_vsds"] = save_clip(half_way, panel.player.GRADIO_CACHE)
        stopped |= {panel.player: in_order(clips, vanilla)}
    yield known, stopped


def in_order(clips: dict[str, Clip], vanilla: Clip | None) -> list[Clip]:
    """The panes from left to right: the plain video, then what the anchor made of it."""
    have = clips if vanilla is None else {"vanilla": vanilla, **clips}
    return [have[name] for name in ("vanilla", "ni_vsds", "i4vgen") if name in have]


def save_clip(result: Result, cache: str) -> Clip:
    """Writes a finished video into Gradio's cache, where it is cleaned up with the other files of the app."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{result.name}.mp4"
        write_video(path, pictures.enlarge(result.frames), result.fps)
        kept = save_file_to_cache(path, cache_dir=cache)
    return Clip(result.name, kept, len(result.frames), result.fps, result.seconds)
