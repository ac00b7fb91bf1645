"""What the endpoints answer, and how it is described to clients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import gradio as gr

from i4vgen.config import GenerationConfig
from i4vgen.events import Candidate, Event, Result, best, latest
from i4vgen.serving.runtime import Runtime
from i4vgen.storage.runs import RunFolder
from i4vgen.studio import files, strings

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


Made = list[tuple[Event, Path]]
"""The pictures and videos that a run has written: each event with the path of its file."""


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


def of_several(answer: Animated, made: Made) -> AnimatedOfSeveral:
    """Adds the scores of the I4VGen video's frames to an answer."""
    result = next(event for event, _ in made if isinstance(event, Result) and event.name == "i4vgen")
    score = next(iter(result.scores.values()), None)
    return {**answer, "score": score, "scores": result.scores, "worst": result.worst}


def served(path: Path) -> Any:
    """Copies a file to the cache for clients to download. Returns a `FileData` as JSON types."""
    return gr.FileData(path=files.copy_to_cache(path), orig_name=path.name).model_dump()
