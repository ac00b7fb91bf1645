"""The choice of the anchor: pick, bring a picture, sort, star, drop, export."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from i4vgen.errors import InvalidInputError
from i4vgen.ui import choose, files, imagine, keeping, texts, watch
from i4vgen.ui.context import AppContext
from i4vgen.ui.layout import refusal
from i4vgen.ui.queueing import IN_TURN
from i4vgen.ui.session import AnchorSelection, CandidateSet, anchor_index


def connect(context: AppContext) -> None:
    """Connects everything that a person does to finished candidates."""
    choosing = context.choosing
    outputs = [context.candidate_set, context.selection, *choosing.view, choosing.animate]
    state = [context.candidate_set, context.selection, context.phase]

    def show(candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        """Remembers a choice and shows it. An animation that is under way keeps the anchor it began with."""
        if phase == "choose":
            raise refusal(texts.STILL_DRAWING, texts.NOT_NOW)
        ready = phase == "idle" and watch.make_anchor(candidate_set, selection) is not None
        animate = {choosing.animate: gr.update(interactive=ready)}
        return (
            {context.candidate_set: candidate_set, context.selection: selection}
            | context.show_choice(candidate_set, selection)
            | animate
        )

    def on_card(
        candidate_set: CandidateSet, selection: AnchorSelection, phase: str, event: gr.SelectData
    ) -> dict:
        return show(candidate_set, AnchorSelection(candidate_set.shown[event.index].index), phase)

    def on_mark(
        candidate_set: CandidateSet, selection: AnchorSelection, phase: str, event: gr.EventData
    ) -> dict:
        return show(candidate_set, AnchorSelection(event.index), phase)

    def on_back(candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        return show(candidate_set, AnchorSelection(), phase)

    def on_star(candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        return show(candidate_set.toggle_star(anchor_index(candidate_set, selection)), selection, phase)

    def on_drop(candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        return show(candidate_set.drop(anchor_index(candidate_set, selection)), AnchorSelection(), phase)

    def on_restore(candidate_set: CandidateSet, selection: AnchorSelection, phase: str) -> dict:
        return show(replace(candidate_set, dropped=frozenset()), selection, phase)

    def on_order(candidate_set: CandidateSet, selection: AnchorSelection, phase: str, by_score: bool) -> dict:
        return show(replace(candidate_set, by_score=bool(by_score)), selection, phase)

    def on_own(
        candidate_set: CandidateSet,
        selection: AnchorSelection,
        phase: str,
        path: str | None,
        position: float,
        *settings,
    ) -> dict:
        """One's own picture is the anchor; without one, the best candidate is again."""
        form = imagine.Form(*settings)
        shape = candidate_set.config if candidate_set.candidates else context.runtime_of(form.spec()).defaults
        size = shape.height, shape.width
        try:
            chosen = AnchorSelection() if path is None else choose.pick_upload(path, *size, position)
        except InvalidInputError:  # its words name a temporary file, which nobody would recognise
            gr.Warning(texts.BAD_PICTURE, title=texts.NOT_NOW)
            return {choosing.own: None}
        return show(candidate_set, chosen, phase) | choose.show_crop(choosing, path, *size, position)

    def save_set(candidate_set: CandidateSet, selection: AnchorSelection) -> str:
        """The set as it was curated."""
        path = files.fresh(files.name_of(candidate_set.config, "candidates", "zip"))
        return str(keeping.pack_round(candidate_set, selection, path))

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
        [*state, choosing.own, choosing.position, *context.asking.settings],
        [*outputs, choosing.own, choosing.crop, choosing.position],
        **IN_TURN,
    )
    context.connect_save(choosing.export, save_set, [context.candidate_set, context.selection])
