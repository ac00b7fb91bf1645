"""The runs of a batch. Each has a name that follows from all that decides its pixels, so that a finished one is
recognised wherever it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from i4vgen.anchor import Anchor, check_choice
from i4vgen.batch.prompts import BESIDE, Row
from i4vgen.catalog import ModelSpec
from i4vgen.comparisons import find_comparisons
from i4vgen.errors import InvalidInputError
from i4vgen.events import HIGHEST_REWARD, PICKED, UPLOADED, VIDEOS
from i4vgen.generation_config import GenerationConfig
from i4vgen.media import fit_picture, open_picture, pixels_sha256
from i4vgen.options import names
from i4vgen.run_file import RunFile, identity
from i4vgen.runs import run_name
from i4vgen.runtime import Runtime

CHOICE = {"anchor", "anchor_image"}

SHOWN = 200
"""Characters of a prompt that is refused."""


@dataclass(frozen=True)
class Task:
    """A run to make. Plain data that pickles.

    Attributes:
        line: Of the file of prompts.
        config: What is run.
        compare: Names from `COMPARISONS`.
        spec: The model.
        versions: Of the code.
        anchor: The index of the candidate to animate; None for the highest reward.
        anchor_image: The picture to animate instead.
        anchor_sha256: Of the pixels of that picture, fitted to the video.
    """

    line: int
    config: GenerationConfig
    compare: tuple[str, ...]
    spec: ModelSpec
    versions: Mapping[str, str]
    anchor: int | None = None
    anchor_image: str | None = None
    anchor_sha256: str | None = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides what comes out, in JSON."""
        reason = UPLOADED if self.anchor_sha256 else HIGHEST_REWARD if self.anchor is None else PICKED
        request = self.config.to_dict()
        decided = identity(request, self.spec, self.versions, reason, self.anchor, self.anchor_sha256)
        return decided | {"compare": list(self.compare)}

    @cached_property
    def name(self) -> str:
        """Of its folder: what a single run's would be called, and eight digits of what else decides it."""
        text = json.dumps(self.identity, sort_keys=True)
        return f"{run_name(self.config)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def videos(self) -> tuple[str, ...]:
        """The names of the videos that it makes."""
        return (*VIDEOS, *self.compare)

    def choice(self) -> Anchor | int | None:
        """The anchor as `I4VGenPipeline.run` takes it.

        Raises:
            InvalidInputError: The picture cannot be read.
        """
        return Anchor.from_image(open_picture(self.anchor_image)) if self.anchor_image else self.anchor

    def asks_for(self, file: RunFile) -> bool:
        """Whether a run with this run.json is the one."""
        return file.identity | {"compare": file.compare} == self.identity


@dataclass(frozen=True)
class Refusal:
    """A line of the file that asks for no run that can be made.

    Attributes:
        line: Its number.
        prompt, seed: As far as it says them.
        error: Why.
    """

    line: int
    prompt: str
    seed: str
    error: str


def plan(
    rows: Iterable[Row], seeds: Sequence[int] | None, options: Mapping[str, Any], runtime: Runtime
) -> list[Task | Refusal]:
    """The runs that a file asks for, line by line and seed by seed; each once.

    Args:
        rows: The lines.
        seeds: For lines without a seed of their own; None for the one among the options, or the default.
        options: What holds where a line says nothing, by the names that a line has.
        runtime: Of the model. Its weights are not loaded.
    """
    planned: dict[object, Task | Refusal] = {}
    for row in rows:
        given = {**options, **row.values}
        if row.values.keys() & CHOICE:  # the line's choice of an anchor, not half of it and half of another
            given = {name: value for name, value in given.items() if name in row.values or name not in CHOICE}
        several = seeds is not None and "seed" not in row.values
        for values in [{**given, "seed": seed} for seed in seeds or ()] if several else [given]:
            try:
                if row.error:
                    raise InvalidInputError(row.error)
                task = _task(row.line, values, runtime)
                planned.setdefault(task.name, task)
            except InvalidInputError as error:
                prompt, seed = (str(values.get(name, ""))[:SHOWN] for name in ("prompt", "seed"))
                planned[row.line, seed] = Refusal(row.line, prompt, seed, str(error))
    return list(planned.values())


def _task(line: int, values: Mapping[str, Any], runtime: Runtime) -> Task:
    settings = {name: value for name, value in values.items() if name not in BESIDE}
    compare, anchor, picture = (values.get(name) for name in BESIDE)
    if "prompt" not in settings:
        raise InvalidInputError("prompt is missing")
    config = GenerationConfig.for_model(runtime.defaults, **settings)
    comparisons = find_comparisons(names(compare) if isinstance(compare, str) else compare or ())
    digest = None
    if picture is None:
        check_choice(anchor, config, judged=bool(runtime.spec.rewards))
    elif anchor is not None:
        raise InvalidInputError("anchor and anchor_image exclude each other: give one of them")
    else:
        digest = pixels_sha256(fit_picture(open_picture(picture), config.height, config.width))
    return Task(
        line,
        config,
        tuple(comparison.name for comparison in comparisons),
        runtime.spec,
        runtime.describe()["versions"],
        anchor,
        picture,
        digest,
    )
