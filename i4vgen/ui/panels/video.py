"""Panel 3, Watch it move: the live view while a video is made, and the player for the finished ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import numpy as np
from gradio.components import Component

from i4vgen import metrics
from i4vgen.media import write_gif
from i4vgen.metrics import Measures
from i4vgen.recipe import comment_of
from i4vgen.runtime import StopToken
from i4vgen.ui import animating, files, layout, recipes, run_io, strings
from i4vgen.ui.captions import clip_label
from i4vgen.ui.components.compare import ComparePlayer
from i4vgen.ui.components.live import LiveView, live_value
from i4vgen.ui.components.report import Report, report_value
from i4vgen.ui.context import AppContext, Tab, View
from i4vgen.ui.queueing import IN_TURN
from i4vgen.ui.state import Animation, AnimationSet, Clip


class VideoPanel:
    """Draws panel 3, empty."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        with layout.panel(3, strings.WATCH, strings.WATCH_HINT, "watch"):
            self.live = LiveView(strings.LIVE_EMPTY, elem_id="live")
            self.player = ComparePlayer(elem_id="player")
            self.keep = gr.Radio(
                [],
                label=strings.KEEP,
                info=strings.KEEP_INFO,
                visible=False,
                elem_id="keep",
                elem_classes="saves",
            )
            with gr.Row(elem_classes="tools saves"):
                self.side = gr.Button(strings.SAVE_SIDE, size="sm", visible=False, elem_id="save-side")
                self.gif = gr.Button(strings.SAVE_GIF, size="sm", visible=False, elem_id="save-gif")
                self.everything = gr.Button(strings.SAVE_ALL, size="sm", visible=False, elem_id="save-all")
            self.report = Report(elem_id="report")
        context.video_view = View([self.live, self.player, *self.report_outputs], self.show)

    # What it shows

    @property
    def report_outputs(self) -> list[Component]:
        """What `show_report` fills."""
        return [self.report, self.keep, self.side, self.gif, self.everything]

    def show(self, animations: AnimationSet) -> dict:
        """What was animated as it was left, without computing it again."""
        words = strings.LIVE_STORED if animations.kept else strings.LIVE_EMPTY
        return {self.player: animations.clips, self.live: live_value(words)} | self.show_report(animations)

    def show_report(self, animations: AnimationSet) -> dict:
        """The figures under the player, the buttons that save, and of several videos which to keep."""
        videos, measures = animations.videos, animations.measures
        measured = [clip for clip in videos if clip.key in measures]
        report = report_value(
            {clip.key: clip.frames for clip in measured},
            measures,
            {clip.key: clip_label(clip) for clip in measured},
        )
        saves = {button: gr.update(visible=bool(videos)) for button in (self.side, self.gif, self.everything)}
        return saves | {self.report: report, self.keep: show_choice(animations)}

    # Animating

    def connect(self) -> None:
        """Connects the button that animates, and the ones that save what was made."""
        context = self.context
        run = context.connect_run(
            context.animating,
            context.animating.triggers,
            self.check,
            self.animate,
            [self.player, context.animations, context.baselines],
            self.live,
            clear=self.show_report(AnimationSet()),
        )
        run.success(self.show_report, context.animations, self.report_outputs, **IN_TURN)
        context.animated = run
        context.kept = self.keep.input(
            keep, [context.animations, self.keep], [context.animations, context.run_token], **IN_TURN
        )
        context.connect_save(self.side, save_side_by_side, context.animations)
        context.connect_save(self.gif, save_gif, context.animations)
        context.connect_save(self.everything, save_everything, context.animations)

    def check(self, tab: Tab) -> None:
        runtime, config, anchors = self.context.read_animation(tab)
        self.context.budget.check_time(runtime, config, anchors=len(anchors), compare=tab.form.compare)

    def animate(self, token: StopToken, tab: Tab) -> Iterator[dict]:
        """The animations, and what the page shows of them."""
        context = self.context
        runtime, config, anchors = context.read_animation(tab)
        steps = animating.animate(
            runtime,
            tab.candidate_set,
            config,
            anchors,
            tab.form.compare,
            tab.baselines,
            token,
            context.budget,
        )
        animations = AnimationSet()
        for step in steps:
            animations = step.animations
            changes = {self.live: step.live, context.baselines: step.baselines, context.animations: animations}
            if step.clips is not None:
                changes[self.player] = step.clips
            yield changes
        if animations.videos:  # the figures, once the videos can be looked at already
            yield {context.animations: replace(animations, animations=measure(animations))}


def show_choice(animations: AnimationSet) -> dict:
    """Which of several videos to keep: an update of the radio."""
    choices = [
        (strings.keep_choice((each.anchor.index or 0) + 1, position == animations.best), position)
        for position, each in enumerate(animations.animations)
    ]
    several = len(choices) > 1
    return gr.update(choices=choices, value=animations.kept_at if several else None, visible=several)


def keep(animations: AnimationSet, choice: int) -> tuple[AnimationSet, str]:
    """Keeps another one of several. Returns them, and its token in the run store."""
    return replace(animations, choice=choice), animations.animations[choice].token


def measure(animations: AnimationSet) -> tuple[Animation, ...]:
    """The animations with the figures of all their videos. What they share is looked at once, but for how much
    it keeps of each anchor.
    """
    known: dict[str, Measures] = {}

    def figures(clip: Clip, anchor: np.ndarray) -> Measures:
        if clip.path in known:
            return replace(known[clip.path], consistency=metrics.consistency(clip.frames, anchor))
        return known.setdefault(clip.path, metrics.measure(clip.frames, anchor, clip.scores))

    return tuple(
        replace(each, measures={clip.name: figures(clip, each.anchor.image) for clip in each.videos})
        for each in animations.animations
    )


def save_side_by_side(animations: AnimationSet) -> str:
    """All videos of the player."""
    path = files.fresh(files.name_of(kept(animations).config, "side-by-side", "mp4"))
    run_io.write_side_by_side(animations.videos, recipes.of_animations(animations), path)
    return str(path)


def save_gif(animations: AnimationSet) -> str:
    """The last video: I4VGen's, unless the run was stopped."""
    animation = kept(animations)
    clip = animation.videos[-1]
    path = files.fresh(files.name_of(animation.config, clip.name, "gif"))
    write_gif(path, clip.frames, clip.fps, comment=comment_of(recipes.of_animation(animation), [clip.name]))
    return str(path)


def save_everything(animations: AnimationSet) -> str:
    animation = kept(animations)
    path = files.fresh(files.name_of(animation.config, "run", "zip"))
    return str(run_io.pack_animation(animation, path))


def kept(animations: AnimationSet) -> Animation:
    """The one that is saved. Raises `LookupError` if there is none: the page shows no button then."""
    if animations.kept is None:
        raise LookupError("nothing was animated")
    return animations.kept
