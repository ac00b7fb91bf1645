"""A run on disk: written while it goes, packed into one file, read back.

run.json                 the request, the model, the anchor, scores, seconds, versions
scores.csv               one line per candidate
candidates/00.png ...    the candidates, by their index
candidates.safetensors   their latents, from which they are animated
anchor.png               the anchor as the model saw it
ni_vsds.mp4 ...          one video per result
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save_file

from i4vgen.anchor import Anchor
from i4vgen.catalog import ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.errors import InvalidInputError
from i4vgen.events import (
    HIGHEST_REWARD,
    REASONS,
    UPLOADED,
    VIDEOS,
    Candidate,
    Event,
    Result,
    Selected,
    Stage,
    latest,
)
from i4vgen.generation_config import MAX_CANDIDATES, GenerationConfig
from i4vgen.media import write_image, write_video

LATENTS = "candidates.safetensors"

LARGEST = 256 * 2**20
"""Bytes that one file of a packed run may have once unpacked: more than any video here, less than a memory."""


def _number_like(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str)


def _list(of: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(of, value))


def _table(of: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(of, value.values()))


def _measures(value: Any) -> bool:
    figures, scores = ("flicker", "motion", "consistency"), _table(_number_like)
    return (
        _table(
            lambda one: (
                isinstance(one, dict)
                and one.keys() == {*figures, "rewards"}
                and all(_number_like(one[name]) for name in figures)
                and scores(one["rewards"])
            )
        )(value)
        and len({tuple(one["rewards"]) for one in value.values()}) <= 1
    )


# What run.json may hold. It may come from anybody: what is in it goes on to a page and into paths.
SHAPES: dict[str, Callable[[object], bool]] = {
    "request": lambda value: isinstance(value, dict),
    "compare": _list(lambda value: _text(value) and value in COMPARISONS),
    "model": _text,
    "base": _text,
    "loras": _list(_text),
    "rewards": _list(_text),
    "stars": _list(_whole),
    "candidate_indices": _list(_whole),
    "sketches": _list(_whole),
    "scores": _table(_list(_number_like)),
    "seconds": _table(_number_like),
    "measures": _measures,
    "anchor_index": lambda value: value is None or _whole(value),
    "anchor_reason": lambda value: value is None or value in REASONS,
}
NEEDED = ("request", "compare", "model")


class RunFolder:
    """What a run leaves behind.

    Opening a folder removes these files of an earlier run in it, and nothing else.
    """

    def __init__(self, path: str | os.PathLike):
        """Raises `InvalidInputError` if the folder cannot be made."""
        self.path = Path(path)
        self.candidates: list[Candidate] = []
        self.anchor: Selected | None = None
        self.seconds: dict[str, float] = {}
        self._stage: str | None = None
        self._since = 0.0
        try:
            (self.path / "candidates").mkdir(parents=True, exist_ok=True)
            earlier = [self.path / name for name in ("run.json", "scores.csv", LATENTS, "anchor.png")]
            earlier += [self.path / f"{name}.mp4" for name in (*VIDEOS, *COMPARISONS)]
            earlier += (self.path / "candidates").glob("[0-9][0-9].png")
            for file in earlier:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise InvalidInputError(
                f"cannot write to {path} ({error.strerror}): choose another folder"
            ) from None

    def record(self, event: Event) -> Path | None:
        """Takes note of an event; the file that was written for it, if any."""
        match event:
            case Stage():
                self._close_stage()
                self._stage, self._since = event.name, time.perf_counter()
            case Candidate():
                self.candidates = latest([*self.candidates, event])
                return self._write_image(_picture(event.index), event.image)
            case Selected():
                self._close_stage()
                self.anchor = event
                return self._write_image("anchor.png", event.image)
            case Result():
                self._close_stage()
                path = self.path / f"{event.name}.mp4"
                write_video(path, event.frames, event.fps)
                return path
        return None

    def finish(
        self,
        config: GenerationConfig,
        compare: Sequence[str],
        description: Mapping,
        stars: Collection[int] = (),
    ) -> Path:
        """Writes run.json, which `open_run` reads. It comes last and in one piece: a folder that has one holds
        a finished run.

        description: the model and where it ran, `Runtime.describe()`. stars: the indices of the favourites.
        """
        self._close_stage()
        if self.candidates:
            save_file({_number(c.index): c.latents for c in self.candidates}, self.path / LATENTS)
            self._write_scores(config, stars)
        run = {
            "request": config.to_dict(),
            "compare": list(compare),
            "anchor_index": self.anchor and self.anchor.index,
            "anchor_reason": self.anchor and self.anchor.reason,
            "candidate_indices": [candidate.index for candidate in self.candidates],
            "candidate_scores": [candidate.score for candidate in self.candidates],
            "sketches": [candidate.index for candidate in self.candidates if candidate.sketch],
            "scores": self._scores_by_reward(),
            "stars": sorted(stars),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            **description,
        }
        path = self.path / "run.json"
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return draft.replace(path)

    def pack(self, path: str | os.PathLike) -> Path:
        """The whole folder as one zip file, which `open_run` reads too."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(self.path.rglob("*")):
                if file.is_file():
                    packed.write(file, file.relative_to(self.path))
        return Path(path)

    def _scores_by_reward(self) -> dict[str, list[float]]:
        names = self.candidates[0].scores if self.candidates else ()
        return {name: [candidate.scores[name] for candidate in self.candidates] for name in names}

    def _write_scores(self, config: GenerationConfig, stars: Collection[int]) -> None:
        rewards = list(self._scores_by_reward())
        ranked = sorted(self.candidates, key=lambda c: c.rank_key)
        ranks = {candidate.index: rank for rank, candidate in enumerate(ranked, 1)}
        with (self.path / "scores.csv").open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["file", "seed", "index", "rank", "starred", *rewards])
            for candidate in self.candidates:
                rank, starred = ranks[candidate.index], int(candidate.index in stars)
                scores = [f"{candidate.scores[name]:.6g}" for name in rewards]
                lines.writerow(
                    [_picture(candidate.index), config.seed, candidate.index, rank, starred, *scores]
                )

    def _close_stage(self) -> None:
        if self._stage is not None:
            self.seconds[self._stage] = time.perf_counter() - self._since
            self._stage = None

    def _write_image(self, name: str, image: np.ndarray) -> Path:
        write_image(self.path / name, image)
        return self.path / name


@dataclass(frozen=True)
class SavedRun:
    """A run read back. Its pictures and videos are read when they are asked for.

    values: what run.json holds.
    """

    values: Mapping
    config: GenerationConfig
    spec: ModelSpec
    compare: tuple[str, ...]
    stars: frozenset[int]
    _files: _Files

    @property
    def anchor_index(self) -> int | None:
        """Which candidate is the anchor; None for an uploaded image, and before anything is chosen."""
        return self.values.get("anchor_index")

    @property
    def picked(self) -> bool:
        """Whether a person chose the anchor."""
        return self.values.get("anchor_reason") not in (HIGHEST_REWARD, None)

    def anchor_picture(self) -> np.ndarray | None:
        """The anchor as the model saw it, uint8 [H, W, 3]."""
        data = self._files.read("anchor.png")
        return None if data is None else self._pixels(data)

    def chosen(self) -> Anchor | int | None:
        """The person's choice as `I4VGenPipeline.run` takes it; None if it was the reward's."""
        if not self.picked:
            return None
        if self.anchor_index is not None:
            return self.anchor_index
        picture = self.anchor_picture()
        if picture is None:
            raise InvalidInputError("anchor.png is missing: the run was animated from an uploaded image")
        return Anchor.from_image(Image.fromarray(picture))

    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates that are there in full, in the order in which they were drawn.

        Raises `InvalidInputError` for pictures or latents that cannot be read.
        """
        try:
            data = self._files.read(LATENTS)
            latents = load_tensors(data) if data else {}
            return tuple(self._candidates(latents))
        except (SafetensorError, LookupError) as error:
            raise InvalidInputError(f"the candidates cannot be read ({error}): export the run again") from None

    def _candidates(self, latents: Mapping[str, np.ndarray]) -> Iterator[Candidate]:
        for position, index in enumerate(self.values.get("candidate_indices", ())[:MAX_CANDIDATES]):
            picture = self._files.read(_picture(index))
            if picture is not None and _number(index) in latents:
                scores = {name: values[position] for name, values in self.values.get("scores", {}).items()}
                sketch = index in self.values.get("sketches", ())
                yield Candidate(index, self._pixels(picture), scores, latents[_number(index)], sketch)

    def _pixels(self, data: bytes) -> np.ndarray:
        """A picture of this run, which must have its size: a small file can be a huge picture."""
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.size != (self.config.width, self.config.height):
                    raise InvalidInputError("a picture of this run has another size than the run itself")
                return np.array(image.convert("RGB"))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise InvalidInputError(f"a picture of this run cannot be read ({error})") from None

    def videos(self) -> dict[str, bytes]:
        """The finished videos, mp4, by name."""
        found = {name: self._files.read(f"{name}.mp4") for name in (*VIDEOS, *COMPARISONS)}
        return {name: data for name, data in found.items() if data is not None}


def open_run(path: str | os.PathLike) -> SavedRun:
    """A run from its folder, its run.json, or the zip file that it was packed into.

    Raises `InvalidInputError`, in words for whoever chose the file, if there is no run in it.
    """
    path = Path(path)
    hint = "give the run.json of a finished run, or a run that was packed into a zip file"
    try:
        files = _Zip(path) if zipfile.is_zipfile(path) else _Folder(path if path.is_dir() else path.parent)
        text = files.read(path.name if path.is_file() and isinstance(files, _Folder) else "run.json")
    except OSError as error:
        raise InvalidInputError(f"cannot read {path} ({error}): {hint}") from None
    if text is None:
        raise InvalidInputError(f"cannot read {path} (no such file, or no run in it): {hint}")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not valid JSON ({error}): {hint}") from None
    if not isinstance(values, dict) or any(name not in values for name in NEEDED):
        raise InvalidInputError(f"{path} holds no run: {hint}")
    if values.get("anchor_reason") == "own picture":  # as version 0.1 wrote it
        values["anchor_reason"] = UPLOADED
    if wrong := [name for name, fits in SHAPES.items() if name in values and not fits(values[name])]:
        raise InvalidInputError(f"{path} holds no run ({wrong[0]} is not as a run writes it): {hint}")
    return SavedRun(
        values,
        GenerationConfig.from_dict(values["request"]),
        ModelSpec.from_dict(values),
        tuple(values["compare"]),
        frozenset(values.get("stars", ())),
        files,
    )


class _Folder:
    """Files of a folder, by name."""

    def __init__(self, path: Path):
        self.path = path

    def read(self, name: str) -> bytes | None:
        file = self.path / name
        return file.read_bytes() if file.is_file() else None


class _Zip:
    """Files of a zip file, by name. Nothing is ever unpacked to the disk."""

    def __init__(self, path: Path):
        self.path = path

    def read(self, name: str) -> bytes | None:
        try:
            with zipfile.ZipFile(self.path) as packed:
                if name not in packed.namelist():
                    return None
                if packed.getinfo(name).file_size > LARGEST:
                    raise InvalidInputError(f"{name} in {self.path.name} is too large to be part of a run")
                return packed.read(name)
        # Damaged, encrypted, or packed in a way that Python cannot undo.
        except (zipfile.BadZipFile, RuntimeError, zlib.error, EOFError) as error:
            raise InvalidInputError(f"{name} in {self.path.name} cannot be unpacked ({error})") from None


_Files = _Folder | _Zip


def _number(index: int) -> str:
    return f"{index:02d}"


def _picture(index: int) -> str:
    return f"candidates/{_number(index)}.png"
