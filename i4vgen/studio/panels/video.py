"""Panel 3, Watch it move: the live view of a run, and the player of finished videos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import numpy as np
from gradio.components import Component
from gradio.events import Dependency

from i4vgen import metrics
from i4vgen.media import write_gif
from i4vgen.metrics import Measures
from i4vgen.storage.recipe import comment_of
from i4vgen.studio import animating, files, layout, run_io, strings
from i4vgen.studio.captions import label_of_clip
from i4vgen.studio.components.compare import ComparePlayer
from i4vgen.studio.components.live import LiveView, live_value
from i4vgen.studio.components.report import Report, report_value
from i4vgen.studio.context import AppContext, Page, PageRun, StartedRun, View
from i4vgen.studio.queueing import QUICK
from i4vgen.studio.session import Session
from i4vgen.studio.state import Animation, AnimationSet, Clip, make_anchors


class VideoPanel:
    """Panel 3, initially empty.

    Attributes:
        view: Shows an `AnimationSet`.
    """

    def __init__(self, context: AppContext) -> None:
        self.context = context
        hint = "The anchor is animated, then plays next to the vanilla video of the same prompt and seed."
        with layout.panel(3, "Watch it move", hint, "watch"):
            self.live = LiveView(strings.LIVE_EMPTY, elem_id="live")
            self.player = ComparePlayer(elem_id="player")
            self.keep = gr.Radio(
                [],
                label="Keep",
                info="The GIF, the zip and the link to this page are of this video. All are in your runs.",
                visible=False,
                elem_id="keep",
                elem_classes="saves",
            )
            with gr.Row(elem_classes="tools saves"):
                self.side = layout.tool("Side by side (mp4)", "save-side")
                self.gif = layout.tool("GIF", "save-gif")
                self.everything = layout.tool("Everything (zip)", "save-all")
            self.report = Report(elem_id="report")
        self.view = View([self.live, self.player, *self.report_outputs], self.show)

    # Display

    @property
    def report_outputs(self) -> list[Component]:
        """The components that `show_report` updates."""
        return [self.report, self.keep, self.side, self.gif, self.everything]

    def show(self, animations: AnimationSet) -> dict:
        """Returns the updates that show finished animations."""
        words = "From a stored run; nothing is being computed." if animations.kept else strings.LIVE_EMPTY
        return {self.player: animations.clips, self.live: live_value(words)} | self.show_report(animations)

    def show_report(self, animations: AnimationSet) -> dict:
        """Returns the updates of the metrics, the save buttons and the choice of the animation to keep."""
        videos, measures = animations.videos, animations.measures
        measured = [clip for clip in videos if clip.key in measures]
        report = report_value(
            {clip.key: clip.frames for clip in measured},
            measures,
            {clip.key: label_of_clip(clip) for clip in measured},
        )
        saves = {button: gr.update(visible=bool(videos)) for button in (self.side, self.gif, self.everything)}
        return saves | {self.report: report, self.keep: show_keep(animations)}

    # Animating

    def connect(self, page: Page) -> tuple[Dependency, Dependency]:
        """Connects the run that animates, and the buttons that save its results.

        Returns:
            The event that follows an animation until it ends, and the one that chooses which of several
            animations to keep.
        """
        context, buttons = self.context, page.animating
        run = PageRun(
            buttons,
            self.live,
            context.plan_animation,
            self.animate,
            begin=lambda session: {self.player: session.animations.clips} | self.show_report(AnimationSet()),
            end=lambda session: {self.player: session.animations.clips} | self.show_report(session.animations),
        )
        outputs = [self.player, *self.report_outputs]
        ended = page.connect_run(run, buttons.triggers, outputs, clear=self.show_report(AnimationSet()))
        kept = self.keep.input(context.handlers.for_tab(keep), self.keep, context.run_token, **QUICK)
        context.connect_save(self.side, self.save_side_by_side)
        context.connect_save(self.gif, self.save_gif)
        context.connect_save(self.everything, self.save_everything)
        return ended, kept

    def animate(self, run: StartedRun) -> Iterator[dict]:
        """Animates the tab's anchors."""
        session, tab = run.session, run.tab
        anchors = make_anchors(tab.candidate_set, tab.selection)
        steps = animating.animate(
            run.plan, tab.candidate_set, anchors, tab.baselines, run.token, run.clock, self.context.recipes
        )
        animations = AnimationSet()
        for step in steps:
            animations, session.baselines = step.animations, step.baselines
            # The new animations replace the earlier ones when their first video is finished, so the earlier
            # ones stay if the run fails or is stopped before that.
            if animations.videos:
                session.animations, session.made_here = animations, True
            yield {self.live: step.live} | ({} if step.clips is None else {self.player: step.clips})
        if animations.videos:  # measured last, while the visitor watches the videos
            session.animations = replace(animations, animations=measure_all(animations))

    # Saving

    def save_side_by_side(self, session: Session) -> str:
        """Saves all videos of the player side by side and returns the path."""
        animations = session.animations
        path = files.new_path(files.download_name(kept(animations).config, "side-by-side", "mp4"))
        recipe = self.context.recipes.of_animations(animations)
        run_io.write_side_by_side(animations.videos, recipe, path)
        return str(path)

    def save_gif(self, session: Session) -> str:
        """Saves the last video of the kept animation as a GIF and returns the path.

        The last video is I4VGen's, if that is finished.
        """
        animation = kept(session.animations)
        clip, recipe = animation.videos[-1], self.context.recipes.of_animation(animation)
        path = files.new_path(files.download_name(animation.config, clip.name, "gif"))
        write_gif(path, clip.frames, clip.fps, comment=comment_of(recipe, [clip.name]))
        return str(path)

    def save_everything(self, session: Session) -> str:
        """Packs the kept animation as a run and returns the path of the zip file."""
        animation = kept(session.animations)
        path = files.new_path(files.download_name(animation.config, "run", "zip"))
        return str(run_io.pack_animation(animation, self.context.recipes, path))


def show_keep(animations: AnimationSet) -> dict:
    """Returns the update of the "Keep" buttons, which are visible if there are several animations."""
    choices = [
        (
            f"Candidate {(each.anchor.index or 0) + 1}{f' {strings.CROWN}' if at == animations.best else ''}",
            at,
        )
        for at, each in enumerate(animations.animations)
    ]
    several = len(choices) > 1
    return gr.update(choices=choices, value=animations.kept_index if several else None, visible=several)


def keep(session: Session, choice: int) -> str:
    """Keeps the animation that the visitor chose and returns the token of its run.

    Args:
        session: The session of the tab.
        choice: The position of the animation in the set.

    Returns:
        The token of the run in the run store; empty until the run is stored.
    """
    token = session.animations.animations[choice].token
    session.animations = replace(session.animations, choice=choice)
    return token


def measure_all(animations: AnimationSet) -> tuple[Animation, ...]:
    """Returns the animations with the metrics of all their videos.

    A video that several animations share is measured once, except for its consistency with each anchor.
    """
    known: dict[str, Measures] = {}

    def figures(clip: Clip, anchor: np.ndarray) -> Measures:
        if clip.path in known:
            return replace(known[clip.path], consistency=metrics.consistency(clip.frames, anchor))
        return known.setdefault(clip.path, metrics.measure(clip.frames, anchor, clip.scores, clip.steadiness))

    return tuple(
        replace(each, measures={clip.name: figures(clip, each.anchor.image) for clip in each.videos})
        for each in animations.animations
    )


def kept(animations: AnimationSet) -> Animation:
    """Returns the animation to save.

    Raises:
        LookupError: There is no animation. The page has no save button then.
    """
    if animations.kept is None:
        raise LookupError("nothing was animated")
    return animations.kept
