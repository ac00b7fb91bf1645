"""What the settings form says, as one value: from components, from a link, from a run. No Gradio here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from i4vgen import catalog
from i4vgen.backbones.samplers import NAMES
from i4vgen.bounds import MAX_NAME, MAX_TEXT, check_text
from i4vgen.catalog import REWARDS, ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.errors import InvalidInputError
from i4vgen.generation_config import (
    MAX_SEED,
    Defaults,
    GenerationConfig,
    Parameter,
    offered_parameters,
    range_for,
)
from i4vgen.ui import strings
from i4vgen.ui.limits import check_size

CHUNKS = 4
"""The gallery fills in about this many steps: often enough to look alive, in chunks large enough to be fast."""

OWN = "own"
"""In place of a sampler's name: the model's default sampler."""

SETTINGS: dict[str, Parameter] = offered_parameters()
"""The parameters of a run that the form asks for."""

FIELDS = (*SETTINGS, "compare", "model", "base", "loras", "rewards")
"""The names of all fields, in the order of the form. The endpoints' parameters have the same names."""

LISTS = {"compare": COMPARISONS, "rewards": REWARDS}
"""The fields that take several of these values."""


@dataclass(frozen=True)
class Form:
    """The form, field by field.

    Attributes:
        settings: Values of `SETTINGS`, as the components or a link gave them; checked by `config`.
        compare: Names of `COMPARISONS`.
        model: A name from the catalogue, a folder or a hub id.
        base: Another base model, or an empty text.
        loras: With spaces between them.
        rewards: Names of `REWARDS`.
    """

    settings: Mapping[str, object]
    compare: list[str]
    model: str
    base: str
    loras: str
    rewards: list[str]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Form:
        """values: by the names of `FIELDS`; settings may be absent, then they are the model's own."""
        settings = {name: values[name] for name in SETTINGS if name in values}
        return cls(settings, **{name: values[name] for name in FIELDS if name not in SETTINGS})

    def values(self) -> dict[str, object]:
        """The inverse of `of`: JSON types, by the names of `FIELDS`."""
        own = asdict(self)
        return {**own.pop("settings"), **own}

    def with_values(self, given: Mapping[str, object]) -> Form:
        """The form with some fields changed. Names that it does not have are ignored."""
        return Form.of({**self.values(), **{name: value for name, value in given.items() if name in FIELDS}})

    def with_spec(self, spec: ModelSpec) -> Form:
        """The form with another model and what goes with it."""
        return replace(
            self,
            model=spec.model,
            base=spec.base or "",
            loras=" ".join(spec.loras),
            rewards=list(catalog.find(spec).rewards),
        )

    @classmethod
    def of_run(cls, config: GenerationConfig, spec: ModelSpec, compare: Iterable[str]) -> Form:
        """The form that asks for this run."""
        entry = catalog.find(spec)
        default = entry.backbone.read_defaults(**entry.sources).sampler
        settings = {name: getattr(config, name) for name in SETTINGS}
        settings |= {"sampler": OWN if config.sampler == default else config.sampler}
        return cls(settings, list(compare), spec.model, "", "", []).with_spec(spec)

    def fitted(self, defaults: Defaults) -> tuple[Form, list[str]]:
        """The form with only such values as its components take.

        Whatever they do not take would make every later event fail: it comes from a link, a browser's memory or
        a run that was made elsewhere.

        Args:
            defaults: Of the model in the form.

        Returns:
            The form, and the labels of the fields that had to be changed.
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
        """The model and what goes with it."""
        base = (self.base or "").strip() or None
        return ModelSpec(self.model, base, tuple((self.loras or "").split()), tuple(self.rewards))

    def config(self, defaults: Defaults) -> GenerationConfig:
        """The run that the form asks for.

        Raises:
            InvalidInputError: A value is missing or wrong; the message is meant for the person at the form.
        """
        if not self.prompt:
            raise InvalidInputError(strings.NEEDS_PROMPT)
        for name, about in SETTINGS.items():
            if about.kind is not str and name in self.settings and self.settings[name] is None:
                raise InvalidInputError(strings.NEEDS_NUMBER.format(name=about.label))
        given = dict(self.settings)
        given |= {"sampler": None if given.get("sampler") == OWN else given.get("sampler")}
        given |= {"prompt": self.prompt, "negative_prompt": str(given.get("negative_prompt") or "").strip()}
        config = GenerationConfig.for_model(defaults, **given)
        check_size(config, defaults)
        chunk = min(defaults.candidate_batch_size, -(-config.num_candidates // CHUNKS))
        return replace(config, candidate_batch_size=chunk)


def from_query(query: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    """The form in the address bar.

    Returns:
        The values that a link gives, by the names of `FIELDS`, and the names of those that cannot be read.
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
    """All values of a text field that is no free text."""
    if name == "sampler":
        return (OWN, *NAMES)
    return SETTINGS[name].choices if name in SETTINGS else ()


def _fit(name: str, value: object, defaults: Defaults) -> object:
    """The value of a field, or the closest one that its component takes."""
    if name in LISTS:
        known = list(LISTS[name])  # items may be of any type
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
        return value if value is None else own  # None: nothing typed yet
    low, high, step = range_for(name, defaults)
    if about.kind is int:  # of which a slider takes every step-th
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
