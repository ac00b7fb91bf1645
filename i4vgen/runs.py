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
import re
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save_file

from i4vgen.anchor import Anchor
from i4vgen.bounds import MAX_JSON, MAX_RUN_PIXELS
from i4vgen.catalog import ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.errors import InvalidInputError
from i4vgen.events import VIDEOS, Candidate, Event, Result, Selected, Stage, latest
from i4vgen.generation_config import GenerationConfig
from i4vgen.media import enlargement, is_media, read_comment, write_image, write_video
from i4vgen.recipe import Recipe, comment_of, describe_anchor
from i4vgen.run_file import RunFile
from i4vgen.run_source import FolderSource, NoSource, RunSource, find_source

LATENTS = "candidates.safetensors"

HEADER = 2**18  # bytes: what a file may have beside its pixels or numbers

HINT = "give the run.json of a finished run, its zip file, or a video or picture of it"


class RunFolder:
    """Writes a run to a folder while it goes on.

    Files of an earlier run in the folder are deleted at the start; other files are left alone.
    """

    def __init__(self, path: str | os.PathLike, recipe: Recipe | None = None):
        """Creates the folder.

        Args:
            recipe: What pictures and videos say about themselves, yet without the anchor; None for nothing.

        Raises:
            InvalidInputError: It cannot be created or written to.
        """
        self.path = Path(path)
        self.recipe = recipe
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
        """Records an event. Returns the file written for it, if any."""
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
                self.recipe = self.recipe and replace(self.recipe, anchor=event)
                return self._write_image("anchor.png", event.image)
            case Result():
                self._close_stage(event.seconds)  # without the time that judging took
                path = self.path / f"{event.name}.mp4"
                write_video(path, event.frames, event.fps, comment=comment_of(self.recipe, [event.name]))
                return path
        return None

    def finish(
        self,
        config: GenerationConfig,
        compare: Sequence[str],
        description: Mapping,
        stars: Collection[int] = (),
    ) -> Path:
        """Writes run.json, last and atomically: a folder that has one holds a finished run.

        Args:
            config: Of the run.
            compare: Names from `COMPARISONS`.
            description: Model, device and versions, from `Runtime.describe`.
            stars: Indices of the favourites.

        Returns:
            The path of run.json.
        """
        self._close_stage()
        if self.candidates:
            save_file({_number(c.index): c.latents for c in self.candidates}, self.path / LATENTS)
            self._write_scores(config, stars)
        run = {
            "request": config.to_dict(),
            "compare": list(compare),
            **describe_anchor(self.anchor),
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
        """See `pack_folder`."""
        return pack_folder(self.path, path)

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

    def _close_stage(self, seconds: float | None = None) -> None:
        """Notes how long the stage took: by the clock, where nobody measured it."""
        if self._stage is not None:
            self.seconds[self._stage] = time.perf_counter() - self._since if seconds is None else seconds
            self._stage = None

    def _write_image(self, name: str, image: np.ndarray) -> Path:
        write_image(self.path / name, image, comment_of(self.recipe))
        return self.path / name


def pack_folder(folder: Path, path: str | os.PathLike) -> Path:
    """Packs the folder of a run into a zip file, which `open_run` reads as well."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, file.relative_to(folder))
    return Path(path)


@dataclass(frozen=True)
class SavedRun:
    """A run read from disk. Images and videos are read on demand.

    Attributes:
        file: The contents of run.json.
        config: What was asked for.
        spec: The model that made it.
    """

    file: RunFile
    config: GenerationConfig
    spec: ModelSpec
    _source: RunSource

    @property
    def compare(self) -> tuple[str, ...]:
        """Names from `COMPARISONS`."""
        return tuple(self.file.compare)

    @property
    def is_recipe(self) -> bool:
        """Whether it was read from a single picture or video: nothing but the request is there."""
        return isinstance(self._source, NoSource)

    @property
    def stars(self) -> frozenset[int]:
        """The indices of the favourites."""
        return frozenset(self.file.stars)

    @property
    def anchor_index(self) -> int | None:
        """Index of the anchor; None for an uploaded image or if nothing was selected."""
        return self.file.anchor_index

    @property
    def picked(self) -> bool:
        """Whether a person selected the anchor."""
        return self.file.picked

    def anchor_picture(self) -> np.ndarray | None:
        """The anchor as the model saw it, uint8 [H, W, 3]."""
        return self._picture("anchor.png")

    def chosen(self) -> Anchor | int | None:
        """A person's selection as `I4VGenPipeline.run` takes it; None if the reward model selected."""
        if not self.picked:
            return None
        if self.anchor_index is not None:
            return self.anchor_index
        picture = self.anchor_picture()
        if picture is None:
            raise InvalidInputError(
                "anchor.png is missing: the run was animated from an uploaded image, which --anchor-image gives"
            )
        return Anchor.from_image(Image.fromarray(picture))

    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates of which both image and latents are there, in the order in which they were drawn.

        Raises:
            InvalidInputError: An image or the latents cannot be read.
        """
        try:
            return tuple(self._candidates(self._latents()))
        except (SafetensorError, LookupError) as error:
            raise InvalidInputError(f"the candidates cannot be read ({error}): export the run again") from None

    def _candidates(self, latents: Mapping[str, np.ndarray]) -> Iterator[Candidate]:
        for position, index in enumerate(self.file.candidate_indices):
            image = self._picture(_picture(index)) if _number(index) in latents else None
            if image is not None:
                scores = {name: values[position] for name, values in self.file.scores.items()}
                sketch = index in self.file.sketches
                yield Candidate(index, image, scores, latents[_number(index)], sketch)

    def _latents(self) -> dict[str, np.ndarray]:
        """Of the candidates, float32 [C, 1, h, w]. They hold no more numbers than the pictures."""
        most = self._picture_size * len(self.file.candidate_indices)
        data = self._source.read(LATENTS, most * np.dtype(np.float32).itemsize + HEADER)
        latents = load_tensors(data) if data else {}
        for one in latents.values():
            if one.dtype != np.float32 or one.ndim != 4 or one.shape[1] != 1 or not np.isfinite(one).all():
                raise InvalidInputError(f"{LATENTS} does not hold the latents of images: export the run again")
        return latents

    def _picture(self, name: str) -> np.ndarray | None:
        """An image of the run, uint8 [H, W, 3]. It must have the run's size: small files can be huge images."""
        data = self._source.read(name, 2 * self._picture_size + HEADER)
        if data is None:
            return None
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                if image.size != (self.config.width, self.config.height):
                    raise InvalidInputError("a picture of this run has another size than the run itself")
                return np.array(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InvalidInputError(f"a picture of this run cannot be read ({error})") from None

    @property
    def _picture_size(self) -> int:
        """The numbers in a picture of this run."""
        return 3 * self.config.height * self.config.width

    def videos(self) -> dict[str, bytes]:
        """The contents of the mp4 files, by the name of the video."""
        pixels = self.config.num_frames * enlargement(self.config.height, self.config.width) ** 2
        most = self._picture_size * pixels + HEADER
        found = {name: self._source.read(f"{name}.mp4", most) for name in (*VIDEOS, *COMPARISONS)}
        return {name: data for name, data in found.items() if data is not None}


def open_run(path: str | os.PathLike) -> SavedRun:
    """Opens a run: its folder, its run.json, a zip file of it, or the recipe in one of its pictures and videos.

    Raises:
        InvalidInputError: It is not a run. The message is meant for the person who chose the file.
    """
    path = Path(path)
    try:
        if path.is_file() and is_media(path):
            source, text = NoSource(), read_comment(path, MAX_JSON)
            if not text:
                raise InvalidInputError(f"{path} does not say how it was made: {HINT}")
        else:
            source = find_source(path)
            alone = path.is_file() and isinstance(source, FolderSource)
            text = source.read(path.name if alone else "run.json", MAX_JSON)
    except OSError as error:
        raise InvalidInputError(f"cannot read {path} ({error}): {HINT}") from None
    return _parse(text, source, path)


def read_run(source: RunSource, where: object) -> SavedRun:
    """Opens a run wherever it is.

    Args:
        where: What messages call it.

    Raises:
        InvalidInputError: See `open_run`.
    """
    return _parse(source.read("run.json", MAX_JSON), source, where)


def _parse(text: str | bytes | None, source: RunSource, where: object) -> SavedRun:
    """The run that a run.json is about."""
    if text is None:
        raise InvalidInputError(f"cannot read {where} (no such file, or no run in it): {HINT}")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where} is not valid JSON ({error}): {HINT}") from None
    try:
        file = RunFile.model_validate(values)
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        reason = f" ({place[0]} is not as a run writes it)" if place else ""
        raise InvalidInputError(f"{where} holds no run{reason}: {HINT}") from None
    config = GenerationConfig.from_dict(file.request)
    shown = len(file.candidate_indices) + config.num_frames * (len(VIDEOS) + len(COMPARISONS))
    if shown * config.height * config.width > MAX_RUN_PIXELS:
        raise InvalidInputError(f"{where} is a run of larger videos than can be opened")
    return SavedRun(file, config, file.spec(), source)


def run_name(config: GenerationConfig, most: int = 60) -> str:
    """What the folder of a run is called: a-rocket-rising-7.

    Args:
        most: Characters of the prompt's words.
    """
    words = re.sub(r"[^\w]+", "-", config.prompt.lower()).strip("-")[:most]
    return f"{words or 'run'}-{config.seed}"


def _number(index: int) -> str:
    return f"{index:02d}"


def _picture(index: int) -> str:
    return f"candidates/{_number(index)}.png"
