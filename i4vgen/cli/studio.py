"""Command-line options of the studio, `python app.py`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import fields, replace

from i4vgen.cli.options import Parser
from i4vgen.models import library
from i4vgen.models.catalog import ENVIRONMENT
from i4vgen.serving.address import origin, port
from i4vgen.serving.limits import PRIVATE, PUBLIC, Limits


def positive(text: str) -> float:
    """Parses a positive number for argparse."""
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError
    return number


def count(text: str) -> int:
    """Parses a positive integer for argparse."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def megabytes(text: str) -> int:
    """Converts a number of megabytes to bytes for argparse."""
    return math.ceil(positive(text) * 2**20)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line. Gradio's environment variables can also set the server's address."""
    parser = Parser(description="Open the I4VGen studio in a browser.")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1; 0.0.0.0 for every network)")
    parser.add_argument("--port", type=port, help="port to listen on (default: the first free one from 7860)")
    parser.add_argument(
        "--model",
        help=f"name, folder or hub id of the model to begin with (default: ${ENVIRONMENT}, else animatediff"
        " with a GPU and pocket without)",
    )
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--compile", action="store_true", help="compile the network while the app starts: quicker runs on a GPU"
    )
    parser.add_argument("--share", action="store_true", help="also open a public link through gradio.live")
    parser.add_argument(
        "--public",
        action=argparse.BooleanOptionalAction,
        help="keep visitors from naming files, folders and hub ids of their own (default: yes, unless --host is"
        " this machine alone and there is no public link)",
    )
    parser.add_argument(
        "--allow-model",
        action="append",
        default=[],
        metavar="NAME",
        help="let visitors use this folder or hub id as a model, base or LoRA; repeatable",
    )
    parser.add_argument(
        "--models-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder with checkpoints/, diffusion_models/, loras/, animatediff_models/ and vae/, as ComfyUI"
        f" has it, whose files the form offers, to visitors too; repeatable (default: ${library.ENVIRONMENT})",
    )
    parser.add_argument(
        "--allow-origin",
        type=origin,
        action="append",
        default=[],
        metavar="URL",
        help="another site whose pages may use the app and show it in a frame, such as https://example.org;"
        " repeatable",
    )
    parser.add_argument(
        "--largest-run",
        type=positive,
        metavar="N",
        help=f"the most work that one run may be, in default runs of its model (default: {PUBLIC.largest_run:g}"
        " for a public app, else no limit)",
    )
    parser.add_argument(
        "--longest-run",
        type=positive,
        metavar="SECONDS",
        help="the most time that a run may take, estimated from earlier runs of its model (default: no limit)",
    )
    parser.add_argument(
        "--waiting-per-visitor",
        type=count,
        metavar="N",
        help="how many runs of one visitor may wait or be under way (default:"
        f" {PUBLIC.waiting_per_visitor} for a public app, else {PRIVATE.waiting_per_visitor})",
    )
    parser.add_argument(
        "--largest-upload",
        type=megabytes,
        metavar="MB",
        help=f"the most that a visitor may upload at once (default: {PUBLIC.largest_upload / 2**20:g})",
    )
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        default=os.environ.get("I4VGEN_AUTH"),
        help="ask visitors to log in (default: $I4VGEN_AUTH, which other users of this machine cannot see)",
    )
    parser.add_argument(
        "--no-metadata",
        dest="metadata",
        action="store_false",
        help="leave out of pictures and videos how they were made (prompt, settings, model, versions)",
    )
    parser.add_argument(
        "--mcp", action="store_true", help="also offer the API as MCP tools, at /gradio_api/mcp/"
    )
    return parser.parse_args(arguments)


def read_login(text: str | None) -> tuple[str, str] | None:
    """Parses USER:PASSWORD; returns None for an empty text.

    Raises:
        SystemExit: The text has another form.
    """
    if not text:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        sys.exit("error: --auth and $I4VGEN_AUTH take USER:PASSWORD")
    return user, password


def is_public(args: argparse.Namespace) -> bool:
    """Returns whether the app is public: as set by --public, else whether other machines can reach it."""
    if args.public is not None:
        return args.public
    host = args.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    return bool(args.share or os.environ.get("SPACE_ID") or host not in ("127.0.0.1", "localhost", "::1"))


def read_limits(args: argparse.Namespace, public: bool) -> Limits:
    """Returns the limits on visitors: the defaults with the overrides from the command line."""
    given = {each.name: getattr(args, each.name, None) for each in fields(Limits)}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(PUBLIC if public else PRIVATE, **given)
