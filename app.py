"""Entry point of the studio, `python app.py`, also on Hugging Face Spaces. `gradio app.py` uses `demo`."""

from __future__ import annotations

import argparse
import gc
import math
import os
import signal
import sys
import threading
import time
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from i4vgen.storage.private import app_folder, make_private

if __name__ == "__main__":  # treat SIGTERM like Ctrl-C: PID 1 in a container ignores it
    signal.signal(signal.SIGTERM, signal.default_int_handler)

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # no telemetry; must precede the import of Gradio
os.environ.setdefault(
    "GRADIO_ANALYTICS_MAX_EVENTS", "1"
)  # Gradio recomputes statistics over these events after each one
os.environ["GRADIO_TEMP_DIR"] = str(app_folder())  # private to this app, which cleans it up
if os.environ.get("SPACE_ID"):  # behind Hugging Face's proxies, which forward client addresses
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16")
if ON_ZERO_GPU := bool(os.environ.get("SPACES_ZERO_GPU")):  # set by Hugging Face
    from i4vgen.serving.zero_gpu import ZeroGPURuntime  # must precede the import of torch

from i4vgen.errors import I4VGenError, InvalidInputError, ModelError
from i4vgen.serving.address import bypass_proxies, check_address, check_environment, origin, port
from i4vgen.serving.imports import gc_paused

try:
    check_environment()  # must precede the import of Gradio, which reads the environment
    bypass_proxies()
except InvalidInputError as error:
    sys.exit(f"error: {error}")

with gc_paused():
    from i4vgen.cli.options import Parser
    from i4vgen.models import library
    from i4vgen.models.catalog import ENVIRONMENT, default_model
    from i4vgen.models.loading import unused_gpu
    from i4vgen.serving.leaving import leave
    from i4vgen.serving.limits import PRIVATE, PUBLIC, Limits
    from i4vgen.serving.middleware import OpenStreams
    from i4vgen.serving.runtime import Runtime, Runtimes
    from i4vgen.storage.run_store import RunStore
    from i4vgen.studio import files
    from i4vgen.studio.app import build_app, launch_options


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


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
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


def keep_clean(cache: Path, run_store: RunStore) -> None:
    """Removes old files of all pages immediately and then at regular intervals. Does not return."""
    while True:
        files.sweep(cache, spare=run_store.root)
        time.sleep(files.CLEAN_EVERY)


def first_runtime(runtimes: Runtimes, model: str | None, device: str | None, compiled: bool) -> Runtime:
    """Returns the runtime of the initial model: the chosen or default one, or pocket if the default is missing.

    Raises:
        InvalidInputError: The device is not available, or the name of the model is invalid.
        ModelError: The model chosen by `model` or `ENVIRONMENT` cannot be found or is unsupported.
    """
    chosen = model or default_model(device)
    compiled = compiled and not ON_ZERO_GPU  # ZeroGPU does not support torch.compile
    runtime = Runtime(chosen, device, compiled=True) if compiled else runtimes.get(chosen)
    try:
        runtime.defaults  # noqa: B018  looks up the model's configuration
    except ModelError as error:
        if model or os.environ.get(ENVIRONMENT):
            raise
        print(f"{error}\nThe app begins with the pocket model.", file=sys.stderr)
        return runtimes.get("pocket")
    return runtime


cache = Path(os.environ["GRADIO_TEMP_DIR"])
args = parse_arguments(sys.argv[1:] if __name__ == "__main__" else [])
try:
    if args.models_dir:
        library.set_folders(args.models_dir)
    if __name__ == "__main__":
        check_address(args.host, args.port)
        bypass_proxies(args.host)
    make_private(cache)
    runtimes = Runtimes(partial(ZeroGPURuntime if ON_ZERO_GPU else Runtime, device=args.device))
    runtime = first_runtime(runtimes, args.model, args.device, args.compile)
    if args.device is None and (warning := unused_gpu()):
        print(warning, file=sys.stderr)
    if ON_ZERO_GPU:
        runtime.load_here()  # `spaces` captures only weights loaded before launch
    public = is_public(args)
    limits = read_limits(args, public)
    run_store, streams = RunStore(), OpenStreams()
    allowed = args.allow_model if public else None
    demo = build_app(
        runtime,
        runtimes=runtimes,
        run_store=run_store,
        allowed=allowed,
        limits=limits,
        metadata=args.metadata,
        streams=streams,
    )
except I4VGenError as error:
    sys.exit(f"error: {error}")
except KeyboardInterrupt:
    sys.exit("stopped")

if __name__ == "__main__":
    gc.freeze()  # the page is a permanent object too
    threading.Thread(target=keep_clean, args=(cache, run_store), daemon=True).start()
    if runtime.compiled:
        threading.Thread(target=runtime.warm_up, daemon=True).start()  # in the background
    # No server-side rendering: it requires Node, and the page is fast without it.
    try:
        demo.launch(
            server_name=args.host,
            server_port=args.port,
            share=args.share or None,
            mcp_server=args.mcp or None,
            auth=read_login(args.auth),
            ssr_mode=False,
            **launch_options(
                args.allow_origin,
                private=not public,
                largest_upload=limits.largest_upload,
                streams=streams,
                run_store=run_store,
            ),
        )
    except OSError as error:  # all ports that Gradio tries are in use
        sys.exit(f"error: {str(error).partition('.')[0]}: give a free one as --port")
    leave(0)
