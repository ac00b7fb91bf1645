"""Stage 2 in the app: animate the anchor, then measure, keep and save what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from i4vgen.media import write_gif
from i4vgen.runtime import StopToken
from i4vgen.ui import files, keeping, reopening, watch
from i4vgen.ui.desk import Desk
from i4vgen.ui.queueing import CHECKED
from i4vgen.ui.session import Baselines, Pick, Round, Take


def connect(desk: Desk) -> None:
    """Connects the button that animates, and the ones that save what was made."""
    choosing, watching = desk.choosing, desk.watching

    def check(round_: Round, pick: Pick, *settings) -> None:
        desk.animation(round_, pick, settings)

    def animate(token: StopToken, round_: Round, pick: Pick, known: Baselines, *settings) -> Iterator[dict]:
        runtime, request, anchor, compare = desk.animation(round_, pick, settings)
        run = watch.animate(runtime, watching, round_, request, anchor, compare, known, token)
        for known, take, changes in run:
            yield changes | {desk.baselines: known, desk.take: take}
        if take and take.videos:  # the figures, once the videos can be looked at already
            yield {desk.take: replace(take, measures=watch.measure(take))}

    def save_side(take: Take) -> str:
        path = files.fresh(files.name_of(take.request, "side-by-side", "mp4"))
        keeping.write_side_by_side(take, path)
        return str(path)

    def save_gif(take: Take) -> str:
        """The last video: I4VGen's, unless the run was stopped."""
        clip = take.videos[-1]
        path = files.fresh(files.name_of(take.request, clip.name, "gif"))
        write_gif(path, clip.frames, clip.fps)
        return str(path)

    def save_all(take: Take) -> str:
        return str(keeping.pack_take(take, files.fresh(files.name_of(take.request, "run", "zip"))))

    outputs = [watching.player, desk.take, desk.baselines]
    run = desk.connect_run(
        [choosing.animate.click],
        check,
        animate,
        outputs,
        watching.live,
        "watch",
        desk.animate_buttons,
        clear=watch.show_report(watching, None),
    )
    run.success(
        lambda take: watch.show_report(watching, take), desk.take, [watching.report, *watching.saves], **CHECKED
    )
    reopening.remember_after(desk, run)
    desk.connect_save(watching.side, save_side, desk.take)
    desk.connect_save(watching.gif, save_gif, desk.take)
    desk.connect_save(watching.everything, save_all, desk.take)
