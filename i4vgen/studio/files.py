"""Files for browsers in Gradio's cache, and the removal of old ones.

Gradio's `delete_cache` removes the files of its components after a day and when the app ends, but not the
copies that it made for a page's session. `sweep` removes every old file in a folder that only this app uses.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from i4vgen.config import GenerationConfig
from i4vgen.events import Result
from i4vgen.media import write_image, write_video
from i4vgen.storage.recipe import Recipe, comment_of
from i4vgen.storage.runs import run_name
from i4vgen.studio.state import Clip

CLEAN_EVERY = 3600
MAX_AGE = 24 * 3600
MAX_BYTES = 8 * 2**30
"""Clean-up of all pages' files: interval and maximum age in seconds, and maximum size in bytes."""

NEW = 60
"""Seconds for which an empty folder is kept, because a file may be about to be written to it."""


def cache() -> Path:
    """Returns the folder whose files Gradio serves."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio")).resolve()


def new_path(name: str) -> Path:
    """Returns a path for a file with this name, in a new folder of the cache."""
    folder = cache() / secrets.token_hex(8)
    folder.mkdir(parents=True)
    return folder / name


def copy_to_cache(path: Path) -> str:
    """Copies a file to the cache and returns the path of the copy."""
    return str(shutil.copyfile(path, new_path(path.name)))


def sweep(folder: Path, spare: Path, age: float = MAX_AGE, most: int = MAX_BYTES) -> None:
    """Deletes old files and empty folders.

    Args:
        folder: A folder that contains only files of this app.
        spare: A folder to leave alone, because it has limits of its own.
        age: Age in seconds at which a file is deleted.
        most: Total size in bytes above which the oldest files are deleted earlier.
    """
    files = []
    for path in folder.rglob("*"):
        if spare in (path, *path.parents):
            continue
        with suppress(FileNotFoundError):  # deleted meanwhile
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
        with suppress(OSError):  # a file, a folder with files, or deleted meanwhile
            if spare not in (path, *path.parents) and time.time() - path.stat().st_mtime > NEW:
                path.rmdir()


def download_name(config: GenerationConfig, kind: str, suffix: str) -> str:
    """Returns the name of a download, such as i4vgen-a-rocket-rising-7-candidates.zip."""
    return f"i4vgen-{run_name(config, 40)}-{kind}.{suffix}"


def save_picture(image: np.ndarray, recipe: Recipe | None) -> str:
    """Writes a candidate's picture, uint8 [H, W, 3], and returns its path."""
    path = new_path("image.png")
    write_image(path, image, comment_of(recipe))
    return str(path)


def save_anchor(image: np.ndarray, recipe: Recipe | None) -> Clip:
    """Writes the anchor, uint8 [H, W, 3], and returns it as a still pane of the player."""
    path = new_path("anchor.png")
    write_image(path, image, comment_of(recipe))
    return Clip("anchor", str(path), 1, 1, 0.0, image[None])


def save_clip(result: Result, recipe: Recipe | None) -> Clip:
    """Writes a finished video and returns it as a clip."""
    path = new_path(f"{result.name}.mp4")
    write_video(path, result.frames, result.fps, comment=comment_of(recipe, [result.name]))
    return Clip(
        result.name,
        str(path),
        len(result.frames),
        result.fps,
        result.seconds,
        result.frames,
        result.scores,
        worst=result.worst,
        steadiness=result.steadiness,
    )
