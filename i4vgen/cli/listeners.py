"""Listeners that print the events of a run, and functions that print warnings before it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from i4vgen.cli.output import say, warn
from i4vgen.events import Candidate, Event, Loading, LoraFit, Progress, Result, Selected, Stage, Trial
from i4vgen.weights.prompt_syntax import named_loras

if TYPE_CHECKING:
    from i4vgen.config import GenerationConfig
    from i4vgen.serving.runtime import Runtime


def make_listener(json_lines: bool) -> JsonLines | Lines:
    """Returns a listener that prints JSON lines, or else text, with progress bars if stderr is a terminal."""
    return JsonLines() if json_lines else Bars() if sys.stderr.isatty() else Lines()


class JsonLines:
    """Prints each event as a JSON line, with the path of its file if one was written."""

    def show(self, event: Event, file: Path | None) -> None:
        """Prints an event and the path of its file, if one was written."""
        say_json(**describe_event(event, file))

    def finish(self, run: Path) -> None:
        """Prints the path of the finished run's run.json."""
        say_json(event="done", file=str(run))


def describe_event(event: Event, file: str | Path | None) -> dict[str, Any]:
    """Returns the values to print for an event: its type, its fields without arrays, and its file."""
    values = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    values = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
    if isinstance(event, Candidate):
        values["score"] = event.score
    if file is not None:
        values["file"] = str(file)
    return {"event": type(event).__name__.lower(), **values}


def say_json(**values: object) -> None:
    """Prints the values, which may contain dataclasses, as a JSON line."""
    say(json.dumps(values, default=dataclasses.asdict))


class Lines:
    """Prints events as plain text."""

    def __init__(self) -> None:
        self.loading: str | None = None

    def show(self, event: Event, file: Path | None) -> None:
        match event:
            case Loading(repo_or_path, _, total) if repo_or_path != self.loading:
                self.loading = repo_or_path
                self.say(f"downloading {repo_or_path} ({total / 1e9:.1f} GB)")
            case LoraFit():
                self.say(str(event))
            case Stage():
                self.say(f"{event.name}: {event.total} steps")
            case Candidate():
                scores = ", ".join(f"{name} {score:.2f}" for name, score in event.scores.items())
                name = "sketch" if event.sketch else "candidate"
                self.say(f"  {name} {event.index}" + (f": {scores}" if scores else ""))
            case Trial():
                self.say(f"  {file} (candidate {event.index}, score {event.score:.2f}, {event.seconds:.1f} s)")
            case Selected(index=None):
                self.say(f"anchor: {event.reason}")
            case Selected():
                self.say(f"anchor: candidate {event.index} ({event.reason})")
            case Result():
                self.say(f"  {file} ({event.seconds:.1f} s)")

    def finish(self, run: Path) -> None:
        self.say(f"done: {run}")

    def say(self, text: str) -> None:
        say(text)


class Bars(Lines):
    """Prints events as plain text with a progress bar per stage, for terminals."""

    def __init__(self) -> None:
        from tqdm import tqdm

        super().__init__()
        self.bar = tqdm(disable=True)

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
        with self.bar.external_write_mode():
            say(text)

    def close(self) -> None:
        self.bar.close()


def warn_of_unused_gpu(device: str | None) -> None:
    """Warns about a GPU that PyTorch cannot use, unless a device was chosen."""
    from i4vgen.models.loading import unused_gpu

    if device is None and (warning := unused_gpu()):
        warn(warning)


def warn_of_words(runtime: Runtime, configs: Iterable[GenerationConfig]) -> None:
    """Warns about the parts of prompts and negative prompts that the model does not understand.

    These are unknown words (in prompts only), syntax of other programs, and ends that are cut off.
    """
    configs = list(configs)
    prompts = dict.fromkeys(config.prompt for config in configs)
    negative = dict.fromkeys(config.negative_prompt for config in configs)
    if unknown := {word: None for prompt in prompts for word in runtime.unknown_words(prompt)}:
        warn(f"the model does not know: {', '.join(unknown)}")
    for name, texts in (("prompt", prompts), ("negative prompt", negative)):
        for unread in filter(None, map(runtime.unread, texts)):
            warn(f"the {name} is too long, the model does not read: {unread}")
    texts = prompts | negative
    if literal := {part: None for text in texts for part in runtime.literal_syntax(text)}:
        loras = {lora: None for text in texts for lora in named_loras(text)}
        advice = f" (give a LoRA as an option: {' '.join(f'--lora {lora}' for lora in loras)})" if loras else ""
        warn(f"the model reads as plain words: {', '.join(literal)}{advice}")
