"""The form in the address bar: a link restores every setting. No Gradio here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import get_type_hints

from i4vgen.backbones.samplers import SCHEDULERS
from i4vgen.catalog import REWARDS
from i4vgen.comparisons import COMPARISONS
from i4vgen.generation_config import MAX_SEED, PRESETS
from i4vgen.ui.imagine import OWN, Form

KNOWN = {"compare": COMPARISONS, "rewards": REWARDS, "preset": PRESETS, "sampler": (OWN, *SCHEDULERS)}
"""What the fields that offer a choice can say."""

RUN = "run"
"""The parameter that names a finished run which the server may still have."""


def from_query(query: Mapping[str, str]) -> tuple[dict, list[str]]:
    """The settings that a query gives, by the names of `Form`, and the names of those that cannot be read."""
    kinds = get_type_hints(Form)
    settings, bad = {}, []
    for field in fields(Form):
        if field.name in query:
            try:
                settings[field.name] = _read(field.name, kinds[field.name], query[field.name])
            except ValueError:
                bad.append(field.name)
    return settings, bad


def _read(name: str, kind: object, text: str) -> object:
    known = KNOWN.get(name)
    if kind == list[str]:
        items = [item for item in text.split(",") if item]
        if not set(items) <= set(known):
            raise ValueError
        return items
    if kind in (int, int | None):
        number = int(text)
        if not 0 <= number <= MAX_SEED:
            raise ValueError
        return number
    value = kind(text)
    if known and value not in known or isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value
