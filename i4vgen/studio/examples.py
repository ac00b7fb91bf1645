"""The examples on the page, and the finished runs of some of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from i4vgen.storage.runs import open_run
from i4vgen.studio.recipes import Recipes
from i4vgen.studio.run_io import OpenedRun


@dataclass(frozen=True)
class Example:
    """An example prompt and seed.

    Attributes:
        run: The path of the packed run; None if the example has none.
    """

    prompt: str
    seed: int
    run: Path | None


def read_examples(path: Path) -> list[Example]:
    """Reads the examples in a JSON file; returns an empty list if the file is missing.

    The file contains a list of objects with a `prompt`, a `seed` and, optionally, a `run`: the path of a packed
    run, relative to the file. A run that does not exist is ignored.
    """
    if not path.is_file():
        return []
    examples = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        run = path.parent / entry["run"] if "run" in entry else None
        examples.append(Example(entry["prompt"], entry["seed"], run if run and run.is_file() else None))
    return examples


class StoredRuns:
    """Opens the runs of the examples. All visitors share the unpacked files.

    Attributes:
        first: The path of the first example's run, which a new page shows; None if there is none.
    """

    def __init__(self, examples: Sequence[Example], recipes: Recipes) -> None:
        self.recipes = recipes
        self.first = examples[0].run if examples else None
        self._opened: dict[Path, OpenedRun] = {}

    def open(self, path: Path) -> OpenedRun:
        """Opens the run of an example. Unpacks it again only if its files are old (`OpenedRun.is_served`)."""
        known = self._opened.get(path)
        if known is None or not known.is_served:
            known = self._opened[path] = OpenedRun.of(open_run(path), self.recipes)
        return known
