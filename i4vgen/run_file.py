"""What run.json holds. It may come from anybody, and what is in it goes on to a page and into paths."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from i4vgen.bounds import MAX_NAME
from i4vgen.catalog import ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.events import HIGHEST_REWARD, REASONS, UPLOADED
from i4vgen.generation_config import MAX_CANDIDATES
from i4vgen.metrics import Measures


def _one_of(known: Collection[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value

    return AfterValidator(check)


T = TypeVar("T")

Index = Annotated[int, Field(ge=0, lt=2**31)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=MAX_NAME)]
Few = Annotated[list[T], Field(max_length=32)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Table = Annotated[dict[Annotated[str, Field(max_length=100)], T], Field(max_length=32)]
OfCandidates = Annotated[list[T], Field(max_length=MAX_CANDIDATES)]


class MeasuresFile(BaseModel):
    """`metrics.Measures` in JSON (`Measures.to_dict`)."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    flicker: Number | None
    motion: Number | None
    consistency: Number
    rewards: Table[Number]

    def measures(self) -> Measures:
        """The figures; nan where one could not be measured."""
        figures = {name: math.nan if value is None else value for name, value in self}
        return Measures(**figures)


def _alike(measures: dict[str, MeasuresFile]) -> dict[str, MeasuresFile]:
    """All videos are judged by the same reward models."""
    if len({tuple(one.rewards) for one in measures.values()}) > 1:
        raise ValueError("must name the same rewards")
    return measures


class RunFile(BaseModel):
    """The contents of run.json that are read back. Whatever else is in it is ignored.

    Attributes:
        request: A `GenerationConfig` in JSON.
        compare: Names from `COMPARISONS`.
        model, base, loras, rewards: A `ModelSpec` in JSON: only what was chosen is there.
        stars: Indices of the favourites.
        candidate_indices: In the order in which the candidates came.
        sketches: Indices of those that were not finished.
        scores: By the name of the reward model, in the order of `candidate_indices`.
        seconds: By the name of the stage.
        measures: By the name of the video.
        anchor_index: None for an uploaded image.
        anchor_reason: One of `REASONS`; None before anything is chosen.
        anchor_sha256: Of the pixels of an uploaded image, as the model saw it (`media.pixels_sha256`).
        device, dtype, memory, versions: See `Runtime.describe`.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    request: dict[str, Any]
    compare: Few[Annotated[str, _one_of(COMPARISONS)]]
    model: Name
    base: Name = ""
    loras: Few[Name] = []
    rewards: Few[Name] = []
    stars: OfCandidates[Index] = []
    candidate_indices: OfCandidates[Index] = []
    sketches: OfCandidates[Index] = []
    scores: Table[OfCandidates[Number]] = {}
    seconds: Table[Number] = {}
    measures: Annotated[Table[MeasuresFile], AfterValidator(_alike)] = {}
    anchor_index: Index | None = None
    anchor_reason: Annotated[str, _one_of(REASONS)] | None = None
    anchor_sha256: Digest | None = None
    device: Name = ""
    dtype: Name = ""
    memory: Name = ""
    versions: Table[Name] = {}

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        """What version 0.1 wrote."""
        if isinstance(values, dict) and values.get("anchor_reason") == "own picture":
            return values | {"anchor_reason": UPLOADED}
        return values

    @property
    def picked(self) -> bool:
        """Whether a person chose the anchor."""
        return self.anchor_reason not in (HIGHEST_REWARD, None)

    def spec(self) -> ModelSpec:
        """The model that made the run."""
        return ModelSpec.from_dict(self._given("model", "base", "loras", "rewards"))

    def origin(self) -> dict[str, Any]:
        """On what the run was made, as far as it is said: device, dtype, memory, versions."""
        return self._given("device", "dtype", "memory", "versions")

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}
