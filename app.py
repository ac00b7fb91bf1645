"""The demo: `python app.py`. Hugging Face Spaces and `gradio app.py` find `demo` in this file."""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
import tempfile
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before Gradio is imported: nobody is counted
if HAS_OWN_CACHE := "GRADIO_TEMP_DIR" not in os.environ:  # not that of all Gradio apps: it is kept clean
    os.environ["GRADIO_TEMP_DIR"] = str(Path(tempfile.gettempdir(), "i4vgen-studio"))
if os.environ.get("SPACE_ID"):  # behind the proxies of Hugging Face, which say whose requests they pass on
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16")
if ON_ZERO_GPU := bool(os.environ.get("SPACES_ZERO_GPU")):  # set by Hugging Face
    import i4vgen.zero_gpu  # noqa: F401  before all that uses torch

from i4vgen.imports import uncollected

with uncollected():
    from i4vgen.catalog import ENVIRONMENT
    from i4vgen.errors import InvalidInputError, ModelError
    from i4vgen.runtime import Runtime, get_runtime
    from i4vgen.ui import build_app, files, launch_options
    from i4vgen.ui.limits import PRIVATE, PUBLIC, Limits
    from i4vgen.ui.run_store import RunStore


def positive(text: str) -> float:
    """A number above 0."""
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError
    return number


def count(text: str) -> int:
    """A whole number above 0."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def megabytes(text: str) -> int:
    """So many megabytes, in bytes."""
    return math.ceil(positive(text) * 2**20)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Where the server listens can also come from Gradio's own environment variables."""
    parser = argparse.ArgumentParser(description="Open the I4VGen studio in a browser.")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1; 0.0.0.0 for every network)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860)")
    parser.add_argument(
        "--model",
        help=f"name, folder or hub id of the model to begin with (default: ${ENVIRONMENT}, else animatediff"
        " with a GPU and pocket without)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile the network while the app starts: quicker runs on a GPU"
    )
    parser.add_argument("--share", action="store_true", help="also open a public link through gradio.live")
    parser.add_argument(
        "--public",
        action=argparse.BooleanOptionalAction,
        help="let visitors name no files, folders and hub ids of their own (default: yes, unless --host is this"
        " machine alone and there is no public link)",
    )
    parser.add_argument(
        "--allow-model",
        action="append",
        default=[],
        metavar="NAME",
        help="a folder or hub id that visitors may name all the same, as a model, base or LoRA; repeatable",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="another site whose pages may use the app, such as https://example.org; repeatable",
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
        help="the most time that one run may take, as far as earlier ones of its model tell (default: any)",
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
    """A name and a password. Raises `SystemExit` for a text that is not USER:PASSWORD."""
    if not text:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        sys.exit("error: --auth and $I4VGEN_AUTH take USER:PASSWORD")
    return user, password


def is_public(args: argparse.Namespace) -> bool:
    """Whether others than the owner of this machine can reach the app."""
    if args.public is not None:
        return args.public
    host = args.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    return bool(args.share or os.environ.get("SPACE_ID") or host not in ("127.0.0.1", "localhost", "::1"))


def read_limits(args: argparse.Namespace, public: bool) -> Limits:
    """What visitors may ask for: the usual, but for what the command line says."""
    given = {each.name: getattr(args, each.name, None) for each in fields(Limits)}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(PUBLIC if public else PRIVATE, **given)


def keep_clean(cache: Path, run_store: RunStore) -> None:
    """Sweeps the files of all pages, now and again and again."""
    while True:
        files.sweep(cache, spare=run_store.root)
        time.sleep(files.CLEAN_EVERY)


def first_runtime(model: str | None, compiled: bool) -> Runtime:
    """The model that the app begins with: the one asked for, or, where the default is not to be had, pocket."""
    # ZeroGPU cannot compile.
    runtime = Runtime(model, compiled=True) if compiled and not ON_ZERO_GPU else get_runtime(model)
    try:
        runtime.defaults  # noqa: B018  looks up the model's configuration
    except ModelError as error:
        if model or os.environ.get(ENVIRONMENT):
            raise
        print(f"{error}\nThe app begins with the pocket model.", file=sys.stderr)
        return get_runtime("pocket")
    return runtime


args = parse_arguments(sys.argv[1:] if __name__ == "__main__" else [])
try:
    runtime = first_runtime(args.model, args.compile)
    if ON_ZERO_GPU:
        runtime.load_here()  # `spaces` keeps the weights ready that are there when the app is launched
    public = is_public(args)
    limits = read_limits(args, public)
    run_store = RunStore()
    allowed = args.allow_model if public else None
    demo = build_app(runtime, run_store=run_store, allowed=allowed, limits=limits, metadata=args.metadata)
except (ModelError, InvalidInputError) as error:
    sys.exit(f"error: {error}")

if __name__ == "__main__":
    gc.freeze()  # the page stays as well
    if HAS_OWN_CACHE:
        cache = Path(os.environ["GRADIO_TEMP_DIR"])
        threading.Thread(target=keep_clean, args=(cache, run_store), daemon=True).start()
    if runtime.compiled:
        threading.Thread(target=runtime.warm_up, daemon=True).start()  # nobody waits for it, unless they must
    # No server-side rendering: it would need Node, and the page is quick without it.
    demo.launch(
        server_name=args.host,
        server_port=args.port,
        share=args.share or None,
        mcp_server=args.mcp or None,
        auth=read_login(args.auth),
        ssr_mode=False,
        **launch_options(args.allow_origin, private=not public, largest_upload=limits.largest_upload),
    )
