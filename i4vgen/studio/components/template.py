"""The base class of the app's own components."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gradio as gr


class FileComponent(gr.HTML):
    """A component drawn by the files beside its module: template.html, style.css and an optional script.js.

    Attributes:
        value_info: The description of the value for clients.
    """

    value_info = ""

    def __init__(self, value: Any = None, **kwargs: Any) -> None:
        folder = Path(inspect.getfile(type(self))).parent
        script = folder / "script.js"
        super().__init__(
            value=value,
            html_template=(folder / "template.html").read_text(encoding="utf-8"),
            css_template=(folder / "style.css").read_text(encoding="utf-8"),
            js_on_load=script.read_text(encoding="utf-8") if script.is_file() else None,
            apply_default_css=False,
            **kwargs,
        )

    def api_info(self) -> dict:
        """Describes the value for clients."""
        return {"type": "object", "description": self.value_info}
