"""Entry point of the studio, `python app.py`, also on Hugging Face Spaces. `gradio app.py` uses `demo`."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
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

from i4vgen.cli import studio as command_line
from i4vgen.errors import I4VGenError, InvalidInputError, ModelError
from i4vgen.models import library
from i4vgen.models.catalog import ENVIRONMENT, default_model
from i4vgen.serving.address import bypass_proxies, check_address, check_environment
from i4vgen.serving.imports import gc_paused
from i4vgen.serving.leaving import leave

args = command_line.parse(sys.argv[1:] if __name__ == "__main__" else [])
try:
    check_environment()  # must precede the import of Gradio, which reads the environment
    bypass_proxies(args.host)
    if args.models_dir:
        library.set_folders(args.models_dir)
    if __name__ == "__main__":
        login = command_line.read_login(args.auth)
        check_address(args.host, args.port)
except InvalidInputError as error:
    sys.exit(f"error: {error}")

with gc_paused():  # slow imports, after what needs none: --help and errors appear at once
    from i4vgen.models.loading import unused_gpu
    from i4vgen.serving.middleware import OpenStreams
    from i4vgen.serving.runtime import Runtime, Runtimes
    from i4vgen.storage.run_store import RunStore
    from i4vgen.studio import files
    from i4vgen.studio.app import build_app, launch_options


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
try:
    make_private(cache)
    runtimes = Runtimes(partial(ZeroGPURuntime if ON_ZERO_GPU else Runtime, device=args.device))
    runtime = first_runtime(runtimes, args.model, args.device, args.compile)
    if args.device is None and (warning := unused_gpu()):
        print(warning, file=sys.stderr)
    if ON_ZERO_GPU:
        runtime.load_here()  # `spaces` captures only weights loaded before launch
    public = command_line.is_public(args)
    limits = command_line.read_limits(args, public)
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
            auth=login,
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
