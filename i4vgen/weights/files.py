"""Reads weights files and explains why other files are unusable.

Files are recognised by their contents. Code in a file is never executed. Weights stay memory-mapped until they
are converted, except in torch's old format, which is not a zip file.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from i4vgen.bounds import short_name
from i4vgen.errors import ModelError
from i4vgen.weights.names import SAFETENSORS, unreadable

MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors library

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)

_SCALES = (".scale_weight", ".weight_scale")
_MARKERS = ("scaled_fp8", ".scale_input", ".input_scale", ".comfy_quant")

_FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights it points to", "download it again"),
    (b"GGUF", "a GGUF file, which is not supported", "use the .safetensors file of the same model"),
    (b"\x89PNG", "a picture (PNG)", "download the model file again"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "download the model file again"),
    (b"%PDF", "a PDF", "download the model file again"),
    (b"Rar!", "a RAR archive", "unpack it, or download it again"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it, or download it again"),
    (b"\x1f\x8b", "a gzip archive", "unpack it, or download it again"),
)


class Ignored:
    """Stands in for an unused object in a checkpoint; accepts any arguments and state."""

    def __init__(self, *_: Any, **__: Any): ...

    def __setstate__(self, _: Any) -> None: ...


# The published checkpoints of Stable Diffusion 1 contain training state that refers to this class.
_IGNORED_CLASSES: list[Any] = [(Ignored, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")]


@dataclass(frozen=True)
class Header:
    """The header of a weights file.

    Attributes:
        shapes: The tensors' shapes by name.
        metadata: The author's metadata; empty for torch checkpoints.
    """

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(file: Path) -> Header:
    """Reads the header of a weights file. The tensors of a safetensors file are not loaded.

    Raises:
        ModelError: The file is missing, unreadable, damaged or incomplete, contains no table of tensors, or
            contains program objects.
    """
    try:
        about = file.stat()
    except OSError as error:
        raise unreadable(file, error) from None
    return _read_header(file, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=64)
def _read_header(file: Path, _modified: int, _size: int) -> Header:
    if not is_safetensors(file):
        return Header({name: tuple(weight.shape) for name, weight in read(file).items()})
    header = _read_safetensors_header(file)
    metadata = header.pop("__metadata__", None) or {}
    return Header({name: tuple(entry["shape"]) for name, entry in header.items()}, metadata)


def read(file: Path) -> dict[str, Tensor]:
    """Reads the tensors of a weights file on the CPU, with the names and precision of the file.

    Everything else in a torch checkpoint, such as training state, is left out.

    Raises:
        ModelError: The file cannot be read, is damaged or incomplete, contains no table of tensors, or contains
            objects that only unrestricted unpickling could load.
    """
    if is_safetensors(file):
        _read_safetensors_header(file)  # gives better messages than the library
        try:
            return load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(file) from error
    content = load_pickled(file)
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise ModelError(f"{short_name(file)} holds no table of tensors: use a file of weights")
    return {
        name: weight for name, weight in content.items() if isinstance(name, str) and isinstance(weight, Tensor)
    }


def load_pickled(file: Path) -> Any:
    """Reads a torch checkpoint of tensors and plain data.

    Raises:
        ModelError: The file is unreadable, damaged, not a torch checkpoint, named .safetensors, or contains
            other objects.
    """
    if (what := describe_foreign(file)) is not None:
        raise ModelError(f"{short_name(file)} is {what}")
    if file.suffix.lower() == SAFETENSORS:
        raise ModelError(
            f"{short_name(file)} is a torch checkpoint that was renamed: give it the ending .ckpt, or download"
            " the .safetensors file again"
        )
    try:
        # Only torch's zip format can be memory-mapped.
        with torch.serialization.safe_globals(_IGNORED_CLASSES):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error) and "GLOBAL" not in str(error):
            raise _damaged(file) from error
        raise ModelError(
            f"{short_name(file)} holds program objects besides its weights, which are never loaded: use the"
            " .safetensors file of the same model"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise _damaged(file) from error


def read_bytes(file: Path, length: int = -1) -> bytes:
    """Reads the first `length` bytes of a file; -1 reads all.

    Raises:
        ModelError: The file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(length)
    except OSError as error:
        raise unreadable(file, error) from None


def is_safetensors(file: Path) -> bool:
    """Returns whether a file starts like a safetensors file.

    Raises:
        ModelError: The file cannot be read.
    """
    start = read_bytes(file, 9)
    return start[8:] == b"{" and 0 < int.from_bytes(start[:8], "little") <= MAX_HEADER


def describe_foreign(file: Path) -> str | None:
    """Describes a file without usable weights, with a remedy; None if the file may contain usable weights.

    Raises:
        ModelError: The file cannot be read.
    """
    start = read_bytes(file, 512)
    for signature, what, remedy in _FOREIGN:
        if start.startswith(signature):
            return f"{what}: {remedy}"
    if not start:
        return "empty: download it again"
    if not start.strip(b"\0"):
        return "only zeros where it begins, as a download that broke off leaves it: download it again"
    if start.startswith(b"PK\3\4"):
        return _describe_zip(file)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        return "a web page (HTML), not weights: download it again, logged in if the site asks for it"
    if text.startswith((b"{", b"[")):
        return "text (JSON), such as a site's answer, not weights: download it again"
    if _is_text(start):
        return "a text file, not weights: download it again"
    return None


def dequantize(weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Converts 8-bit floats to `dtype` and applies the scales that ComfyUI and others store next to them."""
    plain = {}
    for name, weight in weights.items():
        if name.endswith((*_SCALES, *_MARKERS)):
            continue
        if weight.dtype in FLOAT8:
            stem = name.removesuffix(".weight")
            scale = next((weights[stem + end] for end in _SCALES if stem + end in weights), None)
            weight = weight.float() if scale is None else weight.float() * scale.float()
            weight = weight.to(dtype)
        plain[name] = weight
    return plain


def _read_safetensors_header(file: Path) -> dict[str, Any]:
    """Reads the header of a safetensors file.

    Raises:
        ModelError: The file cannot be read, its header is damaged, or it is shorter than its header requires.
    """
    size = file.stat().st_size
    length = int.from_bytes(read_bytes(file, 8), "little")
    text = read_bytes(file, 8 + length)[8:]
    if len(text) < length:
        raise _truncated(file, size, 8 + length)
    try:
        header = json.loads(text)
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        full_size = 8 + length + max((entry["data_offsets"][1] for entry in entries), default=0)
        has_shapes = all(isinstance(entry["shape"], list) for entry in entries)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(file) from error
    if not has_shapes:
        raise _damaged(file)
    if size < full_size:
        raise _truncated(file, size, full_size)
    return header


def _describe_zip(file: Path) -> str | None:
    """Implements `describe_foreign` for zip files, including torch checkpoints."""
    try:
        with zipfile.ZipFile(file) as packed:
            names = packed.namelist()
    except (zipfile.BadZipFile, OSError):
        return "incomplete, its end is missing: download it again"
    if any(name.endswith("data.pkl") for name in names):
        return None
    return "a zip archive: unpack it and use the file of weights in it"


def _is_text(start: bytes) -> bool:
    try:
        start[:500].decode("ascii")
    except UnicodeDecodeError:
        return False
    return not any(byte < 32 and byte not in b"\t\r\n\f" for byte in start)


def _truncated(file: Path, size: int, full_size: int) -> ModelError:
    share = min(99, 100 * size // full_size)
    return ModelError(
        f"{short_name(file)} is incomplete, {share}% of it are there ({size:,} of {full_size:,} bytes):"
        " download it again"
    )


def _damaged(file: Path) -> ModelError:
    return ModelError(f"{short_name(file)} is damaged, or no file of weights: download it again")
