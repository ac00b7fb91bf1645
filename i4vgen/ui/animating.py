"""Stage 2 as the page follows it: the live view while a video is made, and the clips that are finished."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from i4vgen.comparisons import COMPARISONS
from i4vgen.events import Event, Loading, Preview, Progress, Result, Selected, Stage
from i4vgen.generation_config import GenerationConfig
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.runtime import Runtime, StopToken
from i4vgen.tracking import PREVIEWS
from i4vgen.ui import files, pictures, recipes, strings
from i4vgen.ui.components.live import live_value
from i4vgen.ui.progress import Tracker
from i4vgen.ui.state import Animation, Baselines, CandidateSet, Clip, baseline_key, in_order


@dataclass(frozen=True)
class Step:
    """The page after a step.

    Attributes:
        baselines: To remember.
        animation: What is finished so far.
        live: What the live view shows, see `live_value`.
        clips: What the player shows, if that changes.
    """

    baselines: Baselines
    animation: Animation | None
    live: dict
    clips: tuple[Clip, ...] | None = None


def animate(
    runtime: Runtime,
    candidate_set: CandidateSet,
    config: GenerationConfig,
    anchor: Anchor,
    compare: Sequence[str],
    known: Baselines,
    token: StopToken,
) -> Iterator[Step]:
    """Stage 2 and what it is compared with. known: the baselines of the run before, which may serve again."""
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

    def live(words: str, fraction: float) -> dict:
        progress = {"stages": tracker.stages(), "facts": facts, "trace": trace, "total": tracker.total}
        return live_value(words, fraction=fraction, strip=strip, **progress, **view)

    # Without clips: the earlier comparison stays until there is a new one.
    yield Step(known, animation, live(strings.STARTING, 0.0))
    for event in runtime.stream(events, token):
        match event:
            case Loading(repo_or_path, done, total):
                yield Step(known, animation, live(strings.downloading(repo_or_path, done, total), done / total))
            case Selected():
                made = runtime.describe()
                clips = (files.save_anchor(event.image, recipes.recipe(config, made, event)),)
                animation = Animation(candidate_set, config, runtime.spec, made, event, tuple(compare), clips)
            case Stage(name, total):
                tracker.begin(name, total)
                trace = []
            case Progress(stage, step, _, timestep, seconds, weight, update):
                if weight is not None and update is not None:  # with previews they are there
                    trace.append(update)
                    facts = strings.step_facts(timestep, weight, update)
                if tracker.step(stage, step, seconds):
                    yield Step(known, animation, live(tracker.words(), tracker.fraction))
            case Preview():
                strip = pictures.film_strip(event.frames)
                yield Step(known, animation, live(tracker.words(), tracker.fraction))
            case Result() if animation:
                strip = pictures.film_strip(event.frames)
                clip = shown[event.name] = files.save_clip(event, recipes.of_animation(animation))
                if event.name in missing:
                    known = known.with_clip(clip)
                animation = replace(animation, clips=in_order(animation.clips[0], shown))
                clips = animation.clips if "i4vgen" in shown else None
                yield Step(known, animation, live(tracker.words(), tracker.fraction), clips)
    if {"i4vgen", *compare} <= set(shown):
        words = strings.animate_done(time.perf_counter() - started)
    else:
        words = strings.animate_stopped("ni_vsds" in shown)
    clips = animation.clips if animation and "ni_vsds" in shown else None
    yield Step(known, animation, live_value(words), clips)
