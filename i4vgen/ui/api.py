"""The public API: four named endpoints, for `gradio_client` and, where the app offers them, as MCP tools.

Nothing is remembered between two calls but finished runs, each in the run store under its token: `animate`
takes up what `candidates` drew, from any client, for as long as the store keeps it.

Gradio builds what clients see out of these methods: parameters from annotations, descriptions from docstrings,
of which it reads one line for each parameter. `**settings` stands for the parameters of a run, which
generation_config.py declares.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, get_args, get_type_hints
from urllib.parse import unquote

import gradio as gr
import numpy as np
from gradio.processing_utils import save_file_to_cache, save_url_to_cache
from gradio.utils import get_upload_folder, is_in_or_equal
from gradio_client.utils import is_file_obj_with_meta
from PIL import Image

from i4vgen.bounds import MAX_NAME, check_text, shown
from i4vgen.catalog import MODELS, REWARDS
from i4vgen.comparisons import COMPARISONS
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
)
from i4vgen.generation_config import (
    ANIMATION,
    CANDIDATES,
    MAX_CANDIDATES,
    GenerationConfig,
    Parameter,
)
from i4vgen.media import open_picture, reduced, upright
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.runs import RunFolder
from i4vgen.runtime import Runtime
from i4vgen.ui import recipes, strings
from i4vgen.ui.errors import failure
from i4vgen.ui.form import SETTINGS
from i4vgen.ui.limits import Budget
from i4vgen.ui.models import OfferedModels
from i4vgen.ui.pace import Stopwatch
from i4vgen.ui.queueing import ON_DEVICE
from i4vgen.ui.run_store import RunStore
from i4vgen.ui.state import MAX_ANCHORS
from i4vgen.ui.visitors import current_visitor

NAMES = {"models": MODELS, "rewards": REWARDS, "comparisons": COMPARISONS}
"""What the descriptions of the endpoints list, besides the largest number of anchors."""

COMPARE = ["vanilla"]
"""What clients get to see beside the result if they do not say, as on the page."""

JUDGED_SIDE = 1024
"""Larger pictures are made smaller, to so many pixels: no judge sees more, and the memory is everybody's."""

SETTINGS_OF = {
    "candidates": SETTINGS,
    "generate": SETTINGS,
    # What the candidates depend on is settled once they are drawn.
    "animate": {n: a for n, a in SETTINGS.items() if ANIMATION in a.affects and CANDIDATES not in a.affects},
}
"""What of a run each endpoint lets clients set."""

OWN_FILE = "/gradio_api/file="
"""In the link to a file that the app has served, what comes before its path."""


class Drawn(TypedDict):
    """What `candidates` answers.

    best: the index with the highest score, None if nobody judged. unknown_words, unread: what of the prompt the
    model does not know, and its end if the model does not read so far.
    """

    run: str
    candidates: list[DrawnCandidate]
    best: int | None
    unknown_words: list[str]
    unread: str


class DrawnCandidate(TypedDict):
    """scores: by the name of the reward model; the first one is `score`, which decides.
    sketch: whether it was left unfinished, as others looked better.
    """

    index: int
    image: gr.FileData
    score: float | None
    scores: dict[str, float]
    sketch: bool


class Animated(TypedDict):
    """What `animate` answers.

    run: a run of its own, with the candidates too. anchor: the index of the candidate that was animated, None
    for a picture of one's own. videos: mp4, by name. seconds: by stage.
    """

    run: str
    anchor: int | None
    videos: dict[str, gr.FileData]
    seconds: dict[str, float]


class AnimatedOfSeveral(Animated):
    """What `animate` answers for each of several anchors.

    scores: the mean over the frames of i4vgen, by the name of the reward model; the first one is `score`.
    """

    score: float | None
    scores: dict[str, float]


class Generated(Drawn, Animated):
    """What `generate` answers: the union of the others. Without candidates if a picture was the anchor."""


class Score(TypedDict):
    """scores: by the name of the reward model; the first one is `score`."""

    score: float
    scores: dict[str, float]


Sent = gr.FileData | dict | str
"""A picture as a client sends it, see `read_picture`."""

Made = list[tuple[Event, Path]]
"""What a run has left on the disk: pictures and videos, each with the event that brought it."""


def register(models: OfferedModels, run_store: RunStore, budget: Budget) -> None:
    """Adds the endpoints to the Blocks under construction.

    models: what clients may run. run_store: where runs are kept. budget: which runs are made.
    """
    endpoints = Endpoints(models, run_store, budget)
    for method in (endpoints.candidates, endpoints.animate, endpoints.generate, endpoints.score):
        gr.api(endpoint(method), api_name=method.__name__, **ON_DEVICE)


def endpoint(method: Callable[..., Generator[Event, None, object]]) -> Callable[..., Iterator]:
    """A method as Gradio runs it: it yields None for every event, and at last what the method returned.

    Yielding is what lets Gradio end a run when its client cancels it or goes away. The answer comes only once,
    because clients download the files of everything that is yielded; the rest is told as progress.
    """
    hints, settings = get_type_hints(method), SETTINGS_OF.get(method.__name__, {})
    signature = with_settings(inspect.signature(method), settings)

    def run(*values: object) -> Iterator:
        yield None  # before any work: what has not yet yielded cannot be cancelled
        try:
            with closing(method(**signature.bind(*values).arguments)) as events:
                while True:
                    report(next(events))
                    yield None
        except StopIteration as end:
            yield end.value
        except I4VGenError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Exception as error:  # clients would be told nothing at all
            raise failure(error, strings.FAILED_CALL) from error

    _, _, answer = get_args(hints["return"])
    run.__name__ = method.__name__
    run.__doc__ = describe_settings(inspect.getdoc(method) or "", settings)
    run.__signature__ = signature.replace(return_annotation=answer)
    run.__annotations__ = {
        name: hints.get(name, each.annotation) for name, each in signature.parameters.items()
    }
    run.__annotations__["return"] = answer
    return run


def with_settings(signature: inspect.Signature, settings: Mapping[str, Parameter]) -> inspect.Signature:
    """The signature with these parameters in place of `**settings`; all but the prompt may be left out."""
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    asked = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if name == "prompt" else None,
            annotation=about.kind if name == "prompt" else about.kind | None,
        )
        for name, about in settings.items()
    ]
    return signature.replace(parameters=sorted(asked + own, key=lambda each: each.default is not each.empty))


def describe_settings(doc: str, settings: Mapping[str, Parameter]) -> str:
    """The docstring with a line for each of these parameters in place of the one for `settings`, and with the
    names of all models, rewards and comparisons.
    """
    doc = doc.format(**{key: ", ".join(known) for key, known in NAMES.items()}, most=MAX_ANCHORS)
    lines = "\n".join(f"    {name}: {about.help}" for name, about in settings.items())
    return doc.replace("    settings: see `GenerationConfig`.", lines)


def report(event: Event) -> None:
    """Tells the client, whichever it is that Gradio is serving, how far its run is."""
    match event:
        case Loading(repo_or_path, done, total):
            gr.Progress()(done / total, desc=strings.downloading(repo_or_path, done, total))
        case Progress(stage, step, total):
            gr.Progress()((step, total), desc=strings.stage(stage))


class Endpoints:
    """The endpoints as generators of a run's events that return the answer. They raise `I4VGenError`s."""

    def __init__(self, models: OfferedModels, run_store: RunStore, budget: Budget) -> None:
        self.models = models
        self.budget = budget
        self.run_store = run_store

    def candidates(
        self,
        model: str | None = None,
        base: str | None = None,
        loras: list[str] | None = None,
        rewards: list[str] | None = None,
        **settings: object,
    ) -> Generator[Event, None, Drawn]:
        """Draws candidate images for a video and scores them. One of them is then set in motion by animate.

        What is left out is the model's own.

        Args:
            settings: see `GenerationConfig`.
            model: {models}. By default the one that the app was started with.
            base: Another Stable Diffusion 1.5 model under the motion modules, a folder or a hub id.
            loras: LoRAs for the model, files, folders or hub ids, each with @WEIGHT after it if need be.
            rewards: Who judges, of {rewards}; the first one selects.

        Returns:
            run: a token for animate;
            candidates: a list of index, image (a PNG file), score, scores (by who judged) and sketch;
            best: the index of the finished candidate with the highest score;
            unknown_words: the words of the prompt that the model does not know;
            unread: the end of a prompt that is longer than what the model reads.
        """
        runtime = self._runtime(model, base, loras, rewards)
        config = GenerationConfig.for_model(runtime.defaults, **settings)
        self.budget.check(runtime, config)
        self.budget.check_time(runtime, config, draws=config.num_candidates)
        with self.run_store.workspace() as path:
            folder = RunFolder(path, recipes.recipe(config, runtime.describe()))
            stopwatch = self.budget.stopwatch(runtime, config)
            made = yield from record(folder, stopwatch, runtime, lambda pipeline: pipeline.candidates(config))
            return drawn(self._keep(folder, config, (), runtime), made, runtime, config.prompt)

    def animate(
        self,
        run: str,
        anchor: int | list[int] | None = None,
        anchor_image: gr.FileData | None = None,
        compare: list[str] | None = COMPARE,
        **settings: object,
    ) -> Generator[Event, None, Animated | list[AnimatedOfSeveral]]:
        """Sets images in motion: the best candidate of a run, others of it, or a picture of your own.

        Model, prompt, seed and all else that the candidates depend on are the run's; so is what is left out.

        Args:
            run: The token of a run, from candidates, animate or generate.
            settings: see `GenerationConfig`.
            anchor: Index of the candidate to animate, or a list of up to {most}. By default that of the best.
            anchor_image: A picture to animate instead; it is cropped to the shape of the video.
            compare: Videos without I4VGen from the same prompt and noise: {comparisons}.

        Returns:
            run: the token of a new run that has all of it;
            anchor: the index of the candidate that was animated;
            videos: mp4 files by name, of which i4vgen is the result and ni_vsds was its first half;
            seconds: by stage.
            For a list of anchors a list of these, each with score and scores: of the frames of i4vgen.
        """
        saved = self.run_store.open(run)
        if saved is None:
            raise InvalidInputError(f"there is no run {shown(run)}, or not any more: draw the candidates again")
        runtime = self.models.runtime_for(saved.spec)
        config = replace(saved.config, **{k: v for k, v in settings.items() if v is not None})
        several, compare = isinstance(anchor, list), compare or []
        indices = check_several(anchor) if isinstance(anchor, list) else [anchor]
        self.budget.check(runtime, config, compare, len(indices))
        self.budget.check_time(runtime, config, anchors=len(indices), compare=compare)
        candidates = saved.candidates()
        anchors = [choose(candidates, index, anchor_image) for index in indices]
        answers, known = [], []
        for chosen in anchors:
            with self.run_store.workspace() as path:
                folder = RunFolder(path, recipes.recipe(config, runtime.describe()))
                for candidate in candidates:
                    folder.record(candidate)
                folder.seconds |= {k: v for k, v in saved.file.seconds.items() if k == "candidates"}
                stopwatch = self.budget.stopwatch(runtime, config, compare)
                made = yield from animate_into(
                    folder, stopwatch, runtime, config, chosen, compare, known, several
                )
                if not runtime.entry.backbone.image_to_video:  # which would show the anchor in all of them
                    known = [event for event, _ in made if isinstance(event, Result) and event.name in compare]
                token = self._keep(folder, config, compare, runtime, saved.stars)
                answer = animated(token, folder, made)
                answers.append(judged(answer, made) if several else answer)
        return answers if several else answers[0]

    def generate(
        self,
        anchor: int | None = None,
        anchor_image: gr.FileData | None = None,
        compare: list[str] | None = COMPARE,
        model: str | None = None,
        base: str | None = None,
        loras: list[str] | None = None,
        rewards: list[str] | None = None,
        **settings: object,
    ) -> Generator[Event, None, Generated]:
        """Makes a video from a prompt: draws candidate images, takes the best one and sets it in motion.

        What is left out is the model's own.

        Args:
            settings: see `GenerationConfig`.
            anchor: Index of the candidate to animate. By default the one with the highest score.
            anchor_image: A picture to animate; then no candidates are drawn.
            compare: Videos without I4VGen from the same prompt and noise: {comparisons}.
            model: {models}. By default the one that the app was started with.
            base: Another Stable Diffusion 1.5 model under the motion modules, a folder or a hub id.
            loras: LoRAs for the model, files, folders or hub ids, each with @WEIGHT after it if need be.
            rewards: Who judges, of {rewards}; the first one selects.

        Returns:
            run: a token for animate;
            candidates: a list of index, image (a PNG file), score, scores (by who judged) and sketch;
            best: the index of the finished candidate with the highest score;
            unknown_words: the words of the prompt that the model does not know;
            unread: the end of a prompt that is longer than what the model reads;
            anchor: the index of the candidate that was animated;
            videos: mp4 files by name, of which i4vgen is the result and ni_vsds was its first half;
            seconds: by stage.
        """
        runtime = self._runtime(model, base, loras, rewards)
        config = GenerationConfig.for_model(runtime.defaults, **settings)
        compare = compare or []
        self.budget.check(runtime, config, compare)
        draws = config.num_candidates if anchor_image is None else 0
        self.budget.check_time(runtime, config, draws, 1, compare)
        chosen = anchor if anchor_image is None else own_picture(anchor, anchor_image)
        with self.run_store.workspace() as path:
            folder = RunFolder(path, recipes.recipe(config, runtime.describe()))
            stopwatch = self.budget.stopwatch(runtime, config, compare)
            events = partial(I4VGenPipeline.run, config=config, anchor=chosen, compare=compare)
            made = yield from record(folder, stopwatch, runtime, events)
            run = self._keep(folder, config, compare, runtime)
            return {**drawn(run, made, runtime, config.prompt), **animated(run, folder, made)}

    def score(
        self,
        prompt: str,
        images: list[gr.FileData],
        model: str | None = None,
        rewards: list[str] | None = None,
    ) -> Generator[Event, None, list[Score]]:
        """Judges pictures: how well does each show what the prompt says?

        Args:
            prompt: What the pictures should show.
            images: 1 to 64 picture files of any size.
            model: Whose judge, if rewards does not name any. By default that of the app's model.
            rewards: Who judges, of {rewards}; the first one is the score.

        Returns:
            a list of score and scores (by the name of who judged), in the order of the pictures.
        """
        runtime = self._runtime(model, None, None, rewards)
        if not check_text("prompt", prompt).strip():
            raise InvalidInputError("prompt is empty: describe what the pictures should show")
        if not isinstance(images, list) or not 1 <= len(images) <= MAX_CANDIDATES:
            raise InvalidInputError(f"images must be a list of 1 to {MAX_CANDIDATES} files")
        pixels, answer = [], []
        for i, file in enumerate(images):
            yield Stage("score", len(images))  # between any two pictures the client may have gone away
            pixels.append(np.asarray(upright(reduced(read_picture(file, f"images[{i}]"), JUDGED_SIDE))))
        with closing(runtime.stream(lambda pipeline: pipeline.score(prompt, pixels))) as events:
            for event in events:
                if isinstance(event, Scores):
                    answer.append({"score": next(iter(event.scores.values())), "scores": event.scores})
                yield event
        return answer

    def _runtime(
        self, model: str | None, base: str | None, loras: list[str] | None, rewards: list[str] | None
    ) -> Runtime:
        """The runtime of what a client chose; what it left out is as in the app's own."""
        for name, value in {"loras": loras, "rewards": rewards}.items():
            if value is not None and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
                raise InvalidInputError(f"{name} must be a list of strings")
        for name, value in {"model": model, "base": base}.items():
            if value is not None:
                check_text(name, value, MAX_NAME)
        spec = self.models.default_spec(self.models.own.spec.model if model is None else model)
        given = {"base": base, "loras": loras, "rewards": rewards}
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None}
        return self.models.runtime_for(replace(spec, **given))

    def _keep(
        self,
        folder: RunFolder,
        config: GenerationConfig,
        compare: Sequence[str],
        runtime: Runtime,
        stars: frozenset[int] = frozenset(),
    ) -> str:
        """Packs a run into the run store. Returns its token."""
        folder.finish(config, compare, runtime.describe(), stars)
        return self.run_store.keep(folder.pack, current_visitor())


def record(
    folder: RunFolder,
    stopwatch: Stopwatch,
    runtime: Runtime,
    make_events: Callable[[I4VGenPipeline], Iterator[Event]],
) -> Generator[Event, None, Made]:
    """A run whose events are written into the folder as they pass, and measured."""
    made = []
    with closing(runtime.stream(make_events)) as events:  # closed with this: then the device is free
        for event in stopwatch.watch(events):
            if path := folder.record(event):
                made.append((event, path))
            yield event
    return made


def animate_into(
    folder: RunFolder,
    stopwatch: Stopwatch,
    runtime: Runtime,
    config: GenerationConfig,
    anchor: Anchor,
    compare: Sequence[str],
    known: Sequence[Result],
    judge: bool,
) -> Generator[Event, None, Made]:
    """Stage 2, written into the folder as it goes. known: comparisons that another anchor's run has made."""
    missing = [name for name in compare if name not in {result.name for result in known}]
    events = partial(I4VGenPipeline.run, config=config, anchor=anchor, compare=missing, judge=judge)
    made = yield from record(folder, stopwatch, runtime, events)
    for result in known:  # now that the folder knows the anchor, which its files name
        if path := folder.record(result):
            made.append((result, path))
        folder.seconds[result.name] = result.seconds
    return made


def check_several(indices: list[int]) -> list[int]:
    """Several anchors. That they are indices of candidates is seen when they are chosen."""
    if not 1 <= len(indices) <= MAX_ANCHORS or len({repr(index) for index in indices}) < len(indices):
        raise InvalidInputError(f"anchor must be an index or a list of 1 to {MAX_ANCHORS} different ones")
    if not all(type(index) is int for index in indices):
        raise InvalidInputError("anchor must be an index or a list of indices")
    return indices


def choose(candidates: Sequence[Candidate], index: int | None, picture: Sent | None) -> Anchor:
    """The anchor: a picture of the client's own, the candidate of this index, or the best one."""
    if picture is not None:
        return own_picture(index, picture)
    if not candidates:
        raise InvalidInputError("this run has no candidates: give an anchor_image")
    if index is None:
        leader = best_of(candidates)
        if leader is None:
            raise InvalidInputError("nobody judged these candidates: pick the anchor by its index")
        return Anchor.from_candidate(leader, HIGHEST_REWARD)
    for candidate in candidates:
        if candidate.index == index:
            return Anchor.from_candidate(candidate)
    known = ", ".join(str(candidate.index) for candidate in candidates)
    raise InvalidInputError(f"anchor must be the index of a candidate, one of {known}, not {shown(index)}")


def own_picture(index: int | None, picture: Sent) -> Anchor:
    """The picture as the anchor; an index beside it would be a contradiction."""
    if index is not None:
        raise InvalidInputError("anchor and anchor_image exclude each other: give one of them")
    return Anchor.from_image(read_picture(picture, "anchor_image"))


def best_of(candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the highest score; None if there is none, or none was judged."""
    judged = [candidate for candidate in candidates if candidate.score is not None]
    return best(judged) if judged else None


def drawn(run: str, made: Made, runtime: Runtime, prompt: str) -> Drawn:
    """What a run has drawn. run: its token."""
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
        "unknown_words": runtime.unknown_words(prompt),
        "unread": runtime.unread(prompt),
    }


def animated(run: str, folder: RunFolder, made: Made) -> Animated:
    """What a run has animated. run: its token."""
    videos = {event.name: served(path) for event, path in made if isinstance(event, Result)}
    anchor = folder.anchor and folder.anchor.index
    return {"run": run, "anchor": anchor, "videos": videos, "seconds": dict(folder.seconds)}


def judged(answer: Animated, made: Made) -> AnimatedOfSeveral:
    """An answer with what the reward models say of the result's frames."""
    scores = next(event.scores for event, _ in made if isinstance(event, Result) and event.name == "i4vgen")
    return {**answer, "score": next(iter(scores.values()), None), "scores": scores}


def served(path: Path) -> Any:
    """A copy of the file that the client may download, from where Gradio deletes it after a while: a `FileData`
    as JSON types.
    """
    return gr.FileData(path=save_file_to_cache(path, get_upload_folder()), orig_name=path.name).model_dump()


def read_picture(file: Sent, name: str) -> Image.Image:
    """A picture that a client has sent as the parameter `name`.

    Clients are told to send a `FileData`; what arrives is a dict, whose file the client has uploaded: Gradio
    has seen to that. Or it is a link, as MCP clients send it: to a file that this app has served, or to any
    public one.
    """
    if isinstance(file, dict) and is_file_obj_with_meta(file):
        path = file["path"]
    elif isinstance(file, str) and file.startswith(("http://", "https://")):
        path = linked_file(file, name)
    else:
        raise InvalidInputError(f"{name} is no file: send one with gradio_client.handle_file, or give its URL")
    try:
        return open_picture(path)
    except InvalidInputError:  # its words name a file on the server
        raise InvalidInputError(f"{name} cannot be read as a picture: use a PNG, JPEG or WebP file") from None


def linked_file(url: str, name: str) -> str:
    """Where the file of a link lies, after a download if it is not this app's."""
    _, _, path = url.partition(OWN_FILE)
    if path and is_in_or_equal(unquote(path), get_upload_folder()):
        return unquote(path)
    try:
        return save_url_to_cache(url, get_upload_folder())  # refuses addresses inside of the server's network
    except Exception as error:  # of many kinds: name resolution, refusal, timeout, status
        raise InvalidInputError(f"{name} cannot be downloaded from {shown(url)}: {error}") from None
