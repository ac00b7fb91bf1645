"""The command line: `python -m i4vgen "a rocket rising in a starry night" --seed 7 --out DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from i4vgen.errors import InvalidInputError, ModelError, OutOfMemoryError, StorageError
from i4vgen.generation_config import GenerationConfig, parameters
from i4vgen.imports import uncollected
from i4vgen.options import Parser, add_run_options, chosen_model, given_settings

DESCRIPTION = """\
Makes a video from a prompt with I4VGen: candidate images, the best of them as the anchor, NI-VSDS to
set it in motion, and a regeneration. Leaves run.json, candidates/, anchor.png, ni_vsds.mp4 and
i4vgen.mp4 in one folder. `i4vgen batch FILE` does so for many prompts.
"""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="i4vgen", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("prompt", nargs="?", help=parameters()["prompt"].help)
    add("--out", metavar="DIR", help="Where the files go (default outputs/PROMPT-SEED).")
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
    return args


def main(argv: list[str] | None = None) -> int:
    """Runs the command line. Returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv[:1] == ["batch"]:
            from i4vgen.batch.command import run_batch

            return run_batch(argv[1:])
        run(parse(argv))
    except (InvalidInputError, ModelError, StorageError) as error:
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
    with uncollected():
        from i4vgen.listeners import make_listener, warn_of_words
        from i4vgen.making import make_run
        from i4vgen.media import fit_picture, open_picture, pixels_sha256
        from i4vgen.pipeline import Anchor
        from i4vgen.runs import open_run, run_name
        from i4vgen.runtime import Runtime

    earlier = open_run(args.source) if args.source else None
    runtime = Runtime(chosen_model(args, earlier and earlier.spec), args.device, args.compile)
    settings = (earlier.config.to_dict() if earlier else {}) | given_settings(args)
    config = GenerationConfig.for_model(runtime.defaults, **settings)

    anchor: Anchor | int | None = args.anchor
    if args.anchor_image:
        picture = open_picture(args.anchor_image)
        anchor = Anchor.from_image(picture)
        known = earlier and earlier.file.anchor_sha256
        if known and known != pixels_sha256(fit_picture(picture, config.height, config.width)):
            print("i4vgen: this is not the picture that the run was animated from", file=sys.stderr)
    elif anchor is None and earlier:
        anchor = earlier.chosen()
    compare = args.compare
    if compare is None:
        compare = earlier.compare if earlier else ()

    warn_of_words(runtime, [config.prompt])
    listener = make_listener(args.json)
    path = Path(args.out or Path("outputs", run_name(config)))
    listener.finish(make_run(runtime, config, anchor, compare, path, listener.show, args.metadata))


if __name__ == "__main__":
    sys.exit(main())
