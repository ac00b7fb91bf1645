"""The schema of run.json, which is untrusted input: its values reach web pages and paths."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from i4vgen.bounds import MAX_NAME
from i4vgen.config import MAX_CANDIDATES, parameters
from i4vgen.events import HIGHEST_REWARD, PICKED, REASONS, UPLOADED, stage_of
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.metrics import Measures, Steadiness
from i4vgen.models.catalog import REPLACEMENTS, ModelSpec
from i4vgen.models.portable import FileId, Files


def _one_of(known: Collection[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value

    return AfterValidator(check)


T = TypeVar("T")

Index = Annotated[int, Field(ge=0, lt=2**31)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=MAX_NAME)]
Few = Annotated[list[T], Field(max_length=32)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TwoDigits = Annotated[str, Field(pattern=r"^\d\d$")]
Table = Annotated[dict[Annotated[str, Field(max_length=100)], T], Field(max_length=32)]
OfCandidates = Annotated[list[T], Field(max_length=MAX_CANDIDATES)]


def identity(
    request: dict[str, Any],
    spec: ModelSpec,
    versions: Mapping[str, str],
    reason: str | None,
    index: int | None,
    sha256: str | None,
    files: Files,
) -> dict[str, Any]:
    """Returns everything recorded that determines the pixels of a run, as JSON-compatible values.

    Args:
        request: The output of `GenerationConfig.to_dict`.
        spec: The model, with the names of its local files instead of their paths.
        versions: The versions of the code; Python's is ignored.
        reason: Why the image is the anchor, one of `REASONS`; None before the selection.
        index: The index of the anchor; ignored unless the user picked it.
        sha256: The digest of an uploaded image's pixels; None if no image was uploaded.
        files: The ids of the model's local files and folders, by name.
    """
    digests = {"files": {name: file.sha256 for name, file in files.items()}} if files else {}
    return {
        "request": request,
        "model": {k: list(v) if isinstance(v, tuple) else v for k, v in spec.to_dict().items()},
        "versions": {name: version for name, version in versions.items() if name != "python"},
        "anchor": [reason, index if reason == PICKED else None, sha256],
        **digests,
    }


class SteadinessFile(BaseModel):
    """`metrics.Steadiness` in JSON."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    by: Annotated[str, Field(max_length=100)]
    from_anchor: bool
    frames: Annotated[list[Cosine], Field(max_length=int(parameters()["num_frames"].high))]
    subject_consistency: Annotated[float, Field(ge=0, le=1)]

    def steadiness(self) -> Steadiness:
        """Converts to `metrics.Steadiness`."""
        return Steadiness(self.by, self.from_anchor, tuple(self.frames), self.subject_consistency)


class MeasuresFile(BaseModel):
    """`metrics.Measures` in JSON (`Measures.to_dict`)."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    flicker: Number | None
    motion: Number | None
    consistency: Number
    rewards: Table[Number]
    steadiness: SteadinessFile | None = None

    def measures(self) -> Measures:
        """Converts to `metrics.Measures`, with nan for null."""
        flicker, motion = (math.nan if value is None else value for value in (self.flicker, self.motion))
        steady = self.steadiness and self.steadiness.steadiness()
        return Measures(flicker, motion, self.consistency, self.rewards, steady)


class FileIdFile(BaseModel):
    """`portable.FileId` in JSON."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    sha256: Digest
    size: Annotated[int, Field(ge=0, lt=2**53)]


class LoraFitFile(BaseModel):
    """`events.LoraFit` in JSON."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    lora: Name
    applied: Index
    layers: Index
    made_for: Name


def _check_same_rewards(measures: dict[str, MeasuresFile]) -> dict[str, MeasuresFile]:
    """Raises `ValueError` unless the same reward models scored all videos, in the same order."""
    if len({tuple(one.rewards) for one in measures.values()}) > 1:
        raise ValueError("must name the same rewards")
    return measures


class RunFile(BaseModel):
    """The contents of run.json, or of a recipe, which is a part of it. Other keys are ignored.

    Attributes:
        request: The output of `GenerationConfig.to_dict`.
        compare: Names from `COMPARISONS`. A video's recipe lists only the comparisons that the video shows.
        model, base, motion_module, vae, loras, rewards: The fields of the `ModelSpec`, which `spec` returns.
        files: The ids of the model's local files and folders, by their names in these fields.
        stars: The indices of the favourites.
        candidate_indices: The indices of the candidates, in the order of drawing.
        sketches: The indices of unfinished candidates.
        scores: The candidates' scores by reward model, in the order of `candidate_indices`.
        seconds: The duration of each stage, by name.
        measures: The metrics of each video, by name.
        trials: With `animate_best`, the score of each video, by the two-digit index of its candidate.
        anchor_index: The index of the anchor; None for an uploaded image or before the selection.
        anchor_reason: The reason for the anchor, one of `REASONS`; None before the selection.
        anchor_sha256: The digest of an uploaded image as the model saw it (`media.pixels_sha256`).
        device, dtype, memory, lora_fits, versions: Values from `Runtime.describe`.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    request: dict[str, Any]
    compare: Few[Annotated[str, _one_of(COMPARISONS)]] = []
    model: Name
    base: Name = ""
    motion_module: Name = ""
    vae: Name = ""
    loras: Few[Name] = []
    rewards: Few[Name] = []
    files: Annotated[dict[Name, FileIdFile], Field(max_length=32)] = {}
    stars: OfCandidates[Index] = []
    candidate_indices: OfCandidates[Index] = []
    sketches: OfCandidates[Index] = []
    scores: Table[OfCandidates[Number]] = {}
    seconds: Table[Number] = {}
    measures: Annotated[Table[MeasuresFile], AfterValidator(_check_same_rewards)] = {}
    trials: Annotated[dict[TwoDigits, Number], Field(max_length=MAX_CANDIDATES)] = {}
    anchor_index: Index | None = None
    anchor_reason: Annotated[str, _one_of(REASONS)] | None = None
    anchor_sha256: Digest | None = None
    device: Name = ""
    dtype: Name = ""
    memory: Name = ""
    lora_fits: Few[LoraFitFile] = []
    versions: Table[Name] = {}

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        """Renames what earlier versions wrote: the reason for uploaded images, and videos for their stages."""
        if not isinstance(values, dict):
            return values
        if values.get("anchor_reason") == "own picture":
            values = values | {"anchor_reason": UPLOADED}
        if isinstance(seconds := values.get("seconds"), dict):
            values = values | {"seconds": {stage_of(name): each for name, each in seconds.items()}}
        return values

    @property
    def picked(self) -> bool:
        """Whether the user chose the anchor."""
        return self.anchor_reason not in (HIGHEST_REWARD, None)

    @property
    def has_compare(self) -> bool:
        """Whether the file lists the comparisons, even if the list is empty."""
        return "compare" in self.model_fields_set

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the pixels, as JSON types."""
        return identity(
            self.request,
            self.spec(),
            self.versions,
            self.anchor_reason,
            self.anchor_index,
            self.anchor_sha256,
            self.model_files,
        )

    def belongs_to(self, other: RunFile) -> bool:
        """Returns whether this is the recipe of a file of the other run.

        The anchors are compared only if the recipe has one; a candidate's recipe has none.
        """
        mine, others = self.identity, other.identity
        if self.anchor_reason is None:
            mine, others = mine | {"anchor": None}, others | {"anchor": None}
        return mine == others

    def covers(self, other: RunFile) -> bool:
        """Returns whether this run would recreate everything in the other one."""
        return (
            self.identity == other.identity
            and set(other.compare) <= set(self.compare)
            and not other.stars  # only a user can set them
        )

    @property
    def model_files(self) -> dict[str, FileId]:
        """The ids of the model's local files and folders, by name."""
        return {name: FileId(file.sha256, file.size) for name, file in self.files.items()}

    def spec(self) -> ModelSpec:
        """Returns the model, with the names of its local files instead of their paths."""
        return ModelSpec.from_dict(self._given("model", *REPLACEMENTS, "loras", "rewards"))

    def origin(self) -> dict[str, Any]:
        """Returns device, dtype, memory, versions, lora_fits and files as JSON types, omitting missing ones."""
        fits = {"lora_fits": [fit.model_dump() for fit in self.lora_fits]} if self.lora_fits else {}
        files = {"files": {name: file.model_dump() for name, file in self.files.items()}} if self.files else {}
        return self._given("device", "dtype", "memory", "versions") | fits | files

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}
