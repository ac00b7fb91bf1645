"""The files of an own component: template.html, style.css and, if it reacts to anything, script.js."""

from __future__ import annotations

from pathlib import Path


def template(module: str) -> dict:
    """What `gr.HTML` is to be given for the component whose files lie beside this module (`__file__`)."""
    folder = Path(module).parent
    script = folder / "script.js"
    return {
        "html_template": (folder / "template.html").read_text(encoding="utf-8"),
        "css_template": (folder / "style.css").read_text(encoding="utf-8"),
        "js_on_load": script.read_text(encoding="utf-8") if script.is_file() else None,
        "apply_default_css": False,
    }
