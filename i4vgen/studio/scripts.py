"""The page's JavaScript. Its files are beside the modules that use them; events call functions by name."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent

FILES = ("context.js", "remembering.js", "panels/history.js", "panels/prompt.js")
"""The script files. Each adds functions to the object `studio`."""


def head() -> str:
    """Returns the script for the page's head, which defines all functions before any event fires."""
    source = "\n".join((HERE / file).read_text(encoding="utf-8") for file in FILES)
    return f"<script>\n(() => {{\nconst studio = (window.studio = {{}});\n{source}}})();\n</script>"


def call(name: str, *first: object) -> str:
    """Returns JavaScript that calls a function with these arguments, followed by the event's inputs."""
    given = "".join(f"{json.dumps(each)}, " for each in first)
    return f"(...values) => studio.{name}({given}...values)"
