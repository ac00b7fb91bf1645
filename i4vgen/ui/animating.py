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
from i4vgen.ui.limits import Budget
from i4vgen.ui.progress import Tracker
from i4vgen.ui.state import (
    Animation,
    AnimationSet,
    Baselines,
    CandidateSet,
    Clip,
    baseline_key,
    in_order,
)


@dataclass(frozen=True)
class Step:
    """The page after a step.

    Attributes:
        baselines: To remember.
        animations: What is finished so far, and what is there of the first.
        live: What the live view shows, see `live_value`.
        clips: What the player shows, if that changes.
    """

    baselines: Baselines
    animations: AnimationSet
    live: dict
    clips: tuple[Clip, ...] | None = None

    @property
    def animation(self) -> Animation | None:
        """The last one."""
        return self.animations.animations[-1] if self.animations.animations else None


def animate(
    runtime: Runtime,
    candidate_set: CandidateSet,
    config: GenerationConfig,
    anchors: Sequence[Anchor],
    compare: Sequence[str],
    known: Baselines,
    token: StopToken,
    budget: Budget,
) -> Iterator[Step]:
    """Stage 2 of one anchor after the other, and what they are compared with.

    known: the baselines of the run before, which may serve again. Those of one anchor serve the next, unless
    the model shows the anchor in them.
    """
    started = time.perf_counter()
    known = _usable(known, _key(runtime, config, anchors[0]))
    own = {"ni_vsds": config.ni_vsds_steps, "regeneration": config.regeneration_steps}
    steps = {name: COMPARISONS[name].steps(config) for name in compare}
    missing = {name: count for name, count in steps.items() if name not in known.clips}
    later = own | (steps if runtime.entry.backbone.image_to_video else {})
    tracker = Tracker(own | missing, *[later] * (len(anchors) - 1))
    finished, animation = AnimationSet(), None
    for part, anchor in enumerate(anchors):
        if token.stopped:
            break
        tracker.begin_part(part)
        before = finished.animations
        for step in _animate(runtime, candidate_set, config, anchor, compare, known, token, tracker, budget):
            known, animation = step.baselines, step.animation
            if animation and (animation.result or not before):
                finished = AnimationSet((*before, animation))
            yield replace(step, animations=finished, clips=finished.clips if step.clips else None)
    last = {clip.name for clip in animation.clips} if animation else set()
    if len(finished.animations) == len(anchors) and {"i4vgen", *compare} <= last:
        words = strings.animate_done(time.perf_counter() - started)
    else:
        words = strings.animate_stopped(bool(finished.videos))
    yield Step(known, finished, live_value(words), finished.clips if finished.videos else None)


def _animate(
    runtime: Runtime,
    candidate_set: CandidateSet,
    config: GenerationConfig,
    anchor: Anchor,
    compare: Sequence[str],
    known: Baselines,
    token: StopToken,
    tracker: Tracker,
    budget: Budget,
) -> Iterator[Step]:
    """Stage 2 of one anchor. Its steps have no more animations than its own."""
    known = _usable(known, _key(runtime, config, anchor))
    missing = [name for name in compare if name not in known.clips]
    shown = {name: clip for name, clip in known.clips.items() if name in compare}
    strip, facts, trace = "", "", []
    animation: Animation | None = None

    def events(pipeline: I4VGenPipeline) -> Iterator[Event]:
        return pipeline.animate(config, anchor, PREVIEWS, missing, judge=True)

    def step(words: str, fraction: float, with_clips: bool = False) -> Step:
        live = live_value(
            words,
            fraction=fraction,
            stages=tracker.stages(),
            facts=facts,
            trace=trace,
            total=tracker.total,
            strip=strip,
            num_frames=config.num_frames,
            fps=runtime.defaults.fps,
            ratio=config.width / config.height,
        )
        own = AnimationSet((animation,) if animation else ())
        return Step(known, own, live, own.clips if with_clips else None)

    # Without clips: the earlier comparison stays until there is a new one.
    yield step(strings.STARTING, tracker.fraction)
    for event in budget.stopwatch(runtime, config, missing).watch(runtime.stream(events, token)):
        match event:
            case Loading(repo_or_path, done, total):
                yield step(strings.downloading(repo_or_path, done, total), done / total)
            case Selected():
                made = runtime.describe()
                clips = (files.save_anchor(event.image, recipes.recipe(config, made, event)),)
                animation = Animation(candidate_set, config, runtime.spec, made, event, tuple(compare), clips)
            case Stage(name, total):
                tracker.begin(name, total)
                trace = []
            case Progress(stage, number, _, timestep, seconds, weight, update):
                if weight is not None and update is not None:  # with previews they are there
                    trace.append(update)
                    facts = strings.step_facts(timestep, weight, update)
                if tracker.step(stage, number, seconds):
                    yield step(tracker.words(), tracker.fraction)
            case Preview():
                strip = pictures.film_strip(event.frames)
                yield step(tracker.words(), tracker.fraction)
            case Result() if animation:
                strip = pictures.film_strip(event.frames)
                clip = shown[event.name] = files.save_clip(event, recipes.of_animation(animation))
                if event.name in missing:
                    known = known.with_clip(clip)
                animation = replace(animation, clips=in_order(animation.clips[0], shown))
                yield step(tracker.words(), tracker.fraction, with_clips="i4vgen" in shown)


def _key(runtime: Runtime, config: GenerationConfig, anchor: Anchor) -> tuple:
    return baseline_key(runtime.spec, config, anchor if runtime.entry.backbone.image_to_video else None)


def _usable(known: Baselines, key: tuple) -> Baselines:
    """The baselines, or none yet if they belong to another key or their files are gone."""
    if known.key != key or not all(Path(clip.path).is_file() for clip in known.clips.values()):
        return Baselines(key)
    return known
