"""Stage 1 as the page follows it: candidates that appear one by one, and new scores for the same ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from i4vgen.events import Candidate, Loading, Progress, Scores, Stage
from i4vgen.runtime import Runtime, StopToken
from i4vgen.ui import files, recipes, strings
from i4vgen.ui.components.live import live_value
from i4vgen.ui.limits import Budget
from i4vgen.ui.progress import Tracker
from i4vgen.ui.state import CandidateSet


def draw(
    runtime: Runtime, candidate_set: CandidateSet, token: StopToken, budget: Budget
) -> Iterator[tuple[CandidateSet, dict]]:
    """Draws the candidates that `candidate_set.asked` says and that are not there yet.

    Yields:
        After every step the set so far, and what the status shows (`live_value`).
    """
    config, _ = candidate_set.asked
    started, first = time.perf_counter(), candidate_set.next_index
    before, asked = len(candidate_set.candidates), config.num_candidates - first
    tracker = Tracker({"candidates": 0})
    status = live_value(strings.STARTING, fraction=0.0)
    yield candidate_set, status
    stopwatch = budget.stopwatch(runtime, replace(config, num_candidates=asked))
    for event in stopwatch.watch(runtime.stream(lambda pipeline: pipeline.candidates(config, first), token)):
        match event:
            case Loading(repo_or_path, done, total):
                words = strings.downloading(repo_or_path, done, total)
                status = live_value(words, fraction=done / total)
                yield candidate_set, status
            case Stage(name, total):
                tracker.begin(name, total)
            case Progress(stage, step, _, _, seconds):
                if tracker.step(stage, step, seconds):
                    status = live_value(tracker.words(), fraction=tracker.fraction)
                    yield candidate_set, status
            case Candidate():
                made = candidate_set.made or runtime.describe()  # now that the model is loaded
                candidate_set = replace(candidate_set, made=made)
                file = files.save_picture(event.image, recipes.of_candidates(candidate_set))
                candidate_set = candidate_set.with_candidate(event, file)
                yield candidate_set, status
    finished = len(candidate_set.candidates) - before
    if finished == asked:
        words = strings.candidates_done(finished, time.perf_counter() - started)
    else:
        words = strings.candidates_stopped(finished, asked)
    yield candidate_set, live_value(words)


def score_again(
    runtime: Runtime, candidate_set: CandidateSet, prompt: str, token: StopToken
) -> Iterator[tuple[CandidateSet, dict]]:
    """Judges the same candidates against another prompt. Yields as `draw` does; stopped, the scores stay."""
    images = [candidate.image for candidate in candidate_set.candidates]
    yield candidate_set, live_value(strings.STARTING, fraction=0.0)
    scores = []
    for event in runtime.stream(lambda pipeline: pipeline.score(prompt, images), token):
        match event:
            case Loading(repo_or_path, done, total):
                words = strings.downloading(repo_or_path, done, total)
                yield candidate_set, live_value(words, fraction=done / total)
            case Scores(given):
                scores.append(given)
    if len(scores) < len(images):
        yield candidate_set, live_value(strings.NOT_SCORED)
        return
    yield candidate_set.with_scores(prompt, scores), live_value(strings.scored(len(scores), prompt))
