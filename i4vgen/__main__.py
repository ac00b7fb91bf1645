"""The command line: `python -m i4vgen "a rocket rising in a starry night" --seed 7 --out DIR`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np

from i4vgen.catalog import ENVIRONMENT, MODELS, REWARDS
from i4vgen.comparisons import COMPARISONS
from i4vgen.errors import InvalidInputError, ModelError, OutOfMemoryError
from i4vgen.events import Candidate, Event, Loading, Progress, Result, Selected, Stage
from i4vgen.generation_config import GenerationConfig, offered_parameters, parameters

DESCRIPTION = """\
Makes a video from a prompt with I4VGen: candidate images, the best of them as the anchor, NI-VSDS to
set it in motion, and a regeneration. Leaves run.json, candidates/, anchor.png, ni_vsds.mp4 and
i4vgen.mp4 in one folder.
"""


class Parser(argparse.ArgumentParser):
    """argparse, but with one line for an error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="i4vgen", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("prompt", nargs="?", help=parameters()["prompt"].help)
    add("--out", metavar="DIR", help="Where the files go (default outputs/PROMPT-SEED).")
    add("--from", dest="source", metavar="RUN.JSON", help="Repeat a run; other options change it.")
    group = parser.add_argument_group("anchor")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--anchor", type=int, metavar="INDEX", help="Animate this candidate, not the best one.")
    which.add_argument("--anchor-image", metavar="FILE", help="Animate this picture; no candidates are made.")
    group = parser.add_argument_group("settings (defaults: the model's)")
    add = group.add_argument
    for name, about in offered_parameters().items():
        if name != "prompt":
            option = "--" + (about.option or name).replace("_", "-")
            add(option, dest=name, type=about.kind, metavar=about.metavar, help=about.help)
    add(
        "--compare",
        type=names,
        metavar="NAMES",
        help=f"Also without I4VGen from the same seed: {', '.join(COMPARISONS)}, several with commas, or none.",
    )
    group = parser.add_argument_group("model")
    add = group.add_argument
    add(
        "--model",
        help=f"{', '.join(MODELS)}, a folder or hub id in the diffusers layout, or BASE+MOTION_ADAPTER"
        f" (default: ${ENVIRONMENT}, else animatediff with a GPU and pocket without).",
    )
    add("--base", metavar="MODEL", help="Another Stable Diffusion 1.5 model, a folder or a hub id.")
    add(
        "--lora",
        action="append",
        dest="loras",
        metavar="LORA[@WEIGHT]",
        help="An image or a motion LoRA, a file, a folder or a hub id; can be given again.",
    )
    add(
        "--reward",
        type=names,
        dest="rewards",
        metavar="NAMES",
        help=f"Who judges the candidates: {', '.join(REWARDS)} or none; the first one selects.",
    )
    group = parser.add_argument_group("machine")
    add = group.add_argument
    add("--device", help="cuda, mps or cpu (default: the best there is).")
    add("--compile", action="store_true", help="Compile the network first: pays off over many runs.")
    add("--json", action="store_true", help="Print events as JSON lines.")
    args = parser.parse_args(argv)
    if args.prompt is None and args.source is None:
        parser.error(
            "a prompt is missing: say what the video should show, or repeat a run with --from RUN.JSON"
        )
    return args


def names(text: str) -> list[str]:
    """The items of a list with commas; "none" is an empty one."""
    items = [item.strip() for item in text.split(",")]
    return [item for item in items if item and item != "none"]


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        run(args)
    except (InvalidInputError, ModelError) as error:
        print(f"i4vgen: error: {error}", file=sys.stderr)
        return 2
    except OutOfMemoryError as error:
        print(f"i4vgen: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("i4vgen: stopped", file=sys.stderr)
        return 130
    return 0


def run(args: argparse.Namespace) -> None:
    # Reading these takes seconds; --help and a mistyped option should not.
    from i4vgen.catalog import ModelSpec, default_model
    from i4vgen.media import open_picture
    from i4vgen.pipeline import Anchor
    from i4vgen.runs import RunFolder, open_run
    from i4vgen.runtime import Runtime

    earlier = open_run(args.source) if args.source else None
    given = {name: value for name, value in vars(args).items() if name in parameters() and value is not None}
    chosen = {name: getattr(args, name) for name in ("model", "base", "loras", "rewards")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    spec = earlier.spec.to_dict() if earlier else {"model": default_model()}
    spec = ModelSpec.from_dict(spec | chosen)
    runtime = Runtime(spec, args.device, args.compile)
    config = GenerationConfig.for_model(
        runtime.defaults, **(earlier.config.to_dict() if earlier else {}) | given
    )

    anchor: Anchor | int | None = args.anchor
    if args.anchor_image:
        anchor = Anchor.from_image(open_picture(args.anchor_image))
    elif anchor is None and earlier:
        anchor = earlier.chosen()
    compare = args.compare
    if compare is None:
        compare = earlier.compare if earlier else ()

    if unknown := runtime.unknown_words(config.prompt):
        print(f"i4vgen: the model does not know: {', '.join(unknown)}", file=sys.stderr)
    if unread := runtime.unread(config.prompt):
        print(f"i4vgen: the prompt is too long, the model does not read: {unread}", file=sys.stderr)
    listener = JsonLines() if args.json else Bars() if sys.stderr.isatty() else Lines()
    folder = None
    for event in runtime.stream(lambda pipeline: pipeline.run(config, anchor, compare)):
        if isinstance(event, Loading):
            listener.show(event, None)
            continue
        # Only now: a run that cannot start must not clear away an earlier one.
        folder = folder or RunFolder(args.out or default_folder(config))
        listener.show(event, folder.record(event))
    if folder:
        listener.finish(folder.finish(config, compare, runtime.describe()))


def default_folder(config: GenerationConfig) -> Path:
    words = re.sub(r"[^\w]+", "-", config.prompt.lower()).strip("-")[:60]
    return Path("outputs", f"{words or 'run'}-{config.seed}")


class JsonLines:
    """Every event as one line of JSON on stdout; pictures and videos as the files that hold them."""

    def show(self, event: Event, file: Path | None) -> None:
        values = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
        values = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
        if isinstance(event, Candidate):
            values["score"] = event.score
        if file is not None:
            values["file"] = str(file)
        print(json.dumps({"event": type(event).__name__.lower(), **values}), flush=True)

    def finish(self, run: Path) -> None:
        print(json.dumps({"event": "done", "file": str(run)}), flush=True)


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


if __name__ == "__main__":
    sys.exit(main())
