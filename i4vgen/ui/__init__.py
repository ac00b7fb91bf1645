"""The Gradio app: one file per panel. Nothing below this package knows Gradio."""

from i4vgen.ui.app import build_app, launch_options

__all__ = ["build_app", "launch_options"]
