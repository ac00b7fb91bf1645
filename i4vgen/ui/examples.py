"""The examples that the page offers, and the finished runs that some of them have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from i4vgen.runs import open_run
from i4vgen.ui.run_io import OpenedRun


@dataclass(frozen=True)
class Example:
    """A prompt and a seed worth trying, and the packed run that was made of them, if there is one."""

    prompt: str
    seed: int
    run: Path | None


def read_examples(path: Path) -> list[Example]:
    """The examples of a JSON file; runs are named relative to it. Empty if there is no such file."""
    if not path.is_file():
        return []
    examples = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        run = path.parent / entry["run"] if "run" in entry else None
        examples.append(Example(entry["prompt"], entry["seed"], run if run and run.is_file() else None))
    return examples


class StoredRuns:
    """The runs of the examples, unpacked once for everybody. first: the one that the page begins with."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.first = examples[0].run if examples else None
        self._opened: dict[Path, OpenedRun] = {}

    def open(self, path: Path) -> OpenedRun:
        """The run of an example."""
        known = self._opened.get(path)
        if known is None or not known.is_served:
            known = self._opened[path] = OpenedRun.of(open_run(path))
        return known
