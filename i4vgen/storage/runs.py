"""Writes a run to disk while it runs, packs it into one file, and reads it back.

run.json                 the request, the model, the anchor, scores, seconds, versions
scores.csv               one line per candidate
candidates/00.png ...    the candidates, by index
candidates.safetensors   their latents
anchor.png               the anchor as the model saw it
ni_vsds.mp4 ...          one video per result
trials/00.mp4 ...        with `animate_best` above 1, the video of each animated candidate
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
import unicodedata
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from i4vgen.bounds import MAX_JSON, MAX_RUN_PIXELS
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError, unwritable
from i4vgen.events import PICKED, VIDEOS, Candidate, Event, Result, Selected, Stage, Trial, latest, ranked
from i4vgen.media import UNREADABLE, enlargement, is_media, read_comment, whole_file, write_image, write_video
from i4vgen.method.anchor import Anchor
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.models.catalog import ModelSpec
from i4vgen.models.portable import from_portable
from i4vgen.storage.recipe import Recipe, comment_of, describe_anchor
from i4vgen.storage.run_file import RunFile
from i4vgen.storage.run_place import writing_to
from i4vgen.storage.run_source import FolderSource, NoSource, RunSource, find_source

LATENTS = "candidates.safetensors"

HEADER = 2**18  # bytes that a file may have in addition to its pixels or numbers

NAME_BYTES = 180
"""Maximum bytes of the words in a folder's name. File systems limit the whole name to 255."""

HINT = "give the run.json of a finished run, its zip file, or a video or picture of it"


class RunFolder:
    """Writes a run to a folder while it runs.

    Creates the folder and deletes the files of an earlier run in it.

    Args:
        path: The folder.
        recipe: The recipe to embed in pictures and videos, without the anchor; None embeds nothing.

    Raises:
        InvalidInputError: The folder cannot be created or written to.
    """

    def __init__(self, path: str | os.PathLike, recipe: Recipe | None = None):
        self.path = Path(path)
        self.recipe = recipe
        self.candidates: list[Candidate] = []
        self.trials: list[Trial] = []
        self.anchor: Selected | None = None
        self.seconds: dict[str, float] = {}
        self._stage: str | None = None
        self._since = 0.0
        try:
            (self.path / "candidates").mkdir(parents=True, exist_ok=True)
            earlier = [self.path / name for name in ("run.json", "scores.csv", LATENTS, "anchor.png")]
            earlier += [self.path / f"{name}.mp4" for name in (*VIDEOS, *COMPARISONS)]
            earlier += (self.path / "candidates").glob("[0-9][0-9].png")
            earlier += (self.path / "trials").glob("[0-9][0-9].mp4")
            for file in earlier:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from None

    def record(self, event: Event) -> Path | None:
        """Records an event and returns the file written for it, if any.

        Raises:
            StorageError: The file cannot be written. Files written before are intact.
            InvalidInputError: A video cannot be written completely.
        """
        with writing_to(self.path):
            match event:
                case Stage():
                    self._close_stage()
                    self._stage, self._since = event.name, time.perf_counter()
                case Candidate():
                    self.candidates = latest([*self.candidates, event])
                    return self._write_image(_picture(event.index), event.image)
                case Trial():
                    self.trials.append(event)
                    (self.path / "trials").mkdir(exist_ok=True)
                    return self._write_video(_trial(event.index), event, "i4vgen", self._recipe_of(event))
                case Selected():
                    self._close_stage()
                    self.anchor = event
                    self.recipe = self.recipe and replace(self.recipe, anchor=event)
                    return self._write_image("anchor.png", event.image)
                case Result():
                    self._close_stage(event.seconds)  # excludes the time of scoring
                    return self._write_video(f"{event.name}.mp4", event, event.name, self.recipe)
        return None

    def finish(
        self,
        config: GenerationConfig,
        compare: Sequence[str],
        description: Mapping,
        stars: Collection[int] = (),
    ) -> Path:
        """Writes the candidates' latents and scores and then run.json, which marks the run as finished.

        Each file is written atomically.

        Args:
            config: The run's configuration.
            compare: Names from `COMPARISONS`.
            description: The output of `Runtime.describe`, with the measures if there are any.
            stars: The indices of the favourites.

        Returns:
            The path of run.json.

        Raises:
            StorageError: A file cannot be written.
        """
        self._close_stage()
        run = {
            "request": config.to_dict(),
            "compare": list(compare),
            **describe_anchor(self.anchor),
            "candidate_indices": [candidate.index for candidate in self.candidates],
            "candidate_scores": [candidate.score for candidate in self.candidates],
            **({"trials": {_number(trial.index): trial.score for trial in self.trials}} if self.trials else {}),
            "sketches": [candidate.index for candidate in self.candidates if candidate.sketch],
            "scores": self._scores_by_reward(),
            "stars": sorted(stars),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            **description,
        }
        path = self.path / "run.json"
        with writing_to(self.path):
            if self.candidates:
                latents = {_number(candidate.index): candidate.latents for candidate in self.candidates}
                with whole_file(self.path / LATENTS) as draft:  # save_file would deny other users access
                    draft.write_bytes(save_tensors(latents))
                self._write_scores(config, stars)
            with whole_file(path) as draft:
                draft.write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    def pack(self, path: str | os.PathLike) -> Path:
        """Packs the folder into a zip file (`pack_folder`)."""
        return pack_folder(self.path, path)

    def _recipe_of(self, trial: Trial) -> Recipe | None:
        """Returns the recipe of a run that animates only the trial's candidate; None without a recipe."""
        image = next(each.image for each in self.candidates if each.index == trial.index)
        return self.recipe and replace(
            self.recipe,
            config=replace(self.recipe.config, animate_best=1),
            anchor=Selected(trial.index, image, PICKED),
        )

    def _scores_by_reward(self) -> dict[str, list[float]]:
        names = self.candidates[0].scores if self.candidates else ()
        return {name: [candidate.scores[name] for candidate in self.candidates] for name in names}

    def _write_scores(self, config: GenerationConfig, stars: Collection[int]) -> None:
        rewards = list(self._scores_by_reward())
        ranks = {candidate.index: rank for rank, candidate in enumerate(ranked(self.candidates), 1)}
        with (
            whole_file(self.path / "scores.csv") as draft,
            draft.open("w", encoding="utf-8", newline="") as file,
        ):
            lines = csv.writer(file)
            lines.writerow(["file", "seed", "index", "rank", "starred", *rewards])
            for candidate in self.candidates:
                rank, starred = ranks[candidate.index], int(candidate.index in stars)
                scores = [f"{candidate.scores[name]:.6g}" for name in rewards]
                lines.writerow(
                    [_picture(candidate.index), config.seed, candidate.index, rank, starred, *scores]
                )

    def _close_stage(self, seconds: float | None = None) -> None:
        """Records the duration of the current stage, if any; by the clock if `seconds` is None."""
        if self._stage is not None:
            self.seconds[self._stage] = time.perf_counter() - self._since if seconds is None else seconds
            self._stage = None

    def _write_image(self, name: str, image: np.ndarray) -> Path:
        write_image(self.path / name, image, comment_of(self.recipe))
        return self.path / name

    def _write_video(self, file: str, video: Result | Trial, name: str, recipe: Recipe | None) -> Path:
        path = self.path / file
        write_video(path, video.frames, video.fps, comment=comment_of(recipe, [name]))
        return path


def pack_folder(folder: Path, path: str | os.PathLike) -> Path:
    """Packs the folder of a run into a zip file for `open_run`."""
    # Zip files cannot store times before 1980, which some machines' clocks start with.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, file.relative_to(folder))
    return Path(path)


@dataclass(frozen=True)
class SavedRun:
    """A run on disk, whose images and videos are read on demand.

    Attributes:
        file: The contents of run.json or of the recipe.
        config: The run's configuration.
    """

    file: RunFile
    config: GenerationConfig
    _source: RunSource

    @property
    def spec(self) -> ModelSpec:
        """The model, with the paths of its local files, or the names of missing ones."""
        return self._located[0]

    @property
    def missing_files(self) -> dict[str, list[str]]:
        """The names of the model's missing files, by the fields of `spec`."""
        return self._located[1]

    @cached_property
    def _located(self) -> tuple[ModelSpec, dict[str, list[str]]]:
        return from_portable(self.file.spec(), self.file.model_files)

    @property
    def compare(self) -> tuple[str, ...]:
        """The names of the run's comparisons."""
        return tuple(self.file.compare)

    @property
    def is_recipe(self) -> bool:
        """Whether the run was opened from the recipe in a single picture or video."""
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
        """Whether the user selected the anchor."""
        return self.file.picked

    def anchor_picture(self) -> np.ndarray | None:
        """Reads the anchor as the model saw it, uint8 [H, W, 3]; None if it is missing.

        Raises:
            InvalidInputError: The image cannot be read, or has another size than the run.
        """
        return self._picture("anchor.png")

    def chosen(self) -> Anchor | int | None:
        """Returns the user's choice of anchor for `I4VGenPipeline.run`; None if the user made no choice.

        Raises:
            InvalidInputError: The uploaded image is missing or cannot be read.
        """
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
        """Reads the candidates that have both image and latents, in the order of drawing.

        Raises:
            InvalidInputError: An image, the latents or the scores cannot be read.
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
        """Reads the candidates' latents, float32 [C, 1, h, w], by two-digit index; empty if they are missing.

        Raises:
            InvalidInputError: The file holds other arrays, or more values than the candidates' images.
            SafetensorError: The file is damaged.
        """
        max_numbers = self._picture_size * len(self.file.candidate_indices)
        data = self._source.read(LATENTS, max_numbers * np.dtype(np.float32).itemsize + HEADER)
        latents = load_tensors(data) if data else {}
        for one in latents.values():
            if one.dtype != np.float32 or one.ndim != 4 or one.shape[1] != 1 or not np.isfinite(one).all():
                raise InvalidInputError(f"{LATENTS} does not hold the latents of images: export the run again")
        return latents

    def _picture(self, name: str) -> np.ndarray | None:
        """Reads an image, uint8 [H, W, 3]; None if it is missing.

        Only images of the run's size are decoded, because small files can be huge images.

        Raises:
            InvalidInputError: The image cannot be read, or has another size.
        """
        data = self._source.read(name, 2 * self._picture_size + HEADER)
        if data is None:
            return None
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                if image.size != (self.config.width, self.config.height):
                    raise InvalidInputError("a picture of this run has another size than the run itself")
                return np.array(image.convert("RGB"))
        except UNREADABLE as error:
            raise InvalidInputError(f"a picture of this run cannot be read ({error})") from None

    @property
    def _picture_size(self) -> int:
        """The number of values in a picture."""
        return 3 * self.config.height * self.config.width

    def videos(self) -> dict[str, bytes]:
        """Returns the contents of the results' mp4 files, by the name of the video.

        Raises:
            InvalidInputError: A file is too large or cannot be unpacked.
        """
        factor = enlargement(self.config.height, self.config.width) ** 2
        max_bytes = self._picture_size * self.config.num_frames * factor + HEADER
        files = {name: self._source.read(f"{name}.mp4", max_bytes) for name in (*VIDEOS, *COMPARISONS)}
        return {name: data for name, data in files.items() if data is not None}


def open_run(path: str | os.PathLike) -> SavedRun:
    """Opens a run from its folder, run.json or zip file, or from the recipe in one of its pictures or videos.

    Raises:
        InvalidInputError: There is no run at the path, or it cannot be read or is too large.
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
    """Opens a run from any source.

    Args:
        source: The files of the run.
        where: The name of the source in error messages.

    Raises:
        InvalidInputError: The source holds no run, or one that cannot be read or is too large.
    """
    return _parse(source.read("run.json", MAX_JSON), source, where)


def _parse(text: str | bytes | None, source: RunSource, where: object) -> SavedRun:
    """Parses run.json or a recipe.

    Raises:
        InvalidInputError: The text is None or invalid, or the run is too large.
    """
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
    pictures = len(file.candidate_indices) + config.num_frames * (len(VIDEOS) + len(COMPARISONS))
    if pictures * config.height * config.width > MAX_RUN_PIXELS:
        raise InvalidInputError(f"{where} is a run of larger videos than can be opened")
    return SavedRun(file, config, source)


def run_name(config: GenerationConfig, max_length: int = 60) -> str:
    """Returns the name of a run's folder, such as a-rocket-rising-7.

    Args:
        config: The run's configuration.
        max_length: Maximum length of the prompt's words in characters; `NAME_BYTES` limits their bytes.
    """
    return f"{_words(config.prompt, max_length) or 'run'}-{config.seed}"


def _words(text: str, max_length: int) -> str:
    """Returns the words of a text in lower case, joined by single hyphens and cut to a maximum length.

    Words consist of letters, digits and underscores. Marks stay with their letter, because many scripts write
    vowels as marks. Format characters are dropped: they are invisible, and Persian and Hindi use them inside
    words.
    """
    kept = ""
    for char in unicodedata.normalize("NFC", text.lower()):
        kind, in_word = unicodedata.category(char), kept[-1:] not in ("", "-")
        if char == "_" or kind[0] in "LN" or (kind[0] == "M" and in_word):
            kept += char
        elif kind != "Cf" and in_word:
            kept += "-"
    kept = kept.strip("-")
    end = len(kept[:max_length].encode()[:NAME_BYTES].decode(errors="ignore"))
    while end < len(kept) and end and unicodedata.category(kept[end])[0] == "M":
        end -= 1
    return kept[:end]


def _number(index: int) -> str:
    return f"{index:02d}"


def _picture(index: int) -> str:
    return f"candidates/{_number(index)}.png"


def _trial(index: int) -> str:
    return f"trials/{_number(index)}.mp4"
