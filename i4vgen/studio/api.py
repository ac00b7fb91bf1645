"""The public API: four named endpoints for `gradio_client`, which the app can also offer as MCP tools.

Only finished runs outlive a call. The run store keeps each under a token, with which any client can `animate`
its candidates until the run is deleted.

`endpoint` turns the methods of `Endpoints` into the functions that Gradio describes to clients. It replaces
`**settings` with the parameters of a run (config.py) and `choice` with those of `ModelChoice`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeGuard, TypeVar, get_args, get_type_hints
from urllib.parse import unquote

import gradio as gr
import numpy as np
import safehttpx
from anyio.to_thread import run_sync
from PIL import Image

from i4vgen.bounds import MAX_JPEG_PIXELS, MAX_NAME, MAX_PIXELS, check_text, shown
from i4vgen.config import ANIMATION, CANDIDATES, MAX_ANCHORS, MAX_CANDIDATES, GenerationConfig, Parameter
from i4vgen.errors import I4VGenError, InvalidInputError
from i4vgen.events import (
    HIGHEST_REWARD,
    Candidate,
    Event,
    Loading,
    Progress,
    Result,
    Scores,
    Stage,
    best,
    latest,
    ranked,
)
from i4vgen.media import PictureError, open_picture, reduced, upright
from i4vgen.method.comparisons import COMPARISONS, find_comparisons
from i4vgen.method.search import check_search, video_score
from i4vgen.models.catalog import MODELS, REPLACEMENTS, REWARDS
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.serving.jobs.job import Job
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.limits import Budget, RunPlan, default_run
from i4vgen.serving.middleware import OpenStreams
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.pace import RunClock
from i4vgen.serving.runtime import Runtime, StopToken
from i4vgen.storage.run_store import RunStore
from i4vgen.storage.runs import RunFolder
from i4vgen.studio import files, strings
from i4vgen.studio.errors import failure, words_of
from i4vgen.studio.form import SETTINGS
from i4vgen.studio.queueing import AT_ONCE
from i4vgen.studio.recipes import Recipes
from i4vgen.studio.session import visitor_of

COMPARE = ["vanilla"]
"""The default comparisons, as on the page."""

LARGEST_SCORED = 1024
"""Longer side in pixels to which larger pictures are reduced before scoring. No reward model uses more."""

SETTINGS_OF = {
    "candidates": SETTINGS,
    "generate": SETTINGS,
    # Settings that affect the candidates are fixed once they are drawn.
    "animate": {n: a for n, a in SETTINGS.items() if ANIMATION in a.affects and CANDIDATES not in a.affects},
}
"""The run settings that each endpoint accepts."""

OWN_FILE = "/gradio_api/file="
"""The part before the path in a link to a file that the app serves."""

LEASE = 20.0
"""Seconds that a run may continue after its client disconnects. Clients cannot reconnect to it."""

HELP = {
    "run": "The token of a run, from candidates, animate or generate.",
    "prompt": "What the pictures should show.",
    "images": "1 to {most_candidates} picture files, each of at most {pixels} million pixels"
    " (JPEG: {jpeg_pixels}, unless progressive).",
    "anchor": "Index of the candidate to animate. By default the one with the highest score.",
    "anchor_image": "A picture to animate instead of a candidate; it is cropped to the shape of the video.",
    "compare": "Videos without I4VGen from the same prompt and noise: {comparisons}.",
    "model": "{models}. By default the one that the app was started with.",
    **{name: part.help for name, part in REPLACEMENTS.items()},
    "loras": "LoRAs for the model, files, folders or hub ids, each with @WEIGHT after it if need be.",
    "rewards": "The reward models, of {rewards}; the score is that of the first one.",
}
"""Descriptions of the parameters other than settings, for all endpoints."""

HELP_OF = {
    "animate": {"anchor": "Index of the candidate to animate, or a list of up to {most}. By default the best."}
}
"""Descriptions that replace those of `HELP`, by endpoint."""

DRAWN = """run: a token for animate;
candidates: a list of index, image (a PNG file), score, scores (by reward model) and sketch;
best: the index of the finished candidate with the highest score;
unknown_words: the words of the prompt that the model does not know;
unread, unread_negative: the end of a prompt or negative prompt that the model does not read;
literal: syntax of other programs in them that is read as words, such as <lora:zoom:0.8>;
lora_fits: for each LoRA, how many of its layers apply and what it looks made for"""
ANIMATED = """anchor: the index of the candidate that was animated;
videos: mp4 files by name, of which i4vgen is the result and ni_vsds the video before the regeneration;
seconds: by stage"""
RETURNS = {
    "candidates": f"{DRAWN}.",
    "animate": f"""run: the token of a new run with the candidates and the videos;
{ANIMATED}.
For a list of anchors, a list of these, each with score, scores and worst of the frames of i4vgen.
The same for animate_best, with the video that is best by mean and worst frame first.""",
    "generate": f"{DRAWN};\n{ANIMATED}.",
    "score": "a list of score and scores (by reward model), in the order of the pictures.",
}
"""Descriptions of the return values for clients, by endpoint."""


@dataclass(frozen=True)
class ModelChoice:
    """The parameters that choose a model. None selects the default (`OfferedModels.default_spec`)."""

    model: str | None = None
    base: str | None = None
    loras: list[str] | None = None
    rewards: list[str] | None = None
    motion_module: str | None = None
    vae: str | None = None

    def runtime(self, models: OfferedModels) -> Runtime:
        """Returns the runtime of the chosen model.

        Raises:
            InvalidInputError: A value is malformed or refused.
            ModelError: A single file is missing, damaged or of an unsupported kind.
        """
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in given.items():
            if name not in ("loras", "rewards"):
                check_text(name, value, MAX_NAME)
            elif not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise InvalidInputError(f"{name} must be a list of strings")
        spec = models.default_spec(given.pop("model", models.own.spec.model))
        parts = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        return models.runtime_for(replace(spec, **parts))


OWN_MODEL = ModelChoice()


class DrawnCandidate(TypedDict):
    """A candidate in an answer. `DRAWN` describes the fields."""

    index: int
    image: gr.FileData
    score: float | None
    scores: dict[str, float]
    sketch: bool


class Drawn(TypedDict):
    """The answer of `candidates`. `DRAWN` describes the fields."""

    run: str
    candidates: list[DrawnCandidate]
    best: int | None
    unknown_words: list[str]
    unread: str
    unread_negative: str
    literal: list[str]
    lora_fits: list[str]


class Animated(TypedDict):
    """The answer of `animate` for one anchor. `RETURNS` describes the fields.

    Attributes:
        anchor: The index of the candidate; None for an uploaded picture.
    """

    run: str
    anchor: int | None
    videos: dict[str, gr.FileData]
    seconds: dict[str, float]


class AnimatedOfSeveral(Animated):
    """One item of the answer of `animate` for a list of anchors or for `animate_best`.

    Attributes:
        score: The first of `scores`; None without scores.
        scores: The mean reward over the frames of the I4VGen video, by reward model.
        worst: The lowest reward of any frame, by reward model.
    """

    score: float | None
    scores: dict[str, float]
    worst: dict[str, float]


class Generated(Drawn, Animated):
    """The answer of `generate`. It has no candidates if a picture was the anchor."""


class Score(TypedDict):
    """The scores of a picture by reward model. `score` is the first of them."""

    score: float
    scores: dict[str, float]


Sent = gr.FileData | dict | str
"""A picture sent by a client, in one of the formats of `read_picture`."""

Made = list[tuple[Event, Path]]
"""The pictures and videos that a run has written: each event with the path of its file."""

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A validated call.

    Attributes:
        clock: Estimates the duration of the run.
        events: Yields the events of the run and returns the answer.
    """

    clock: RunClock
    events: Generator[Event, None, T]


Method = Callable[..., Call]
"""Validates a call. Raises an `I4VGenError` if it is refused."""


def register(
    models: OfferedModels,
    run_store: RunStore,
    budget: Budget,
    recipes: Recipes,
    jobs: JobQueue | None = None,
    streams: OpenStreams | None = None,
) -> None:
    """Adds the endpoints to the Blocks under construction.

    Args:
        models: The models that clients may run.
        run_store: Stores finished runs.
        budget: Checks runs against the limits.
        recipes: Makes the recipes of files.
        jobs: The device queue. By default a new one with the limits of `budget`.
        streams: The streams that clients hold open. By default a new `OpenStreams`.
    """
    endpoints = Endpoints(models, run_store, budget, recipes)
    jobs = JobQueue(budget.limits) if jobs is None else jobs
    follow = partial(follow_call, jobs, streams or OpenStreams())
    for method in (endpoints.candidates, endpoints.animate, endpoints.generate, endpoints.score):
        gr.api(endpoint(method, follow), api_name=method.__name__, **AT_ONCE)


async def follow_call(
    jobs: JobQueue, streams: OpenStreams, method: Method, request: gr.Request, arguments: Mapping[str, Any]
) -> AsyncIterator[object]:
    """Submits a call's run and follows it. Yields None at intervals, and the answer last.

    Yielding lets Gradio end the run when its client cancels or disconnects. The answer is yielded only once,
    because clients download the files of every yielded value.

    Raises:
        gr.Error: The call is refused, or its run fails.
    """
    yield None  # before any work: a call that has not yielded cannot be cancelled
    handle = None
    try:
        visitor = visitor_of(request)
        call = await run_sync(partial(method, visitor=visitor, **arguments))
        handle = jobs.submit(Job(visitor, partial(steps_of, call), call.clock, lease=LEASE))
        async for _ in handle.updates(lambda: streams.has_listener(request.session_hash)):
            report(call.clock.doing)
            yield None
        yield handle.result
    except I4VGenError as error:
        raise gr.Error(words_of(error), print_exception=False) from error
    except Exception as error:  # Gradio would send the client the bare message
        raise failure(error, "the run failed: {error}") from error
    finally:
        if handle is not None and not handle.is_over:
            handle.stop()


def steps_of(call: Call, token: StopToken) -> Generator[None, None, object]:
    """Runs a call as a job, one event per step. Returns the answer, or None if the run was stopped."""
    with closing(call.events) as events:
        try:
            while True:
                next(events)
                yield None
                if token.stopped:
                    return None
        except StopIteration as end:
            return end.value


def endpoint(
    method: Method, follow: Callable[..., AsyncIterator] | None = None
) -> Callable[..., AsyncIterator]:
    """Makes the function that Gradio runs and describes to clients.

    Args:
        method: A method of `Endpoints`.
        follow: Called with the last three parameters of `follow_call`. Without it, the function yields
            nothing.
    """
    hints, settings = get_type_hints(method), SETTINGS_OF.get(method.__name__, {})
    signature = client_signature(method, settings)

    async def run(*values: object) -> AsyncIterator[object]:
        arguments = signature.bind(*values).arguments
        request = arguments.pop("request")
        if "choice" in hints:
            names = [each.name for each in fields(ModelChoice) if each.name in arguments]
            arguments["choice"] = ModelChoice(**{name: arguments.pop(name) for name in names})
        if follow is not None:
            async for answer in follow(method, request, arguments):
                yield answer

    (answer,) = get_args(hints["return"])
    run.__name__ = method.__name__
    run.__doc__ = describe(method, signature, settings)
    run.__signature__ = signature.replace(return_annotation=answer)  # type: ignore[attr-defined]
    run.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    run.__annotations__["return"] = answer
    return run


def client_signature(method: Method, settings: Mapping[str, Parameter]) -> inspect.Signature:
    """Returns the signature of a method as clients call it.

    The settings replace `**settings`, all of them optional except the prompt. The fields of `ModelChoice`
    replace `choice`, and the request, which Gradio adds, replaces `visitor`.
    """

    def parameter(name: str, annotation: Any, default: object = None) -> inspect.Parameter:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Parameter(name, kind, default=default, annotation=annotation)

    required, hints = inspect.Parameter.empty, get_type_hints(method)
    asked = [
        parameter(name, about.kind, required) if name == "prompt" else parameter(name, about.kind | None)
        for name, about in settings.items()
    ]
    signature = inspect.signature(method)
    for each in signature.parameters.values():
        if each.name == "choice":
            asked += [parameter(name, kind) for name, kind in get_type_hints(ModelChoice).items()]
        elif each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self":
            asked.append(parameter(each.name, hints[each.name], each.default))
    ordered = sorted(asked, key=lambda each: each.default is not required)
    unbound = [parameter("self", Any, required)] if "self" in signature.parameters else []
    return signature.replace(parameters=[*unbound, parameter("request", gr.Request, required), *ordered])


def describe(method: Method, signature: inspect.Signature, settings: Mapping[str, Parameter]) -> str:
    """Returns the docstring for Gradio: a method's description, its parameters and its return value."""
    helps = HELP | HELP_OF.get(method.__name__, {})
    names = {"models": MODELS, "rewards": REWARDS, "comparisons": COMPARISONS}
    values = {key: ", ".join(known) for key, known in names.items()}
    values |= {"most": str(MAX_ANCHORS), "most_candidates": str(MAX_CANDIDATES)}
    values |= {"pixels": str(MAX_PIXELS // 10**6), "jpeg_pixels": str(MAX_JPEG_PIXELS // 10**6)}
    lines = [inspect.getdoc(method) or "", "", "Args:"]
    for name in signature.parameters:
        if name in settings:
            lines.append(f"    {name}: {settings[name].help}")
        elif name in helps:
            lines.append(f"    {name}: {helps[name].format(**values)}")
    return "\n".join([*lines, "", "Returns:", RETURNS[method.__name__]])


def report(event: Event | None) -> None:
    """Reports the progress of a run to the client that Gradio is serving."""
    match event:
        case Loading(_, done, total):
            gr.Progress()(done / total, desc=strings.run_words(event))
        case Progress(_, step, total):
            gr.Progress()((step, total), desc=strings.run_words(event))


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
                    answers.append(judged(answer, made) if several else answer)
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


NOT_SCORED = "these candidates have no scores: pick the anchor by its index"


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


def best_of(candidates: Sequence[Candidate]) -> Candidate | None:
    """Returns the best candidate that has a score (`events.best`); None if there is none."""
    judged = [candidate for candidate in candidates if candidate.score is not None]
    return best(judged) if judged else None


def drawn(run: str, made: Made, runtime: Runtime, config: GenerationConfig) -> Drawn:
    """Returns the part of an answer that describes the candidates.

    Args:
        run: The token of the run.
        made: The files that the run has written.
        runtime: The model.
        config: The configuration of the run.
    """
    paths = {event.index: path for event, path in made if isinstance(event, Candidate)}
    candidates = latest(event for event, _ in made if isinstance(event, Candidate))
    leader = best_of(candidates)
    answers: list[DrawnCandidate] = [
        {
            "index": candidate.index,
            "image": served(paths[candidate.index]),
            "score": candidate.score,
            "scores": candidate.scores,
            "sketch": candidate.sketch,
        }
        for candidate in candidates
    ]
    return {
        "run": run,
        "candidates": answers,
        "best": leader and leader.index,
        "unknown_words": runtime.unknown_words(config.prompt),
        "unread": runtime.unread(config.prompt),
        "unread_negative": runtime.unread(config.negative_prompt),
        "literal": [
            part for text in (config.prompt, config.negative_prompt) for part in runtime.literal_syntax(text)
        ],
        "lora_fits": strings.lora_fits(runtime.describe()),
    }


def animated(run: str, folder: RunFolder, made: Made) -> Animated:
    """Returns the part of an answer that describes the videos.

    Args:
        run: The token of the run.
        folder: The folder of the run.
        made: The files that the run has written.
    """
    videos = {event.name: served(path) for event, path in made if isinstance(event, Result)}
    anchor = folder.anchor and folder.anchor.index
    return {"run": run, "anchor": anchor, "videos": videos, "seconds": dict(folder.seconds)}


def judged(answer: Animated, made: Made) -> AnimatedOfSeveral:
    """Adds the scores of the I4VGen video's frames to an answer."""
    result = next(event for event, _ in made if isinstance(event, Result) and event.name == "i4vgen")
    score = next(iter(result.scores.values()), None)
    return {**answer, "score": score, "scores": result.scores, "worst": result.worst}


def served(path: Path) -> Any:
    """Copies a file to the cache for clients to download. Returns a `FileData` as JSON types."""
    return gr.FileData(path=files.copy_to_cache(path), orig_name=path.name).model_dump()


def read_picture(file: Sent, name: str) -> Image.Image:
    """Reads a picture sent by a client.

    Args:
        file: A `FileData` dict whose upload Gradio has verified or, from MCP clients, a link to a file that
            this app served or to any public file.
        name: The name of the parameter, for error messages.

    Raises:
        InvalidInputError: The value is no file, or the file cannot be downloaded or read as a picture.
    """
    if is_upload(file):
        path = file["path"]
    elif isinstance(file, str) and file.startswith(("http://", "https://")):
        path = linked_file(file, name)
    else:
        raise InvalidInputError(
            f"{name} is not a file: send one with gradio_client.handle_file, or give its URL"
        )
    try:
        return open_picture(path)
    except PictureError as error:  # its message names a file on the server
        raise InvalidInputError(f"{name} {error.reason}") from None


def is_upload(file: Sent) -> TypeGuard[dict]:
    """Returns whether a value is a `FileData` dict, whose upload Gradio has verified."""
    meta = file.get("meta") if isinstance(file, dict) else None
    is_told = isinstance(meta, dict) and meta.get("_type") == "gradio.FileData"
    return is_told and isinstance(file, dict) and isinstance(file.get("path"), str)


def linked_file(url: str, name: str) -> str:
    """Returns the path of a linked file. Downloads the file unless this app serves it.

    Raises:
        InvalidInputError: The file cannot be downloaded.
    """
    _, _, own = url.partition(OWN_FILE)
    if own and Path(unquote(own)).resolve().is_relative_to(files.cache()):
        return unquote(own)
    try:
        answer = asyncio.run(safehttpx.get(url))  # refuses addresses inside the server's network
        answer.raise_for_status()
        path = files.new_path("picture")
        path.write_bytes(answer.content)
        return str(path)
    except Exception as error:  # name resolution, refusal, timeout, status and others
        raise InvalidInputError(f"{name} cannot be downloaded from {shown(url)}: {error}") from None
