"""The demo: `python app.py`. Hugging Face Spaces and `gradio app.py` find `demo` in this file."""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before Gradio is imported: nobody is counted

from i4vgen.errors import ModelError, RequestError
from i4vgen.runtime import get_runtime
from i4vgen.ui import build_app, launch_options


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Where the server listens can also come from Gradio's own environment variables."""
    parser = argparse.ArgumentParser(description="Open the I4VGen studio in a browser.")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1; 0.0.0.0 for every network)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860)")
    parser.add_argument(
        "--model",
        default=os.environ.get("I4VGEN_MODEL"),
        help="name, folder or hub id of the model (default: $I4VGEN_MODEL, else the embedded pocket model)",
    )
    parser.add_argument("--share", action="store_true", help="also open a public link through gradio.live")
    return parser.parse_args(arguments)


args = parse_arguments(sys.argv[1:] if __name__ == "__main__" else [])
try:
    demo = build_app(get_runtime(args.model))
except (ModelError, RequestError) as error:
    sys.exit(f"error: {error}")

if __name__ == "__main__":
    # No server-side rendering: it would need Node, and the page is quick without it.
    demo.launch(
        server_name=args.host,
        server_port=args.port,
        share=args.share or None,
        ssr_mode=False,
        **launch_options(),
    )
