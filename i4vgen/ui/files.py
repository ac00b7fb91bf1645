"""Files that a browser may fetch: made in Gradio's cache, where they are cleaned up with its own.

Two clean there, by the same clock. Gradio (`delete_cache`) knows the files that its components made, and
deletes them all when the app ends; it does not know what it copied for the session of a page. `sweep` takes
whatever is old, in a folder that is this app's alone.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from gradio.utils import get_upload_folder

from i4vgen.events import Result
from i4vgen.generation_config import GenerationConfig
from i4vgen.media import write_image, write_video
from i4vgen.recipe import Recipe, comment_of
from i4vgen.runs import run_name
from i4vgen.ui.state import Clip

CLEAN_EVERY = 3600
MAX_AGE = 24 * 3600
MAX_BYTES = 8 * 2**30
"""Of the files of all pages: seconds, seconds, and bytes."""

NEW = 60
"""Seconds for which a folder may be empty: somebody is about to write into it."""


def fresh(name: str) -> Path:
    """A new path that ends in `name`."""
    folder = Path(get_upload_folder(), secrets.token_hex(8))
    folder.mkdir(parents=True)
    return folder / name


def sweep(folder: Path, spare: Path, age: float = MAX_AGE, most: int = MAX_BYTES) -> None:
    """Deletes files that nobody can want any more, and the folders that they leave empty.

    Args:
        folder: Holds nothing but the files of this app.
        spare: What is in this folder stays: somebody else limits it.
        age: Seconds after which a file goes.
        most: Bytes of all files together, above which the oldest go earlier.
    """
    files = []
    for path in folder.rglob("*"):
        if spare in (path, *path.parents):
            continue
        with suppress(FileNotFoundError):  # it may go while it is looked at
            about = path.lstat()
            if not path.is_dir():
                files.append((max(about.st_mtime, about.st_ctime), about.st_size, path))
    left = sum(size for _, size, _ in files)
    for made_at, size, path in sorted(files):
        if time.time() - made_at < age and left <= most:
            break
        path.unlink(missing_ok=True)
        left -= size
    for path in sorted(folder.rglob("*"), reverse=True):
        with suppress(OSError):  # it is a file or not empty, or somebody else was faster
            if spare not in (path, *path.parents) and time.time() - path.stat().st_mtime > NEW:
                path.rmdir()


def name_of(config: GenerationConfig, kind: str, suffix: str) -> str:
    """What a download is called: i4vgen-a-rocket-rising-7-candidates.zip."""
    return f"i4vgen-{run_name(config, 40)}-{kind}.{suffix}"


def save_picture(image: np.ndarray, recipe: Recipe | None) -> str:
    """Writes the picture of a candidate, uint8 [H, W, 3]. Returns its path."""
    path = fresh("image.png")
    write_image(path, image, comment_of(recipe))
    return str(path)


def save_anchor(image: np.ndarray, recipe: Recipe | None) -> Clip:
    """Writes the anchor, uint8 [H, W, 3], as a still pane of the player."""
    path = fresh("anchor.png")
    write_image(path, image, comment_of(recipe))
    return Clip("anchor", str(path), 1, 1, 0.0, image[None])


def save_clip(result: Result, recipe: Recipe | None) -> Clip:
    """Writes a finished video."""
    path = fresh(f"{result.name}.mp4")
    write_video(path, result.frames, result.fps, comment=comment_of(recipe, [result.name]))
    frames = result.frames
    return Clip(result.name, str(path), len(frames), result.fps, result.seconds, frames, result.scores)
