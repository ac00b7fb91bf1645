"""The endpoints: each checks its call, runs it and words the answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import gradio as gr
import numpy as np

from i4vgen.bounds import check_text, shown
from i4vgen.config import MAX_ANCHORS, MAX_CANDIDATES, GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.events import HIGHEST_REWARD, Candidate, Event, Result, Scores, Stage, ranked
from i4vgen.media import reduced, upright
from i4vgen.method.comparisons import find_comparisons
from i4vgen.method.search import check_search, video_score
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.serving.budget import Budget, RunPlan, default_run
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.middleware import OpenStreams
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.pace import RunClock
from i4vgen.serving.runtime import Runtime
from i4vgen.serving.slots import Slots
from i4vgen.storage.run_store import RunStore
from i4vgen.storage.runs import RunFolder
from i4vgen.studio.api.answers import (
    Animated,
    AnimatedOfSeveral,
    Drawn,
    Generated,
    Made,
    Score,
    animated,
    best_of,
    drawn,
    of_several,
)
from i4vgen.studio.api.calls import Call, follow_call
from i4vgen.studio.api.model_choice import OWN_MODEL, ModelChoice
from i4vgen.studio.api.sent_pictures import Sent, read_picture
from i4vgen.studio.api.signatures import endpoint
from i4vgen.studio.queueing import AT_ONCE
from i4vgen.studio.recipes import Recipes

COMPARE = ["vanilla"]
"""The default comparisons, as on the page."""

LARGEST_SCORED = 1024
"""Longer side in pixels to which larger pictures are reduced before scoring. No reward model uses more."""

NOT_SCORED = "these candidates have no scores: pick the anchor by its index"


@dataclass(frozen=True)
class Endpoints:
    """The endpoints. Each validates its call and returns a `Call`, or raises an `I4VGenError`."""

    models: OfferedModels
    run_store: RunStore
    budget: Budget
    recipes: Recipes

    def candidates(self, choice: ModelChoice = OWN_MODEL, *, visitor: str, **settings: object) -> Call[Drawn]:
        """Draws candidate images for a video and scores them. One of them is then set in motion by animate.

        Omitted settings use the model's defaults.
        """
        runtime = choice.runtime(self.models)
        config = GenerationConfig.for_model(runtime.defaults, **settings)
        clock = self._admit(RunPlan(runtime, config, config.num_candidates))

        def events() -> Generator[Event, None, Drawn]:
            with self._folder(runtime, config) as folder:
                made = yield from record(folder, clock, runtime, lambda pipeline: pipeline.candidates(config))
                return drawn(self._keep(folder, config, (), runtime, visitor), made, runtime, config)

        return Call(clock, events())

    def animate(
        self,
        run: str,
        anchor: int | list[int] | None = None,
        anchor_image: gr.FileData | None = None,
        compare: list[str] | None = COMPARE,
        *,
        visitor: str,
        **settings: object,
    ) -> Call[Animated | list[AnimatedOfSeveral]]:
        """Animates the best candidate of a run, other candidates of the run, or an uploaded image.

        The model, the prompt, the seed and every other setting that affects the candidates are the run's.
        Omitted settings also use the run's values.
        """
        saved = self.run_store.open(run)
        if saved is None:
            raise InvalidInputError(f"there is no run {shown(run)}, or not any more: draw the candidates again")
        runtime = self.models.runtime_for(saved.spec)
        config = replace(saved.config, **{k: v for k, v in settings.items() if v is not None})
        candidates, names = saved.candidates(), names_of(compare)
        searches = config.animate_best > 1 and anchor is None and anchor_image is None
        if searches:
            config.check(runtime.defaults)
            if best_of(candidates) is None:
                raise InvalidInputError(NOT_SCORED)
            anchor = [each.index for each in ranked(candidates)[: config.animate_best]]
        elif settings.get("animate_best") is not None:
            check_search(config, is_given=anchor is not None or anchor_image is not None)
        several = isinstance(anchor, list)
        config = replace(config, animate_best=1)  # each anchor is a run of its own
        indices = check_several(anchor) if isinstance(anchor, list) else [anchor]
        clock = self._admit(RunPlan(runtime, config, anchors=len(indices), compare=names))

        def events() -> Generator[Event, None, Animated | list[AnimatedOfSeveral]]:
            anchors = [choose(candidates, index, anchor_image) for index in indices]
            answers, known = [], []
            for chosen in anchors:
                with self._folder(runtime, config) as folder:
                    for candidate in candidates:
                        folder.record(candidate)
                    folder.seconds |= {k: v for k, v in saved.file.seconds.items() if k == "candidates"}
                    missing = [name for name in names if name not in {result.name for result in known}]
                    start = partial(
                        I4VGenPipeline.run, config=config, anchor=chosen, compare=missing, judge=several
                    )
                    made = yield from record(folder, clock, runtime, start)
                    for result in known:  # after the anchor, because the files' recipes contain it
                        if path := folder.record(result):
                            made.append((result, path))
                        folder.seconds[result.name] = result.seconds
                    if not runtime.entry.backbone.image_to_video:  # such models show the anchor in comparisons
                        known = [
                            event for event, _ in made if isinstance(event, Result) and event.name in names
                        ]
                    token = self._keep(folder, config, names, runtime, visitor, saved.stars)
                    answer = animated(token, folder, made)
                    answers.append(of_several(answer, made) if several else answer)
            if searches:
                answers.sort(
                    key=lambda answer: video_score(answer["scores"], answer["worst"]) or 0.0, reverse=True
                )
            return answers if several else answers[0]

        return Call(clock, events())

    def generate(
        self,
        anchor: int | None = None,
        anchor_image: gr.FileData | None = None,
        compare: list[str] | None = COMPARE,
        choice: ModelChoice = OWN_MODEL,
        *,
        visitor: str,
        **settings: object,
    ) -> Call[Generated]:
        """Makes a video from a prompt: draws candidate images, takes the best one and sets it in motion.

        Omitted settings use the model's defaults.
        """
        runtime, names = choice.runtime(self.models), names_of(compare)
        config = GenerationConfig.for_model(runtime.defaults, **settings)
        draws = config.num_candidates if anchor_image is None else 0
        clock = self._admit(RunPlan(runtime, config, draws, 1, names))

        def events() -> Generator[Event, None, Generated]:
            chosen = anchor if anchor_image is None else own_picture(anchor, anchor_image)
            with self._folder(runtime, config) as folder:
                start = partial(I4VGenPipeline.run, config=config, anchor=chosen, compare=names)
                made = yield from record(folder, clock, runtime, start)
                run = self._keep(folder, config, names, runtime, visitor)
                return {**drawn(run, made, runtime, config), **animated(run, folder, made)}

        return Call(clock, events())

    def score(
        self,
        prompt: str,
        images: list[gr.FileData],
        model: str | None = None,
        rewards: list[str] | None = None,
        *,
        visitor: str,
    ) -> Call[list[Score]]:
        """Scores pictures: how well does each show what the prompt says?"""
        runtime = ModelChoice(model=model, rewards=rewards).runtime(self.models)
        if not check_text("prompt", prompt).strip():
            raise InvalidInputError("prompt is empty: describe what the pictures should show")
        if not isinstance(images, list) or not 1 <= len(images) <= MAX_CANDIDATES:
            raise InvalidInputError(f"images must be a list of 1 to {MAX_CANDIDATES} files")

        def events() -> Generator[Event, None, list[Score]]:
            pixels, answer = [], []
            for i, file in enumerate(images):
                yield Stage("score", len(images))  # the client may disconnect between two pictures
                picture = upright(reduced(read_picture(file, f"images[{i}]"), LARGEST_SCORED))
                pixels.append(np.asarray(picture))
            with closing(runtime.stream(lambda pipeline: pipeline.score(prompt, pixels))) as scored:
                for event in scored:
                    if isinstance(event, Scores):
                        answer.append({"score": next(iter(event.scores.values())), "scores": event.scores})
                    yield event
            return answer

        return Call(self.budget.clock(RunPlan(runtime, default_run(runtime.defaults))), events())

    def _admit(self, plan: RunPlan) -> RunClock:
        """Checks a run against the limits and returns its clock."""
        self.budget.check(plan)
        self.budget.check_time(plan)
        return self.budget.clock(plan)

    @contextmanager
    def _folder(self, runtime: Runtime, config: GenerationConfig) -> Iterator[RunFolder]:
        """Makes a folder for a run and deletes it afterwards."""
        with self.run_store.workspace() as path:
            yield RunFolder(path, self.recipes.of(config, runtime.describe()))

    def _keep(
        self,
        folder: RunFolder,
        config: GenerationConfig,
        compare: Sequence[str],
        runtime: Runtime,
        visitor: str,
        stars: frozenset[int] = frozenset(),
    ) -> str:
        """Packs a run into the run store and returns its token."""
        folder.finish(config, compare, runtime.describe(), stars)
        return self.run_store.keep(folder.pack, visitor)


def record(
    folder: RunFolder,
    clock: RunClock,
    runtime: Runtime,
    make_events: Callable[[I4VGenPipeline], Iterator[Event]],
) -> Generator[Event, None, Made]:
    """Yields the events of a run, times them and writes them to a folder. Returns the written files."""
    made = []
    for event in clock.watch(runtime.stream(make_events)):
        if path := folder.record(event):
            made.append((event, path))
        yield event
    return made


def names_of(compare: str | list[str] | None) -> list[str]:
    """Returns the names of a call's comparisons, each once.

    Raises:
        InvalidInputError: The value is no list of names, or a name is unknown.
    """
    return [comparison.name for comparison in find_comparisons(compare or [])]


def check_several(indices: list[int]) -> list[int]:
    """Checks a list of anchor indices and returns it. `choose` checks that the candidates exist.

    Raises:
        InvalidInputError: The list is empty, too long or has duplicates, or an item is no index.
    """
    if not 1 <= len(indices) <= MAX_ANCHORS or len({repr(index) for index in indices}) < len(indices):
        raise InvalidInputError(f"anchor must be an index or a list of 1 to {MAX_ANCHORS} different ones")
    if not all(type(index) is int for index in indices):
        raise InvalidInputError("anchor must be an index or a list of indices")
    return indices


def choose(candidates: Sequence[Candidate], index: int | None, picture: Sent | None) -> Anchor:
    """Returns the anchor: the client's picture, the candidate with this index, or the best candidate.

    Raises:
        InvalidInputError: There is no such candidate, no candidate has a score, or the picture cannot be used.
    """
    if picture is not None:
        return own_picture(index, picture)
    if not candidates:
        raise InvalidInputError("this run has no candidates: give an anchor_image")
    if index is None:
        leader = best_of(candidates)
        if leader is None:
            raise InvalidInputError(NOT_SCORED)
        return Anchor.from_candidate(leader, HIGHEST_REWARD)
    for candidate in candidates:
        if candidate.index == index:
            return Anchor.from_candidate(candidate)
    known = ", ".join(str(candidate.index) for candidate in candidates)
    raise InvalidInputError(f"anchor must be the index of a candidate, one of {known}, not {shown(index)}")


def own_picture(index: int | None, picture: Sent) -> Anchor:
    """Returns the client's picture as the anchor.

    Raises:
        InvalidInputError: An index is given as well, or the picture cannot be read.
    """
    if index is not None:
        raise InvalidInputError("anchor and anchor_image exclude each other: give one of them")
    return Anchor.from_image(read_picture(picture, "anchor_image"))


def register(
    models: OfferedModels,
    run_store: RunStore,
    budget: Budget,
    recipes: Recipes,
    jobs: JobQueue | None = None,
    streams: OpenStreams | None = None,
    slots: Slots | None = None,
) -> None:
    """Adds the endpoints to the Blocks under construction.

    Args:
        models: The models that clients may run.
        run_store: Stores finished runs.
        budget: Checks runs against the limits.
        recipes: Makes the recipes of files.
        jobs: The device queue. By default a new one with the limits of `budget`.
        streams: The streams that clients hold open. By default a new `OpenStreams`.
        slots: Limits concurrent work before a run, together with clicks. By default a new `Slots`.
    """
    endpoints = Endpoints(models, run_store, budget, recipes)
    jobs = JobQueue(budget.limits) if jobs is None else jobs
    follow = partial(follow_call, jobs, streams or OpenStreams(), slots or Slots())
    for method in (endpoints.candidates, endpoints.animate, endpoints.generate, endpoints.score):
        gr.api(endpoint(method, follow), api_name=method.__name__, **AT_ONCE)
