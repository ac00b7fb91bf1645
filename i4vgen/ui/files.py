"""Files that a browser may fetch: made in Gradio's cache, where they are cleaned up with its own."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from gradio.utils import get_upload_folder

from i4vgen.generation_config import GenerationConfig


def fresh(name: str) -> Path:
    """A new path that ends in `name`."""
    folder = Path(get_upload_folder(), secrets.token_hex(8))
    folder.mkdir(parents=True)
    return folder / name


def name_of(config: GenerationConfig, kind: str, suffix: str) -> str:
    """What a download is called: i4vgen-a-rocket-rising-7-candidates.zip."""
    words = re.sub(r"[^\w]+", "-", config.prompt.lower()).strip("-")[:40]
    return f"i4vgen-{words}-{config.seed}-{kind}.{suffix}"
