"""Configured folders of models, in the layout of ComfyUI's `models/`.

A file in one of them can be named without its folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from i4vgen.errors import InvalidInputError
from i4vgen.weights.names import SUFFIXES, split_weight

ENVIRONMENT = "I4VGEN_MODELS_DIR"
"""The environment variable that lists the folders, separated as in PATH."""

MODEL, MOTION_MODULE, LORA, VAE = KINDS = ("model", "motion_module", "lora", "vae")

FOLDERS = {
    MODEL: ("checkpoints", "diffusion_models", "unet"),
    MOTION_MODULE: ("animatediff_models",),
    LORA: ("loras", "animatediff_motion_lora"),
    VAE: ("vae",),
}
"""The subfolders of each kind of file."""

MAX_NAMES = 2000
"""The maximum number of names listed per kind."""


def set_folders(folders: list[str]) -> None:
    """Sets the folders of this process and its children.

    Raises:
        InvalidInputError: A folder does not exist.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise InvalidInputError(
                f"--models-dir {folder!r} is no folder: give one with checkpoints/ and loras/"
            )
    os.environ[ENVIRONMENT] = os.pathsep.join(str(Path(folder).resolve()) for folder in folders)


def folders() -> list[Path]:
    """Returns the configured folders in order."""
    return [Path(folder) for folder in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if folder]


def places(kind: str) -> Iterator[Path]:
    """Yields the existing subfolders for a kind of file."""
    for folder in folders():
        for name in FOLDERS[kind]:
            if (folder / name).is_dir():
                yield folder / name


def names(kind: str) -> list[str]:
    """Lists at most `MAX_NAMES` names of the files of a kind, with "/" between subfolders."""
    files = {
        file.relative_to(place).as_posix(): None
        for place in places(kind)
        for file in sorted(place.rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file()
    }
    return list(files)[:MAX_NAMES]


def locate(name: str, kind: str) -> str:
    """Returns the path of a file that is named without its folder, and any other name unchanged."""
    relative = PurePosixPath(name.replace("\\", "/"))
    is_path = not name or "\0" in name or relative.is_absolute() or ".." in relative.parts or ":" in name
    if is_path or Path(name).exists():
        return name
    for place in places(kind):
        if relative.suffix.lower() in SUFFIXES and (place / relative).is_file():
            return str(place / relative)
    return name


def has(name: str, kind: str) -> bool:
    """Returns whether `locate` finds a file by this name in one of the folders."""
    return locate(name, kind) != name


def locate_lora(name: str) -> str:
    """Locates a LoRA by name and keeps the weight after an @, if any."""
    if (path := locate(name, LORA)) != name:
        return path
    place, weight = split_weight(name)
    return locate(place, LORA) + weight
