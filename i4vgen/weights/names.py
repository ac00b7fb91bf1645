"""Names of models and their files. Importing this module does not import torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from i4vgen.bounds import short_name
from i4vgen.errors import ModelError, reason_of

SAFETENSORS = ".safetensors"
SUFFIXES = (SAFETENSORS, ".ckpt", ".pt", ".pth", ".bin")
"""The suffixes of weights files."""

MODEL_ID = re.compile(r"(\w[\w.-]*/[\w.-]+)(?:@([\w.-]+))?")
"""OWNER/NAME, or OWNER/NAME@REVISION for a branch, a tag or a commit."""

HUB_FILE = re.compile(rf"({MODEL_ID.pattern})/(?P<file>.+(?:{'|'.join(map(re.escape, SUFFIXES))}))")
"""OWNER/NAME/FILE or OWNER/NAME@REVISION/FILE: one file of a repository on the hub."""


def is_hub_file(model: str) -> bool:
    """Returns whether the name is that of a file on the hub. Paths into existing folders are local files."""
    return HUB_FILE.fullmatch(model) is not None and not Path(model).parent.is_dir()


def is_single_file(model: str) -> bool:
    """Returns whether a path has the suffix of a weights file and is not a folder. The file need not exist."""
    return Path(model).suffix.lower() in SUFFIXES and not Path(model).is_dir()


def check_access(name: str) -> None:
    """Checks that a path can be looked up, if it exists. A hub id is a path that does not exist.

    Raises:
        ModelError: The path is too long, or the user may not enter one of its folders.
    """
    try:
        os.stat(f"{name}/.")  # looks into a folder, not only at it
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    except OSError as error:
        raise unreadable(name, error) from None


def unreadable(path: str | Path, error: OSError) -> ModelError:
    """Returns the error for a path that cannot be read."""
    return ModelError(f"cannot read {short_name(path)} ({reason_of(error)}): check its path and permissions")


def split_weight(lora: str) -> tuple[str, str]:
    """Splits a LoRA's name into its path or hub id and its weight.

    An @ is part of the path or hub id if it is not followed by a number, such as that of a revision, or if
    `lora` is an existing path.

    Returns:
        The path or hub id, and the weight with its @, such as "@0.8", or an empty string without a weight.
    """
    place, at, weight = lora.rpartition("@")
    if not place or Path(lora).exists():
        return lora, ""
    try:
        float(weight)
    except ValueError:
        return lora, ""
    return place, at + weight
