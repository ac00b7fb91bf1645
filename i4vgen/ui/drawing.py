"""Stage 1 in the app: draw candidates, draw more of them, judge them again."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from i4vgen.generation_config import MAX_CANDIDATES
from i4vgen.runtime import Runtime, StopToken
from i4vgen.ui import choose, imagine, texts
from i4vgen.ui.context import AppContext
from i4vgen.ui.layout import refusal
from i4vgen.ui.session import AnchorSelection, Baselines, CandidateSet


def connect(context: AppContext) -> None:
    """Connects the buttons that draw and judge."""
    asking, choosing = context.asking, context.choosing
    outputs = [*choosing.view, context.candidate_set, context.selection]
    repo_or_path = (choosing.status, "choose", context.draw_buttons)

    def check_form(candidate_set: CandidateSet, selection: AnchorSelection, *settings) -> None:
        context.read(settings)

    def draw(
        token: StopToken, before: CandidateSet, selection: AnchorSelection, baselines: Baselines, *settings
    ) -> Iterator[dict]:
        runtime, config = context.read(settings)
        fresh = CandidateSet(config, runtime.spec, judged_by=config.prompt, by_score=before.by_score)
        yield from show_candidates(runtime, fresh, AnchorSelection(), token)

    def check_more(candidate_set: CandidateSet, selection: AnchorSelection, *settings) -> None:
        context.check_candidates(candidate_set)
        if candidate_set.next_index >= MAX_CANDIDATES:
            raise refusal(texts.NO_MORE, texts.NOT_NOW)

    def more(
        token: StopToken,
        candidate_set: CandidateSet,
        selection: AnchorSelection,
        baselines: Baselines,
        *settings,
    ) -> Iterator[dict]:
        count = min(candidate_set.next_index + choose.MORE, MAX_CANDIDATES)
        config = replace(candidate_set.config, num_candidates=count)
        runtime = context.runtime_of(candidate_set.spec)
        candidate_set = yield from show_candidates(
            runtime, replace(candidate_set, config=config), selection, token
        )
        if candidate_set.judged_by != config.prompt:  # which the new ones were drawn and scored with
            yield from show_scores(runtime, candidate_set, selection, candidate_set.judged_by, token)

    def show_candidates(
        runtime: Runtime, candidate_set: CandidateSet, selection: AnchorSelection, token: StopToken
    ) -> Generator[dict, None, CandidateSet]:
        """The candidates as they are finished."""
        shown = candidate_set.candidates
        for now, changes in choose.draw(runtime, choosing, candidate_set, token):
            # The earlier set is forgotten when the new one has something to offer, not before: after a
            # failure or an early stop it comes back.
            if now.candidates is not shown:
                shown = now.candidates
                changes = (
                    changes
                    | context.show_choice(now, selection)
                    | {context.candidate_set: now, context.selection: selection}
                )
            yield changes
        return now

    def check_prompt(candidate_set: CandidateSet, selection: AnchorSelection, *settings) -> None:
        context.check_candidates(candidate_set)
        if not (imagine.Form(*settings).prompt or "").strip():
            raise refusal(texts.NEEDS_PROMPT, texts.CHECK_FORM)

    def judge(
        token: StopToken,
        candidate_set: CandidateSet,
        selection: AnchorSelection,
        baselines: Baselines,
        *settings,
    ) -> Iterator[dict]:
        prompt = imagine.Form(*settings).prompt.strip()
        yield from show_scores(context.runtime_of(candidate_set.spec), candidate_set, selection, prompt, token)

    def show_scores(
        runtime: Runtime, candidate_set: CandidateSet, selection: AnchorSelection, prompt: str, token: StopToken
    ) -> Iterator[dict]:
        """The same candidates with other scores."""
        for judged, changes in choose.score_again(runtime, choosing, candidate_set, prompt, token):
            yield changes | context.show_choice(judged, selection) | {context.candidate_set: judged}

    context.connect_run([asking.generate.click, asking.prompt.submit], check_form, draw, outputs, *repo_or_path)
    context.connect_run([choosing.more.click], check_more, more, outputs, *repo_or_path)
    context.connect_run([choosing.rescore.click], check_prompt, judge, outputs, *repo_or_path)
