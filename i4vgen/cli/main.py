"""The command-line interface: `python -m i4vgen "a rocket rising in a starry night" --seed 7 --out DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from i4vgen.cli.options import (
    Parser,
    add_run_options,
    check_files,
    chosen_model,
    given_settings,
    set_models_dirs,
)
from i4vgen.cli.output import accept_all_characters, warn
from i4vgen.config import GenerationConfig, parameters
from i4vgen.errors import I4VGenError, OutOfMemoryError
from i4vgen.serving.imports import gc_paused
from i4vgen.serving.leaving import leave

STOPPED = 130
"""Exit status after Ctrl-C: 128 plus the number of SIGINT, as in shells."""

DESCRIPTION = """\
Makes a video from a prompt with I4VGen: candidate images, the best of them as the anchor, NI-VSDS to
set it in motion, and a regeneration. Writes run.json, candidates/, anchor.png, ni_vsds.mp4 and
i4vgen.mp4 to one folder. `i4vgen batch FILE` does so for many prompts.
"""


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line of a single run."""
    parser = Parser(
        prog="i4vgen", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("prompt", nargs="?", help=parameters()["prompt"].help)
    add(
        "--out",
        metavar="DIR",
        help="Where the files go (default outputs/PROMPT-SEED, with a number where that holds another run).",
    )
    add("--overwrite", action="store_true", help="Write to --out even if it holds other files or another run.")
    add(
        "--from",
        dest="source",
        metavar="FILE",
        help="Repeat a run by its run.json, zip, video or picture; other options change it.",
    )
    add_run_options(parser)
    args = parser.parse_args(argv)
    if args.prompt is None and args.source is None:
        parser.error("a prompt is missing: say what the video should show, or repeat a run with --from FILE")
    if args.overwrite and args.out is None:
        parser.error("--overwrite needs --out: without it no folder is written to that holds another run")
    return args


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    accept_all_characters()
    try:
        if argv[:1] == ["batch"]:
            from i4vgen.cli.batch.command import run_batch

            return run_batch(argv[1:])
        run(parse(argv))
    except I4VGenError as error:
        warn(f"error: {error}")
        return 1 if isinstance(error, OutOfMemoryError) else 2
    except KeyboardInterrupt:
        warn("stopped")
        return STOPPED
    return 0


def start() -> NoReturn:
    """Runs the command and exits the process with its status."""
    status = main()
    if status == STOPPED:
        leave(status)
    sys.exit(status)


def run(args: argparse.Namespace) -> None:
    """Makes a single run from the command-line arguments."""
    # Imported here because it takes seconds: --help and usage errors should be immediate.
    with gc_paused():
        from i4vgen.cli.listeners import make_listener, warn_of_unused_gpu, warn_of_words
        from i4vgen.media import fit_picture, open_picture, pixels_sha256
        from i4vgen.method.anchor import check_choice
        from i4vgen.method.comparisons import find_comparisons
        from i4vgen.method.search import check_search
        from i4vgen.pipeline import Anchor
        from i4vgen.serving.run_to_folder import run_to_folder
        from i4vgen.serving.runtime import Runtime
        from i4vgen.storage.run_place import claimed_folder, planned_run
        from i4vgen.storage.runs import open_run, run_name

    set_models_dirs(args)
    earlier = open_run(args.source) if args.source else None
    if earlier:
        check_files(args, earlier.missing_files)
    runtime = Runtime(chosen_model(args, earlier and earlier.spec), args.device, args.compile)
    settings = (earlier.config.to_dict() if earlier else {}) | given_settings(args)
    config = GenerationConfig.for_model(runtime.defaults, **settings)

    anchor: Anchor | int | None = args.anchor
    if args.anchor_image:
        picture = open_picture(args.anchor_image)
        anchor = Anchor.from_image(picture)
        known = earlier and earlier.file.anchor_sha256
        if known and known != pixels_sha256(fit_picture(picture, config.height, config.width)):
            warn("this is not the picture that the run was animated from")
    elif anchor is None and earlier:
        anchor = earlier.chosen()
    check_search(config, is_given=anchor is not None)
    if not isinstance(anchor, Anchor):
        check_choice(anchor, config, has_reward=runtime.has_reward)
    compare = args.compare
    if compare is None:
        compare = earlier.compare if earlier else ()
    find_comparisons(compare)  # rejects unknown names before the folder is created

    warn_of_unused_gpu(args.device)
    warn_of_words(runtime, [config])
    listener = make_listener(args.json)
    usual = Path("outputs", run_name(config))
    plan = planned_run(config, compare, runtime.describe(), anchor)
    is_named = args.out is not None
    with claimed_folder(Path(args.out or usual), plan, is_named, args.overwrite) as path:
        if not is_named and path != usual:
            warn(f"{usual} holds another run: this one goes to {path}")
        listener.finish(run_to_folder(runtime, config, anchor, compare, path, listener.show, args.metadata))


if __name__ == "__main__":
    start()
