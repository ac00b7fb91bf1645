"""The settings form as a value, read from components, a link or a run. Does not import Gradio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from i4vgen.backbones.samplers import NAMES
from i4vgen.bounds import MAX_NAME, MAX_TEXT, check_text
from i4vgen.config import (
    MAX_SEED,
    Defaults,
    GenerationConfig,
    Parameter,
    offered_parameters,
    range_for,
)
from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.models.catalog import REPLACEMENTS, REWARDS, ModelSpec
from i4vgen.serving.budget import check_size
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.studio import strings
from i4vgen.studio.lora_text import join_loras, split_loras

CHUNKS = 4
"""Approximate minimum number of batches of candidates, so that the gallery shows progress."""

OWN = "own"
"""The sampler choice for the model's default."""

SETTINGS: dict[str, Parameter] = offered_parameters()
"""The run parameters in the form."""

FIELDS = (*SETTINGS, "compare", "model", *REPLACEMENTS, "loras", "rewards")
"""The names of all fields, in the order of `Page.form`. The endpoints' parameters have the same names."""

LISTS = {"compare": COMPARISONS, "rewards": REWARDS}
"""The fields that accept several values, with all possible values."""


@dataclass(frozen=True)
class Form:
    """The values of the form's fields.

    Attributes:
        settings: The values of `SETTINGS`, which `config` checks.
        compare: Names from `COMPARISONS`.
        model: A name from the catalogue, a file, a folder or a hub id.
        base: Another base model, or an empty string.
        loras: The LoRAs as text, in the format of `split_loras`.
        rewards: Names from `REWARDS`.
        motion_module: Another motion module, or an empty string.
        vae: Another VAE, or an empty string.
    """

    settings: Mapping[str, object]
    compare: list[str]
    model: str
    base: str
    loras: str
    rewards: list[str]
    motion_module: str = ""
    vae: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Form:
        """Makes a form from values by field name. Settings may be missing."""
        settings = {name: values[name] for name in SETTINGS if name in values}
        own = {name: values[name] for name in FIELDS if name in values and name not in SETTINGS}
        return cls(settings, **own)

    def values(self) -> dict[str, object]:
        """Returns the values as JSON types, the inverse of `of`."""
        own = asdict(self)
        return {**own.pop("settings"), **own}

    def with_values(self, given: Mapping[str, object]) -> Form:
        """Returns the form with some fields changed. Ignores unknown names."""
        return Form.of({**self.values(), **{name: value for name, value in given.items() if name in FIELDS}})

    def with_spec(self, spec: ModelSpec) -> Form:
        """Returns the form with another model and its parts. Rewards of None become none."""
        return replace(
            self,
            model=spec.model,
            **{name: spec.replacements.get(name, "") for name in REPLACEMENTS},
            loras=join_loras(spec.loras),
            rewards=list(spec.rewards or ()),
        )

    @classmethod
    def of_run(
        cls, config: GenerationConfig, spec: ModelSpec, compare: Iterable[str], models: OfferedModels
    ) -> Form:
        """Returns the form with the settings of a run, also if its model is missing or not offered."""
        default = None
        with suppress(ModelError, InvalidInputError):  # reported when the form is shown
            runtime = models.runtime_for(spec)
            spec = runtime.spec
            default = runtime.defaults.sampler
        settings = {name: getattr(config, name) for name in SETTINGS}
        settings |= {"sampler": OWN if config.sampler == default else config.sampler}
        return cls(settings, list(compare), spec.model, "", "", []).with_spec(spec)

    def fitted(self, defaults: Defaults) -> tuple[Form, list[str]]:
        """Replaces values that the components do not accept and that would make every later event fail.

        Such values come from links, browser storage and runs that were made elsewhere.

        Args:
            defaults: The defaults of the form's model.

        Returns:
            The form, and the changed fields: settings by label, others by name.
        """
        given = self.values()
        fitting = {name: _fit(name, value, defaults) for name, value in given.items()}
        changed = [name for name, value in fitting.items() if value != given[name]]
        return Form.of(fitting), [SETTINGS[name].label if name in SETTINGS else name for name in changed]

    @property
    def prompt(self) -> str:
        """The prompt, stripped."""
        return str(self.settings.get("prompt") or "").strip()

    def spec(self) -> ModelSpec:
        """Returns the model and the parts that the form chooses."""
        parts = {name: (getattr(self, name) or "").strip() or None for name in REPLACEMENTS}
        loras = split_loras(self.loras or "")
        return ModelSpec(self.model.strip(), loras=loras, rewards=tuple(self.rewards), **parts)

    def config(self, defaults: Defaults) -> GenerationConfig:
        """Returns the configuration of the run that the form asks for.

        Raises:
            InvalidInputError: A value is missing or invalid, or the video is too large (`check_size`).
        """
        if not self.prompt:
            raise InvalidInputError(strings.NEEDS_PROMPT)
        for name, about in SETTINGS.items():
            if about.kind is not str and name in self.settings and self.settings[name] is None:
                raise InvalidInputError(f"{about.label} needs a number.")
        given = dict(self.settings)
        given |= {"sampler": None if given.get("sampler") == OWN else given.get("sampler")}
        given |= {"prompt": self.prompt, "negative_prompt": str(given.get("negative_prompt") or "").strip()}
        config = GenerationConfig.for_model(defaults, **given)
        check_size(config, defaults)
        chunk = min(defaults.candidate_batch_size, -(-config.num_candidates // CHUNKS))
        return replace(config, candidate_batch_size=chunk)


def from_query(query: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    """Reads the query of a link.

    Returns:
        The values by field name, and the names of the fields that cannot be read.
    """
    values, bad = {}, []
    for name in FIELDS:
        if name in query:
            try:
                values[name] = _read(name, query[name])
            except ValueError:
                bad.append(name)
    return values, bad


def _choices(name: str) -> tuple[str, ...]:
    """Returns all values of a single-choice field; empty for other fields."""
    if name == "sampler":
        return (OWN, *NAMES)
    return SETTINGS[name].choices if name in SETTINGS else ()


def _fit(name: str, value: object, defaults: Defaults) -> object:
    """Returns the value of a field, or a replacement if its component does not accept the value."""
    if name in LISTS:
        known = list(LISTS[name])  # a list, because items may be unhashable
        return [item for item in value if item in known] if isinstance(value, list | tuple) else []
    about = SETTINGS.get(name)
    if about is None or about.kind is str:
        known = _choices(name)
        try:
            text = check_text(name, value, MAX_TEXT if about else MAX_NAME)
        except InvalidInputError:
            text = ""
        return text if not known or text in known else known[0]
    own = getattr(defaults, name, about.default)
    try:
        number = about.check(name, value)
    except InvalidInputError:
        return value if value is None else own  # None: the field is empty
    low, high, step = range_for(name, defaults)
    if about.kind is int:  # a slider accepts whole steps from its minimum
        number = low + (number - low + step // 2) // step * step
    return min(max(number, low), high)


def _read(name: str, text: str) -> object:
    if name in LISTS:
        items = [item for item in text.split(",") if item]
        if not set(items) <= set(LISTS[name]):
            raise ValueError
        return items
    about = SETTINGS.get(name)
    if about is None or about.kind is str:
        choices = _choices(name)
        if choices and text not in choices:
            raise ValueError
        return text
    value = about.kind(text)
    if not math.isfinite(value) or not 0 <= value <= MAX_SEED:
        raise ValueError
    return value
