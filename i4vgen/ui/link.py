"""The form in the address bar: a link restores every setting. No Gradio here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import get_type_hints

from i4vgen.ui.imagine import Form

RUN = "run"
"""The parameter that names a finished run which the server may still have."""


def from_query(query: Mapping[str, str]) -> tuple[dict, list[str]]:
    """The settings that a query gives, by the names of `Form`, and the names of those that cannot be read."""
    kinds = get_type_hints(Form)
    settings, bad = {}, []
    for field in fields(Form):
        if field.name in query:
            try:
                settings[field.name] = _read(kinds[field.name], query[field.name])
            except ValueError:
                bad.append(field.name)
    return settings, bad


def _read(kind: object, text: str) -> object:
    if kind == list[str]:
        return [item for item in text.split(",") if item]
    if kind in (int, int | None):
        return int(text)
    return kind(text)
