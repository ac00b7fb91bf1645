"""Plans the runs of a batch.

A run's name includes a hash of everything that determines its pixels, so that finished runs are recognised on
any machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from i4vgen.bounds import check_text
from i4vgen.cli.batch.prompts import CHOICES, PromptLine
from i4vgen.cli.options import split_names
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.events import HIGHEST_REWARD, PICKED, UPLOADED, VIDEOS
from i4vgen.media import fit_picture, open_picture, pixels_sha256
from i4vgen.method.anchor import Anchor, check_choice
from i4vgen.method.comparisons import find_comparisons
from i4vgen.method.search import check_search
from i4vgen.models.catalog import ModelSpec
from i4vgen.models.portable import Files
from i4vgen.serving.runtime import Runtime
from i4vgen.storage.run_file import RunFile, identity
from i4vgen.storage.runs import run_name

ANCHOR_FIELDS = {"anchor", "anchor_image"}
"""Fields that choose the anchor.

A line that has one ignores the command line's options for the anchor, and its --animate-best.
"""

SHOWN = 200
"""Maximum number of characters shown of a refused prompt."""


@dataclass(frozen=True)
class Task:
    """A run to make. Can be pickled.

    Attributes:
        line: The line number in the prompt file.
        config: The settings of the run.
        compare: Names from `COMPARISONS`.
        spec: The model, with files named without their folders.
        versions: The versions of the packages.
        anchor: The index of the candidate to animate; None for the highest reward or a picture.
        anchor_image: The path of the picture to animate; None to animate a candidate.
        anchor_sha256: The hash of the picture's pixels, fitted to the video; None without a picture.
        files: The ids of the model's local files by name.
    """

    line: int
    config: GenerationConfig
    compare: tuple[str, ...]
    spec: ModelSpec
    versions: Mapping[str, str]
    anchor: int | None = None
    anchor_image: str | None = None
    anchor_sha256: str | None = None
    files: Files = field(default_factory=dict)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the result, as JSON types."""
        reason = UPLOADED if self.anchor_sha256 else HIGHEST_REWARD if self.anchor is None else PICKED
        request = self.config.to_dict()
        decided = identity(
            request, self.spec, self.versions, reason, self.anchor, self.anchor_sha256, self.files
        )
        return decided | {"compare": list(self.compare)}

    @cached_property
    def name(self) -> str:
        """The name of the run's folder: the name of a single run and eight digits of the identity's hash."""
        text = json.dumps(self.identity, sort_keys=True)
        return f"{run_name(self.config)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def videos(self) -> tuple[str, ...]:
        """The names of the run's videos."""
        return (*VIDEOS, *self.compare)

    def choice(self) -> Anchor | int | None:
        """Returns the anchor for `I4VGenPipeline.run`.

        Raises:
            InvalidInputError: The picture cannot be read.
        """
        return Anchor.from_image(open_picture(self.anchor_image)) if self.anchor_image else self.anchor

    def asks_for(self, file: RunFile) -> bool:
        """Returns whether a run.json describes this run."""
        return file.identity | {"compare": file.compare} == self.identity


@dataclass(frozen=True)
class Refusal:
    """A run that cannot be made, because its line of the prompt file is invalid.

    Attributes:
        line: The line number in the prompt file.
        prompt: The prompt; empty if missing.
        seed: The seed as text; empty if missing.
        error: The reason for the refusal.
    """

    line: int
    prompt: str
    seed: str
    error: str


def plan(
    rows: Iterable[PromptLine], seeds: Sequence[int] | None, options: Mapping[str, Any], runtime: Runtime
) -> list[Task | Refusal]:
    """Plans the runs of a prompt file in the order of lines and seeds, without duplicates.

    Args:
        rows: The lines of the file.
        seeds: The seeds for lines without a seed; None for the seed in `options`, or the default.
        options: The values of fields that a line does not set.
        runtime: The runtime of the model. Its weights are not loaded.

    Returns:
        A task for each run, or a refusal for each run of an invalid line.

    Raises:
        ModelError: The model cannot be found or is unsupported, or its configuration is missing or damaged.
    """
    planned: dict[object, Task | Refusal] = {}
    for row in rows:
        given = {**options, **row.values}
        if row.values.keys() & ANCHOR_FIELDS:
            ignored = {*ANCHOR_FIELDS, "animate_best"} - row.values.keys()
            given = {name: value for name, value in given.items() if name not in ignored}
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
    settings = {name: value for name, value in values.items() if name not in CHOICES}
    compare, anchor, picture = (values.get(name) for name in CHOICES)
    if "prompt" not in settings:
        raise InvalidInputError("prompt is missing")
    config = GenerationConfig.for_model(runtime.defaults, **settings)
    comparisons = find_comparisons(split_names(compare) if isinstance(compare, str) else compare or ())
    digest = None
    check_search(config, is_given=anchor is not None or picture is not None)
    if picture is None:
        check_choice(anchor, config, has_reward=runtime.has_reward)
    elif anchor is not None:
        raise InvalidInputError("anchor and anchor_image exclude each other: give one of them")
    else:
        image = open_picture(check_text("anchor_image", picture))
        digest = pixels_sha256(fit_picture(image, config.height, config.width))
    spec, files = runtime.portable_spec
    return Task(
        line,
        config,
        tuple(comparison.name for comparison in comparisons),
        spec,
        runtime.describe()["versions"],
        anchor,
        picture,
        digest,
        files,
    )
