"""Claims folders for runs, so that a run does not overwrite other files or mix with them unless asked to."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, count
from pathlib import Path

from filelock import FileLock, Timeout
from PIL import Image
from pydantic import ValidationError

from i4vgen.bounds import MAX_JSON
from i4vgen.config import GenerationConfig
from i4vgen.errors import I4VGenError, InvalidInputError, StorageError, reason_of, unwritable
from i4vgen.events import HIGHEST_REWARD, PICKED, UPLOADED, VIDEOS
from i4vgen.media import enlargement, fit_picture, pixels_sha256
from i4vgen.method.anchor import Anchor
from i4vgen.storage.run_file import RunFile

LOCK = ".lock"
"""The file that a process locks while it writes a run to the folder."""

PLAN = ".unfinished.json"
"""The file that describes an unfinished run (`planned_run`), deleted once the run is finished."""

IGNORED = {LOCK, ".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files that a free folder may contain: the lock and files of file managers."""

FILE_SUFFIXES = {
    *(".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif", ".png", ".jpg", ".jpeg", ".webp"),
    *(".zip", ".json", ".jsonl", ".csv", ".html"),
}
"""File suffixes. Naming a new folder with one of them is probably a mistake."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota, and a file size limit."""

SLACK = 2**20
"""The assumed size of a run without its pictures, latents and videos, in bytes."""


def planned_run(
    config: GenerationConfig, compare: Sequence[str], description: Mapping, anchor: Anchor | int | None
) -> RunFile:
    """Returns the part of run.json that is known before the run.

    Args:
        config: The run's configuration.
        compare: Names from `COMPARISONS`.
        description: The output of `Runtime.describe`.
        anchor: The `anchor` argument of `I4VGenPipeline.run`.
    """
    if isinstance(anchor, Anchor):
        image = anchor.image if isinstance(anchor.image, Image.Image) else Image.fromarray(anchor.image)
        digest = pixels_sha256(fit_picture(image, config.height, config.width))
        chosen = {"anchor_reason": UPLOADED, "anchor_sha256": digest}
    else:
        chosen = {"anchor_reason": HIGHEST_REWARD if anchor is None else PICKED, "anchor_index": anchor}
    values = {"request": config.to_dict(), "compare": list(compare), **description, **chosen}
    return RunFile.model_validate_json(json.dumps(values))


@contextmanager
def claimed_folder(path: Path, plan: RunFile, is_named: bool, overwrite: bool = False) -> Iterator[Path]:
    """Locks a folder for a run against other processes.

    A folder is free if no other run is being written to it, and if it is missing, empty, or holds a finished or
    unfinished run that the new one would recreate (`RunFile.covers`).

    Args:
        path: The folder.
        plan: The run, from `planned_run`.
        is_named: Whether the user named this folder. Otherwise, if it is not free, the first free folder with a
            number after its name is used.
        overwrite: Whether a named folder may hold other files.

    Yields:
        The claimed folder.

    Raises:
        InvalidInputError: The folder cannot be read or written to, or the named folder is not free, is a file,
            or is named like one.
    """
    with ExitStack() as stack:
        if is_named:
            check_folder_name(path)
            try:
                stack.enter_context(_claim(path, plan, overwrite))
            except _NotFreeError as error:
                raise InvalidInputError(f"{path} {error}") from None
        else:
            path = _enter_first_free(stack, path, plan)
        yield path


def _enter_first_free(stack: ExitStack, path: Path, plan: RunFile) -> Path:
    """Claims and returns the folder, or the first free one with a number after its name."""
    for candidate in chain([path], (path.with_name(f"{path.name}-{number}") for number in count(2))):
        with suppress(_NotFreeError):
            stack.enter_context(_claim(candidate, plan, overwrite=False))
            return candidate
    raise AssertionError("the numbers do not end")


def check_folder_name(path: Path) -> None:
    """Raises `InvalidInputError` for a path that is a file, or for a new one that is named like a file."""
    if path.exists() and not path.is_dir():
        raise InvalidInputError(f"cannot write to {path}: it is a file. Give a folder")
    if path.suffix.lower() in FILE_SUFFIXES and not path.exists():
        raise InvalidInputError(
            f"{path} is named like a file, but a run is a folder of files: give a name such as {path.stem}"
        )


def check_room(path: Path, needed: int) -> None:
    """Checks the free space of a folder's disk.

    Args:
        path: The folder, which need not exist yet.
        needed: The required bytes (`room_for`).

    Raises:
        StorageError: The disk has less free space.
    """
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if (free := shutil.disk_usage(there).free) < needed:
        reason = f"about {_megabytes(needed)} are needed, {_megabytes(free)} are free"
        raise StorageError(
            f"not enough room for {path}: {reason}. Make room, or choose another disk with --out", reason
        )


def room_for(config: GenerationConfig, compare: Sequence[str]) -> int:
    """Estimates the maximum size of a run's files, in bytes.

    Pictures count at their uncompressed size, and videos at a quarter of it, the compressed size of pure noise.
    """
    pixels = config.height * config.width
    pictures = 4 * pixels * (config.num_candidates + 1)  # with the latents
    enlarged = pixels * enlargement(config.height, config.width) ** 2
    count = len(VIDEOS) + len(compare) + (config.animate_best if config.animate_best > 1 else 0)
    videos = 3 * enlarged * config.num_frames * count // 4
    return pictures + videos + SLACK


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Converts an `OSError` raised while writing to a folder to a `StorageError`."""
    try:
        yield
    except OSError as error:
        advice = "make room on the disk" if error.errno in FULL else "see whether the disk can be written to"
        reason = reason_of(error)
        raise StorageError(
            f"cannot write to {path} ({reason}): {advice}. What was finished before stays there", reason
        ) from error


class _NotFreeError(Exception):
    """A folder cannot be claimed. The message is a predicate whose subject is the folder."""


@contextmanager
def _claim(path: Path, plan: RunFile, overwrite: bool) -> Iterator[None]:
    """Creates a folder if necessary, locks it for one run and writes `PLAN` to it.

    Raises:
        _NotFreeError: The folder holds other files, is locked, or is a file.
        InvalidInputError: The folder cannot be read or written to.
    """
    if not overwrite:
        _check_free(path, plan)  # before writing to the folder
    lock = FileLock(path / LOCK, blocking=False)
    try:
        is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise _NotFreeError("is being written to by another run: wait for it, or give another folder") from None
    except FileExistsError:
        raise _NotFreeError("is a file: give a folder") from None
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        if not overwrite:
            _check_free(path, plan)  # again: another process may have been faster
        with _written_plan(path, plan):
            yield
    finally:
        with suppress(OSError):
            (path / LOCK).unlink()  # while locked, so that a process that has opened it finds it deleted
        lock.release()
        if is_new:
            with suppress(OSError):
                path.rmdir()  # if empty


@contextmanager
def _written_plan(path: Path, plan: RunFile) -> Iterator[None]:
    """Writes `PLAN` to a folder, and deletes it at the end if the run is finished or has added no files.

    If the run has added no files, an earlier `PLAN` is restored instead.

    Raises:
        InvalidInputError: The folder cannot be read or written to.
    """
    file = path / PLAN
    try:
        names_before = _names(path)
        text_before = file.read_text(encoding="utf-8") if file.exists() else None
        file.write_text(plan.model_dump_json(exclude_unset=True), encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from None
    is_finished = False
    try:
        yield
        is_finished = (path / "run.json").exists()
    finally:
        with suppress(OSError):
            is_untouched = _names(path) - {PLAN} == names_before - {PLAN}
            if is_finished or (is_untouched and text_before is None):
                file.unlink(missing_ok=True)
            elif is_untouched and text_before is not None:
                file.write_text(text_before, encoding="utf-8")


def _names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def _check_free(path: Path, plan: RunFile) -> None:
    """Checks that the run would not overwrite other files or mix with them.

    Raises:
        _NotFreeError: The folder holds other files.
        InvalidInputError: The folder cannot be read.
    """
    try:
        names = _names(path) - IGNORED
    except (FileNotFoundError, NotADirectoryError):
        return  # the caller creates it or reports the error
    except OSError as error:
        raise unwritable(path, error) from None
    for name, state in (("run.json", "a finished run"), (PLAN, "an unfinished run")):
        if name in names and (run := _read(path / name)):
            if plan.covers(run):
                return
            raise _NotFreeError(f"holds {state} of another request: give another folder, or add --overwrite")
    if names:
        raise _NotFreeError("holds other files: give another folder, or add --overwrite")


def _read(path: Path) -> RunFile | None:
    """Reads run.json or a plan; returns None if it is unreadable or invalid."""
    try:
        with path.open("rb") as file:
            run = RunFile.model_validate_json(file.read(MAX_JSON))
        run.spec()
    except (OSError, ValidationError, I4VGenError):
        return None
    return run


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
