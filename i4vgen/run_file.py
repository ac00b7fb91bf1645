"""What run.json holds. It may come from anybody, and what is in it goes on to a page and into paths."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from i4vgen.bounds import MAX_NAME
from i4vgen.catalog import ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.events import HIGHEST_REWARD, PICKED, REASONS, UPLOADED
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


def identity(
    request: dict[str, Any],
    spec: ModelSpec,
    versions: Mapping[str, str],
    reason: str | None,
    index: int | None,
    sha256: str | None,
) -> dict[str, Any]:
    """What decides the pixels of a run, in JSON.

    Args:
        request: A `GenerationConfig` in JSON.
        spec: The model.
        versions: Of the code. Python's decides nothing.
        reason: One of `REASONS`: why this is the anchor.
        index: Of the anchor. It decides where a person picked it.
        sha256: Of the pixels of an uploaded image.
    """
    return {
        "request": request,
        "model": {k: list(v) if isinstance(v, tuple) else v for k, v in spec.to_dict().items()},
        "versions": {name: version for name, version in versions.items() if name != "python"},
        "anchor": [reason, index if reason == PICKED else None, sha256],
    }


class MeasuresFile(BaseModel):
    """`metrics.Measures` in JSON (`Measures.to_dict`)."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    flicker: Number | None
    motion: Number | None
    consistency: Number
    rewards: Table[Number]

    def measures(self) -> Measures:
        """The figures; nan where one could not be measured."""
        flicker, motion = (math.nan if value is None else value for value in (self.flicker, self.motion))
        return Measures(flicker, motion, self.consistency, self.rewards)


def _alike(measures: dict[str, MeasuresFile]) -> dict[str, MeasuresFile]:
    """All videos are judged by the same reward models."""
    if len({tuple(one.rewards) for one in measures.values()}) > 1:
        raise ValueError("must name the same rewards")
    return measures


class RunFile(BaseModel):
    """The contents of run.json that are read back, or of the recipe in a file, which is a part of them. What
    else is in there is ignored.

    Attributes:
        request: A `GenerationConfig` in JSON.
        compare: Names from `COMPARISONS`. The recipe of a video says nothing about others beside it.
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
    compare: Few[Annotated[str, _one_of(COMPARISONS)]] = []
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

    @property
    def says_compare(self) -> bool:
        """Whether anything is said about comparisons, be it that there are none."""
        return "compare" in self.model_fields_set

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the pixels, in JSON: equal for runs that give the same."""
        return identity(
            self.request, self.spec(), self.versions, self.anchor_reason, self.anchor_index, self.anchor_sha256
        )

    def is_of(self, other: RunFile) -> bool:
        """Whether this recipe is one of a file of that run. Without an anchor: of a candidate, say."""
        mine, others = self.identity, other.identity
        if self.anchor_reason is None:
            mine, others = mine | {"anchor": None}, others | {"anchor": None}
        return mine == others

    def spec(self) -> ModelSpec:
        """The model that made the run."""
        return ModelSpec.from_dict(self._given("model", "base", "loras", "rewards"))

    def origin(self) -> dict[str, Any]:
        """On what the run was made, as far as it is said: device, dtype, memory, versions."""
        return self._given("device", "dtype", "memory", "versions")

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}
