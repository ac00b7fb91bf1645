"""Stage 1 in the app: draw candidates, draw more of them, judge them again."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from i4vgen.request import MAX_CANDIDATES
from i4vgen.runtime import Runtime, StopToken
from i4vgen.ui import choose, imagine, texts
from i4vgen.ui.desk import Desk
from i4vgen.ui.layout import refusal
from i4vgen.ui.session import Baselines, Pick, Round


def connect(desk: Desk) -> None:
    """Connects the buttons that draw and judge."""
    asking, choosing = desk.asking, desk.choosing
    outputs = [*choosing.view, desk.round, desk.pick]
    place = (choosing.status, "choose", desk.draw_buttons)

    def check_form(round_: Round, pick: Pick, *settings) -> None:
        desk.read(settings)

    def draw(token: StopToken, before: Round, pick: Pick, baselines: Baselines, *settings) -> Iterator[dict]:
        runtime, request = desk.read(settings)
        fresh = Round(request, runtime.choice, judged_by=request.prompt, by_score=before.by_score)
        yield from show_rounds(runtime, fresh, Pick(), token)

    def check_more(round_: Round, pick: Pick, *settings) -> None:
        desk.check_round(round_)
        if round_.next_index >= MAX_CANDIDATES:
            raise refusal(texts.NO_MORE, texts.NOT_NOW)

    def more(token: StopToken, round_: Round, pick: Pick, baselines: Baselines, *settings) -> Iterator[dict]:
        request = replace(round_.request, num_candidates=min(round_.next_index + choose.MORE, MAX_CANDIDATES))
        runtime = desk.runtime_of(round_.choice)
        round_ = yield from show_rounds(runtime, replace(round_, request=request), pick, token)
        if round_.judged_by != request.prompt:  # which the new ones were drawn and scored with
            yield from show_scores(runtime, round_, pick, round_.judged_by, token)

    def show_rounds(
        runtime: Runtime, round_: Round, pick: Pick, token: StopToken
    ) -> Generator[dict, None, Round]:
        """The candidates as they are finished."""
        shown = round_.candidates
        for now, changes in choose.draw(runtime, choosing, round_, token):
            # The earlier round is forgotten when the new one has something to offer, not before: after a
            # failure or an early stop it comes back.
            if now.candidates is not shown:
                shown = now.candidates
                changes = changes | desk.show_choice(now, pick) | {desk.round: now, desk.pick: pick}
            yield changes
        return now

    def check_prompt(round_: Round, pick: Pick, *settings) -> None:
        desk.check_round(round_)
        if not (imagine.Form(*settings).prompt or "").strip():
            raise refusal(texts.NEEDS_PROMPT, texts.CHECK_FORM)

    def judge(token: StopToken, round_: Round, pick: Pick, baselines: Baselines, *settings) -> Iterator[dict]:
        prompt = imagine.Form(*settings).prompt.strip()
        yield from show_scores(desk.runtime_of(round_.choice), round_, pick, prompt, token)

    def show_scores(
        runtime: Runtime, round_: Round, pick: Pick, prompt: str, token: StopToken
    ) -> Iterator[dict]:
        """The same candidates with other scores."""
        for judged, changes in choose.score_again(runtime, choosing, round_, prompt, token):
            yield changes | desk.show_choice(judged, pick) | {desk.round: judged}

    desk.connect_run([asking.generate.click, asking.prompt.submit], check_form, draw, outputs, *place)
    desk.connect_run([choosing.more.click], check_more, more, outputs, *place)
    desk.connect_run([choosing.rescore.click], check_prompt, judge, outputs, *place)
