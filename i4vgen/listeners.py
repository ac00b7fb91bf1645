"""How the command line tells what happens in a run."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from i4vgen.events import Candidate, Event, Loading, Progress, Result, Selected, Stage

if TYPE_CHECKING:
    from i4vgen.runtime import Runtime


class Listener(Protocol):
    """Is told of everything that happens."""

    def show(self, event: Event, file: Path | None) -> None:
        """file: what was written for the event, if anything."""
        ...

    def finish(self, run: Path) -> None:
        """run: the run.json of the finished run."""
        ...


def make_listener(json_lines: bool) -> Listener:
    """For a program that reads along, for a terminal, or for a file."""
    return JsonLines() if json_lines else Bars() if sys.stderr.isatty() else Lines()


class JsonLines:
    """Every event as one line of JSON on stdout; pictures and videos as the files that hold them."""

    def show(self, event: Event, file: Path | None) -> None:
        say_json(**describe_event(event, file))

    def finish(self, run: Path) -> None:
        say_json(event="done", file=str(run))


def describe_event(event: Event, file: str | Path | None) -> dict[str, Any]:
    """An event as JSON types, without its pictures and numbers."""
    values = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    values = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
    if isinstance(event, Candidate):
        values["score"] = event.score
    if file is not None:
        values["file"] = str(file)
    return {"event": type(event).__name__.lower(), **values}


def say_json(**values: object) -> None:
    """Prints a line of JSON."""
    print(json.dumps(values), flush=True)


class Lines:
    """What happened, in words on stdout."""

    def __init__(self) -> None:
        self.loading: str | None = None

    def show(self, event: Event, file: Path | None) -> None:
        match event:
            case Loading(repo_or_path, _, total) if repo_or_path != self.loading:
                self.loading = repo_or_path
                self.say(f"downloading {repo_or_path} ({total / 1e9:.1f} GB)")
            case Stage():
                self.say(f"{event.name}: {event.total} steps")
            case Candidate():
                scores = ", ".join(f"{name} {score:.2f}" for name, score in event.scores.items())
                name = "sketch" if event.sketch else "candidate"
                self.say(f"  {name} {event.index}" + (f": {scores}" if scores else ""))
            case Selected(index=None):
                self.say(f"anchor: {event.reason}")
            case Selected():
                self.say(f"anchor: candidate {event.index} ({event.reason})")
            case Result():
                self.say(f"  {file} ({event.seconds:.1f} s)")

    def finish(self, run: Path) -> None:
        self.say(f"done: {run}")

    def say(self, text: str) -> None:
        print(text, flush=True)


class Bars(Lines):
    """The same with a progress bar per stage, for a terminal."""

    def __init__(self) -> None:
        from tqdm import tqdm

        super().__init__()
        self.bar = tqdm(disable=True)  # of nothing yet

    def show(self, event: Event, file: Path | None) -> None:
        from tqdm import tqdm

        match event:
            case Loading():
                if event.repo_or_path != self.loading:
                    self.loading = event.repo_or_path
                    self.close()
                    self.bar = tqdm(total=event.total, desc=event.repo_or_path, unit="B", unit_scale=True)
                self.bar.update(event.done - self.bar.n)
            case Stage():
                self.close()
                self.bar = tqdm(total=event.total, desc=event.name, leave=True)
            case Progress():
                self.bar.update()
            case Selected() | Result():
                self.close()
                super().show(event, file)
            case _:
                super().show(event, file)

    def finish(self, run: Path) -> None:
        self.close()
        super().finish(run)

    def say(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(text)

    def close(self) -> None:
        self.bar.close()


def warn_of_words(runtime: Runtime, prompts: Iterable[str]) -> None:
    """Says what of these prompts the model will not heed."""
    prompts = dict.fromkeys(prompts)
    unknown = {word: None for prompt in prompts for word in runtime.unknown_words(prompt)}
    if unknown:
        print(f"i4vgen: the model does not know: {', '.join(unknown)}", file=sys.stderr)
    for unread in filter(None, map(runtime.unread, prompts)):
        print(f"i4vgen: the prompt is too long, the model does not read: {unread}", file=sys.stderr)
