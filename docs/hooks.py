"""Hooks of `make docs`: adds pages outside docs/ to the site, and turns links to source files into plain text.

The repository's web page shows the same Markdown unchanged, so links in it follow the repository's layout.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
JOINING = ("CONTRIBUTING.md", "SECURITY.md")
"""Pages at the top of the repository that are part of the site."""

NOTEBOOK = "notebooks/i4vgen.ipynb"
"""Offered for download."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name in JOINING:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=rewrite(text, ROOT / name)))
    files.append(File.generated(config, NOTEBOOK, abs_src_path=str(ROOT / NOTEBOOK)))
    for picture in (ROOT / "assets" / "screenshots").glob("*.webp"):
        files.append(File.generated(config, f"screenshots/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    if page.file.generated_by:
        return markdown
    return rewrite(markdown, Path(config.docs_dir, page.file.src_uri))


def rewrite(markdown: str, source: Path) -> str:
    """Adapts the links of a Markdown file to the layout of the site."""

    def adapt(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in path:
            return match[0]
        inside = os.path.relpath((source.parent / path).resolve(), ROOT)
        if inside in (*JOINING, NOTEBOOK):
            return f"{mark}[{text}]({inside}{hash_}{anchor})"
        if inside.startswith("docs/"):
            return f"{mark}[{text}]({inside.removeprefix('docs/')}{hash_}{anchor})"
        if inside.startswith("assets/screenshots/"):
            return f"{mark}[{text}]({inside.removeprefix('assets/')})"
        return text

    return LINK.sub(adapt, markdown)
