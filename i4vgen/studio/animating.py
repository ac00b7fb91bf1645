"""Animates anchors and yields the updates of the live view and the finished clips."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from i4vgen.events import Loading, Preview, Progress, Result, Selected, Stage
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.method.tracking import PREVIEWS
from i4vgen.pipeline import Anchor
from i4vgen.serving.budget import RunPlan
from i4vgen.serving.pace import RunClock
from i4vgen.serving.runtime import StopToken
from i4vgen.studio import files, pictures, strings
from i4vgen.studio.components.live import live_value, loading_value
from i4vgen.studio.progress import RunProgress
from i4vgen.studio.recipes import Recipes
from i4vgen.studio.state import (
    Animation,
    AnimationSet,
    Baselines,
    CandidateSet,
    Clip,
    baseline_key,
    pane_order,
)


@dataclass(frozen=True)
class AnimationStep:
    """The state of the page after a step.

    Attributes:
        baselines: The comparisons that the next run may reuse.
        animations: The animations whose I4VGen video is finished. The first one is included before that, too.
        live: The value of the live view (`live_value`).
        clips: The clips to show in the player; None leaves it unchanged.
    """

    baselines: Baselines
    animations: AnimationSet
    live: dict
    clips: tuple[Clip, ...] | None = None

    @property
    def animation(self) -> Animation | None:
        """The last animation; None without animations."""
        return self.animations.animations[-1] if self.animations.animations else None


def animate(
    plan: RunPlan,
    candidate_set: CandidateSet,
    anchors: Sequence[Anchor],
    known: Baselines,
    token: StopToken,
    clock: RunClock,
    recipes: Recipes,
) -> Iterator[AnimationStep]:
    """Animates the anchors one after the other and makes their comparison videos.

    The anchors share the comparisons, except with image-to-video models, which show the anchor in them.

    Args:
        plan: The plan of the run.
        candidate_set: The candidates of the tab.
        anchors: The anchors, at least one.
        known: The comparisons of the previous run, reused if this run would make the same ones.
        token: Stops the run.
        clock: Measures the run.
        recipes: Makes the recipes of the files.

    Yields:
        The state of the page after each step.
    """
    started = time.perf_counter()
    known = reusable(plan, anchors[0], known)
    own = {"ni_vsds": plan.config.ni_vsds_steps, "regeneration": plan.config.regeneration_steps}
    steps = {name: COMPARISONS[name].steps(plan.config) for name in plan.compare}
    missing = {name: count for name, count in steps.items() if name not in known.clips}
    later = own | (steps if plan.runtime.entry.backbone.image_to_video else {})
    tracker = RunProgress(clock, own | missing, *[later] * (len(anchors) - 1))
    finished, animation = AnimationSet(), None
    for part, anchor in enumerate(anchors):
        if token.stopped:
            break
        tracker.begin_part(part)
        before = finished.animations
        for step in _animate_one(plan, candidate_set, anchor, known, token, tracker, clock, recipes):
            known, animation = step.baselines, step.animation
            if animation and (animation.result or not before):
                finished = AnimationSet((*before, animation))
            yield replace(step, animations=finished, clips=finished.clips if step.clips else None)
    last = {clip.name for clip in animation.clips} if animation else set()
    if len(finished.animations) == len(anchors) and {"i4vgen", *plan.compare} <= last:
        words = f"Done in {time.perf_counter() - started:.0f} s."
    elif finished.videos:
        words = "Stopped. What was finished plays below, and your candidates are untouched."
    else:
        words = "Stopped. Your candidates and the anchor are untouched: animate again whenever you like."
    words = strings.with_lora_fits(words, animation.made if animation else {})
    yield AnimationStep(known, finished, live_value(words), finished.clips if finished.videos else None)


def _animate_one(
    plan: RunPlan,
    candidate_set: CandidateSet,
    anchor: Anchor,
    known: Baselines,
    token: StopToken,
    tracker: RunProgress,
    clock: RunClock,
    recipes: Recipes,
) -> Iterator[AnimationStep]:
    """Animates one anchor. The steps contain only the animation of this anchor."""
    runtime, config = plan.runtime, plan.config
    known = reusable(plan, anchor, known)
    missing = [name for name in plan.compare if name not in known.clips]
    shown = {name: clip for name, clip in known.clips.items() if name in plan.compare}
    strip, facts, trace = "", "", []
    animation: Animation | None = None

    def show(live: dict | None = None, with_clips: bool = False) -> AnimationStep:
        live = live or live_value(
            tracker.words(),
            fraction=clock.fraction,
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
        return AnimationStep(known, own, live, own.clips if with_clips else None)

    yield show()  # without clips: the player keeps its videos until I4VGen's is finished
    events = runtime.stream(
        lambda pipeline: pipeline.animate(config, anchor, missing, PREVIEWS, judge=True), token
    )
    for event in clock.watch(events):
        match event:
            case Loading():
                yield show(loading_value(event) | {"stages": tracker.stages()})
            case Selected():
                made = runtime.describe()
                still = files.save_anchor(event.image, recipes.of(config, made, event))
                animation = Animation(
                    candidate_set, config, runtime.spec, made, event, tuple(plan.compare), (still,)
                )
            case Stage(name, total):
                tracker.begin(name, total)
                trace = []
            case Progress(stage, number, _, timestep, _, weight, update):
                if weight is not None and update is not None:  # update is None without previews
                    trace.append(update)
                    facts = f"t = {timestep:.4g} \u00b7 weight {weight:.3f} \u00b7 update {update:.4f}"
                if tracker.step(stage, number):
                    yield show()
            case Preview():
                strip = pictures.film_strip(event.frames)
                yield show()
            case Result() if animation:
                strip = pictures.film_strip(event.frames)
                clip = shown[event.name] = files.save_clip(event, recipes.of_animation(animation))
                if event.name in missing:
                    known = known.with_clip(clip)
                animation = replace(animation, clips=pane_order(still, shown))
                yield show(with_clips="i4vgen" in shown)


def reusable(plan: RunPlan, anchor: Anchor, known: Baselines) -> Baselines:
    """Returns the comparisons that an anchor can share: none if their key differs or a file is missing."""
    is_shown = plan.runtime.entry.backbone.image_to_video
    key = baseline_key(plan.runtime.spec, plan.config, anchor if is_shown else None)
    if known.key != key or not all(Path(clip.path).is_file() for clip in known.clips.values()):
        return Baselines(key)
    return known
