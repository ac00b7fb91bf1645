"""The choice of the anchor: pick, bring a picture, sort, star, drop, export."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from i4vgen.errors import RequestError
from i4vgen.ui import choose, files, imagine, keeping, texts, watch
from i4vgen.ui.desk import Desk
from i4vgen.ui.layout import refusal
from i4vgen.ui.queueing import IN_TURN
from i4vgen.ui.session import Pick, Round, anchor_index


def connect(desk: Desk) -> None:
    """Connects everything that a person does to finished candidates."""
    choosing = desk.choosing
    outputs = [desk.round, desk.pick, *choosing.view, choosing.animate]
    state = [desk.round, desk.pick, desk.phase]

    def show(round_: Round, pick: Pick, phase: str) -> dict:
        """Remembers a choice and shows it. An animation that is under way keeps the anchor it began with."""
        if phase == "choose":
            raise refusal(texts.STILL_DRAWING, texts.NOT_NOW)
        ready = phase == "idle" and watch.make_anchor(round_, pick) is not None
        animate = {choosing.animate: gr.update(interactive=ready)}
        return {desk.round: round_, desk.pick: pick} | desk.show_choice(round_, pick) | animate

    def on_card(round_: Round, pick: Pick, phase: str, event: gr.SelectData) -> dict:
        return show(round_, Pick(round_.shown[event.index].index), phase)

    def on_mark(round_: Round, pick: Pick, phase: str, event: gr.EventData) -> dict:
        return show(round_, Pick(event.index), phase)

    def on_back(round_: Round, pick: Pick, phase: str) -> dict:
        return show(round_, Pick(), phase)

    def on_star(round_: Round, pick: Pick, phase: str) -> dict:
        return show(round_.toggle_star(anchor_index(round_, pick)), pick, phase)

    def on_drop(round_: Round, pick: Pick, phase: str) -> dict:
        return show(round_.drop(anchor_index(round_, pick)), Pick(), phase)

    def on_restore(round_: Round, pick: Pick, phase: str) -> dict:
        return show(replace(round_, dropped=frozenset()), pick, phase)

    def on_order(round_: Round, pick: Pick, phase: str, by_score: bool) -> dict:
        return show(replace(round_, by_score=bool(by_score)), pick, phase)

    def on_own(round_: Round, pick: Pick, phase: str, path: str | None, position: float, *settings) -> dict:
        """One's own picture is the anchor; without one, the best candidate is again."""
        form = imagine.Form(*settings)
        shape = round_.request if round_.candidates else desk.runtime_of(form.choice()).defaults
        size = shape.height, shape.width
        try:
            chosen = Pick() if path is None else choose.pick_upload(path, *size, position)
        except RequestError:  # its words name a temporary file, which nobody would recognise
            gr.Warning(texts.BAD_PICTURE, title=texts.NOT_NOW)
            return {choosing.own: None}
        return show(round_, chosen, phase) | choose.show_crop(choosing, path, *size, position)

    def save_set(round_: Round, pick: Pick) -> str:
        """The set as it was curated."""
        path = files.fresh(files.name_of(round_.request, "candidates", "zip"))
        return str(keeping.pack_round(round_, pick, path))

    choosing.gallery.select(on_card, state, outputs, **IN_TURN)
    choosing.chart.select(on_mark, state, outputs, **IN_TURN)
    choosing.back.click(on_back, state, outputs, **IN_TURN)
    choosing.star.click(on_star, state, outputs, **IN_TURN)
    choosing.drop.click(on_drop, state, outputs, **IN_TURN)
    choosing.restore.click(on_restore, state, outputs, **IN_TURN)
    choosing.order.input(on_order, [*state, choosing.order], outputs, **IN_TURN)
    gr.on(
        [choosing.own.input, choosing.position.release],
        on_own,
        [*state, choosing.own, choosing.position, *desk.asking.settings],
        [*outputs, choosing.own, choosing.crop, choosing.position],
        **IN_TURN,
    )
    desk.connect_save(choosing.export, save_set, [desk.round, desk.pick])
