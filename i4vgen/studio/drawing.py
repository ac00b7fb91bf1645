"""Draws candidates, or scores them again, and yields the updates of the page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from i4vgen.events import Candidate, Loading, Progress, Scores, Stage
from i4vgen.serving.pace import RunClock
from i4vgen.serving.runtime import Runtime, StopToken
from i4vgen.studio import files, strings
from i4vgen.studio.components.live import live_value, loading_value
from i4vgen.studio.progress import RunProgress
from i4vgen.studio.recipes import Recipes
from i4vgen.studio.state import CandidateSet


def draw(
    runtime: Runtime, candidate_set: CandidateSet, token: StopToken, clock: RunClock, recipes: Recipes
) -> Iterator[tuple[CandidateSet, dict]]:
    """Draws the candidates of `candidate_set.request` that are missing, and scores them like the others.

    Yields:
        The candidates so far and the status (`live_value`).
    """
    config, _ = candidate_set.request
    started, first = time.perf_counter(), candidate_set.next_index
    before, asked = len(candidate_set.candidates), config.num_candidates - first
    tracker = RunProgress(clock, {"candidates": 0})
    status = live_value(strings.STARTING, fraction=0.0)
    yield candidate_set, status
    scored_prompt = candidate_set.scored_prompt
    events = runtime.stream(lambda pipeline: pipeline.candidates(config, first, scored_prompt), token)
    for event in clock.watch(events):
        match event:
            case Loading():
                status = loading_value(event)
                yield candidate_set, status
            case Stage(name, total):
                tracker.begin(name, total)
            case Progress(stage, step):
                if tracker.step(stage, step):
                    status = live_value(tracker.words(), fraction=clock.fraction)
                    yield candidate_set, status
            case Candidate():
                made = candidate_set.made or runtime.describe()  # the model is loaded by now
                candidate_set = replace(candidate_set, made=made)
                file = files.save_picture(event.image, recipes.of_candidates(candidate_set))
                candidate_set = candidate_set.with_candidate(event, file)
                yield candidate_set, status
    finished = len(candidate_set.candidates) - before
    if finished == asked:
        words = f"{finished} candidate{'s' if finished != 1 else ''} in {time.perf_counter() - started:.0f} s."
    elif finished:
        words = f"Stopped. {finished} of {asked} candidates are finished and ready to pick."
    else:
        words = "Stopped before the first new candidate was finished."
    yield candidate_set, live_value(strings.with_lora_fits(words, candidate_set.made))


def score_again(
    runtime: Runtime, candidate_set: CandidateSet, prompt: str, token: StopToken
) -> Iterator[tuple[CandidateSet, dict]]:
    """Scores the candidates against another prompt. If the run is stopped, the scores are unchanged.

    Yields:
        The candidates and the status (`live_value`).
    """
    images = [candidate.image for candidate in candidate_set.candidates]
    yield candidate_set, live_value(strings.STARTING, fraction=0.0)
    scores = []
    for event in runtime.stream(lambda pipeline: pipeline.score(prompt, images), token):
        match event:
            case Loading():
                yield candidate_set, loading_value(event)
            case Scores(given):
                scores.append(given)
    if len(scores) < len(images):
        yield candidate_set, live_value("Stopped. The scores are unchanged.")
        return
    words = f"{len(scores)} candidates are now ranked by \u201c{prompt}\u201d."
    yield candidate_set.with_scores(prompt, scores), live_value(words)
