"""Names local models in run files by file name and digest, without folders.

Run files are opened on other machines too. Local files are found again by digest: in the folders of the
`library`, in the current folder, and among the files that this process has used.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from i4vgen.models import library
from i4vgen.models.catalog import MODELS, REPLACEMENTS, ModelSpec, split_pair
from i4vgen.weights.names import SUFFIXES, split_weight

END = 2**20
"""Number of bytes at each end of a file that the digest of a folder includes."""

Files = Mapping[str, "FileId"]
"""The ids of local models, by their names in the `ModelSpec`."""


@dataclass(frozen=True)
class FileId:
    """Identifies a file or a folder.

    Attributes:
        sha256: The SHA-256 of a file's contents, as on Civitai. For a folder, that of the name, the size, and
            the first and last `END` bytes of each file that is not hidden.
        size: Size in bytes.
    """

    sha256: str
    size: int


def to_portable(spec: ModelSpec) -> tuple[ModelSpec, dict[str, FileId]]:
    """Replaces the paths in a choice with names, and returns it with the ids of its local files."""
    pair = split_pair(library.locate(spec.model, library.MODEL))
    if pair is not None and any(Path(model).exists() for model in pair):
        spec = replace(spec, model=pair[0], motion_module=spec.motion_module or pair[1])
    ids: dict[str, FileId] = {}
    paths: dict[str, Path] = {}

    def name_of(_field: str, given: str, kind: str) -> str:
        place, weight = _split_weight(given, kind)
        path = Path(library.locate(place, kind))
        if not place or place in MODELS or not path.exists():
            return given
        name, count = path.resolve().name, 1
        while paths.setdefault(name, path) != path:
            count += 1
            name = f"{path.stem}-{count}{path.suffix}"
        ids[name] = identify(path, place)
        return name + weight

    return _map_names(spec, name_of), ids


def from_portable(spec: ModelSpec, files: Files) -> tuple[ModelSpec, dict[str, list[str]]]:
    """Finds the files of a portable choice on this machine.

    Returns:
        The choice with local paths, in which missing files keep their names, and the missing names by field.
    """
    missing: dict[str, list[str]] = {}

    def place_of(field: str, given: str, kind: str) -> str:
        name, weight = (given, "") if given in files else split_weight(given)
        if name not in files:
            return given
        place = _find(name, files[name], kind)
        if place is None:
            missing.setdefault(field, []).append(name)
            return given
        return place + weight

    return _map_names(spec, place_of), missing


def _map_names(spec: ModelSpec, change: Callable[[str, str, str], str]) -> ModelSpec:
    """Applies a function to every name in a choice.

    Args:
        spec: The choice.
        change: Takes the field, the name and the kind of file, and returns the new name.
    """
    return replace(
        spec,
        model=change("model", spec.model, library.MODEL),
        **{name: change(name, given, REPLACEMENTS[name].kind) for name, given in spec.replacements.items()},
        loras=tuple(change("loras", lora, library.LORA) for lora in spec.loras),
    )


_known: dict[tuple[Path, int, int], FileId] = {}
_used: dict[str, str] = {}  # the names that were chosen in this process, by digest
_lock = threading.Lock()


def identify(path: Path, given: str | None = None) -> FileId:
    """Returns the id of a file or a folder.

    Args:
        path: The file or folder.
        given: The name that the user gave, remembered for `from_portable`.
    """
    status = path.stat()
    key = (path.resolve(), status.st_mtime_ns, status.st_size)
    with _lock:
        file_id = _known.get(key) if path.is_file() else None
    if file_id is None:
        file_id = _identify_file(path) if path.is_file() else _identify_folder(path)
    with _lock:
        _known[key] = file_id
        if given is not None:
            _used[file_id.sha256] = given
    return file_id


def _identify_file(path: Path) -> FileId:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(8 * END):
            digest.update(block)
            size += len(block)
    return FileId(digest.hexdigest(), size)


def files_in(folder: Path) -> Iterator[Path]:
    """Yields the files of a folder and its subfolders in order, without hidden ones."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file


def _identify_folder(path: Path) -> FileId:
    digest, total = hashlib.sha256(), 0
    for file in files_in(path):
        size = file.stat().st_size
        with file.open("rb") as opened:
            ends = opened.read(END)
            if size > 2 * END:
                opened.seek(-END, 2)
            ends += opened.read(END)
        total += size
        digest.update(f"{file.relative_to(path).as_posix()} {size} ".encode() + hashlib.sha256(ends).digest())
    return FileId(digest.hexdigest(), total)


def _find(name: str, wanted: FileId, kind: str) -> str | None:
    """Returns the local name of the file with an id; None if it is missing."""
    with _lock:
        used = _used.get(wanted.sha256)
    if used is not None and Path(library.locate(used, kind)).exists():
        return used
    for given, path in _candidates(name, kind):
        try:
            same_size = path.is_dir() or path.stat().st_size == wanted.size
            if same_size and identify(path) == wanted:
                return given
        except OSError:
            continue
    return None


def _candidates(name: str, kind: str) -> Iterator[tuple[str, Path]]:
    """Yields the names and paths of files that may match: the library's, then the current folder's.

    In each of the two, the files with the same name come first.
    """
    listed = library.names(kind)
    for given in sorted(listed, key=lambda given: Path(given).name != name):
        yield given, Path(library.locate(given, kind))
    here = sorted(Path().iterdir(), key=lambda path: path.name != name)
    for path in here:
        if path.name == name or path.suffix.lower() in SUFFIXES:
            yield str(path.resolve()), path


def _split_weight(given: str, kind: str) -> tuple[str, str]:
    """Splits a LoRA's name into its path or hub id and its weight with the @; other kinds have no weight."""
    return (given, "") if kind != library.LORA or library.has(given, kind) else split_weight(given)
