"""Panel 3, Watch it move: the live view while a video is made, and the player for the finished ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
from gradio.components import Component

from i4vgen import metrics
from i4vgen.media import write_gif
from i4vgen.metrics import Measures
from i4vgen.recipe import comment_of
from i4vgen.runtime import StopToken
from i4vgen.ui import animating, files, layout, recipes, run_io, strings
from i4vgen.ui.components.compare import ComparePlayer
from i4vgen.ui.components.live import LiveView, live_value
from i4vgen.ui.components.report import Report, report_value
from i4vgen.ui.context import AppContext, Tab, View
from i4vgen.ui.queueing import IN_TURN
from i4vgen.ui.state import Animation


class VideoPanel:
    """Draws panel 3, empty."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        with layout.panel(3, strings.WATCH, strings.WATCH_HINT, "watch"):
            self.live = LiveView(strings.LIVE_EMPTY, elem_id="live")
            self.player = ComparePlayer(elem_id="player")
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
        return [self.report, self.side, self.gif, self.everything]

    def show(self, animation: Animation | None) -> dict:
        """An animation as it was left, without computing it again."""
        clips, words = (animation.clips, strings.LIVE_STORED) if animation else (None, strings.LIVE_EMPTY)
        return {self.player: clips, self.live: live_value(words)} | self.show_report(animation)

    def show_report(self, animation: Animation | None) -> dict:
        """The figures under the player, and the buttons that save."""
        videos, measures = (animation.videos, animation.measures) if animation else ((), {})
        saves = {button: gr.update(visible=bool(videos)) for button in (self.side, self.gif, self.everything)}
        known = {clip.name: clip.frames for clip in videos if clip.name in measures}
        return saves | {self.report: report_value(known, measures)}

    # Animating

    def connect(self) -> None:
        """Connects the button that animates, and the ones that save what was made."""
        context = self.context
        run = context.connect_run(
            context.animating,
            context.animating.triggers,
            context.read_animation,
            self.animate,
            [self.player, context.animation, context.baselines],
            self.live,
            clear=self.show_report(None),
        )
        run.success(self.show_report, context.animation, self.report_outputs, **IN_TURN)
        context.animated = run
        context.connect_save(self.side, save_side_by_side, context.animation)
        context.connect_save(self.gif, save_gif, context.animation)
        context.connect_save(self.everything, save_everything, context.animation)

    def animate(self, token: StopToken, tab: Tab) -> Iterator[dict]:
        """The animation, and what the page shows of it."""
        context = self.context
        runtime, config, anchor = context.read_animation(tab)
        steps = animating.animate(
            runtime, tab.candidate_set, config, anchor, tab.form.compare, tab.baselines, token
        )
        animation = None
        for step in steps:
            animation = step.animation
            changes = {self.live: step.live, context.baselines: step.baselines, context.animation: animation}
            if step.clips is not None:
                changes[self.player] = step.clips
            yield changes
        if animation and animation.videos:  # the figures, once the videos can be looked at already
            yield {context.animation: replace(animation, measures=measure(animation))}


def measure(animation: Animation) -> dict[str, Measures]:
    """The figures of every video, by name."""
    anchor = animation.anchor.image
    return {clip.name: metrics.measure(clip.frames, anchor, clip.scores) for clip in animation.videos}


def save_side_by_side(animation: Animation) -> str:
    path = files.fresh(files.name_of(animation.config, "side-by-side", "mp4"))
    run_io.write_side_by_side(animation, path)
    return str(path)


def save_gif(animation: Animation) -> str:
    """The last video: I4VGen's, unless the run was stopped."""
    clip = animation.videos[-1]
    path = files.fresh(files.name_of(animation.config, clip.name, "gif"))
    write_gif(path, clip.frames, clip.fps, comment=comment_of(recipes.of_animation(animation), [clip.name]))
    return str(path)


def save_everything(animation: Animation) -> str:
    path = files.fresh(files.name_of(animation.config, "run", "zip"))
    return str(run_io.pack_animation(animation, path))
