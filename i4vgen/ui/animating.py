"""Stage 2 in the app: animate the anchor, then measure, keep and save what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from i4vgen.media import write_gif
from i4vgen.runtime import StopToken
from i4vgen.ui import files, keeping, reopening, watch
from i4vgen.ui.context import AppContext
from i4vgen.ui.queueing import CHECKED
from i4vgen.ui.session import AnchorSelection, Animation, Baselines, CandidateSet


def connect(context: AppContext) -> None:
    """Connects the button that animates, and the ones that save what was made."""
    choosing, watching = context.choosing, context.watching

    def check(candidate_set: CandidateSet, selection: AnchorSelection, *settings) -> None:
        context.read_animation(candidate_set, selection, settings)

    def animate(
        token: StopToken, candidate_set: CandidateSet, selection: AnchorSelection, known: Baselines, *settings
    ) -> Iterator[dict]:
        runtime, config, anchor, compare = context.read_animation(candidate_set, selection, settings)
        run = watch.animate(runtime, watching, candidate_set, config, anchor, compare, known, token)
        for known, animation, changes in run:
            yield changes | {context.baselines: known, context.animation: animation}
        if animation and animation.videos:  # the figures, once the videos can be looked at already
            yield {context.animation: replace(animation, measures=watch.measure(animation))}

    def save_side(animation: Animation) -> str:
        path = files.fresh(files.name_of(animation.config, "side-by-side", "mp4"))
        keeping.write_side_by_side(animation, path)
        return str(path)

    def save_gif(animation: Animation) -> str:
        """The last video: I4VGen's, unless the run was stopped."""
        clip = animation.videos[-1]
        path = files.fresh(files.name_of(animation.config, clip.name, "gif"))
        write_gif(path, clip.frames, clip.fps)
        return str(path)

    def save_all(animation: Animation) -> str:
        return str(keeping.pack_take(animation, files.fresh(files.name_of(animation.config, "run", "zip"))))

    outputs = [watching.player, context.animation, context.baselines]
    run = context.connect_run(
        [choosing.animate.click],
        check,
        animate,
        outputs,
        watching.live,
        "watch",
        context.animate_buttons,
        clear=watch.show_report(watching, None),
    )
    run.success(
        lambda animation: watch.show_report(watching, animation),
        context.animation,
        [watching.report, *watching.saves],
        **CHECKED,
    )
    reopening.remember_after(context, run)
    context.connect_save(watching.side, save_side, context.animation)
    context.connect_save(watching.gif, save_gif, context.animation)
    context.connect_save(watching.everything, save_all, context.animation)
