"""index.html: the runs of a batch to look at, straight from the disk. It asks no server for anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from i4vgen.comparisons import COMPARISONS

if TYPE_CHECKING:
    from i4vgen.batch.summary import Entry

HERE = Path(__file__).parent / "page"

LABELS = {"anchor": "Anchor", "ni_vsds": "NI-VSDS", "i4vgen": "I4VGen"}

_environment = Environment(
    loader=FileSystemLoader(HERE),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def label(name: str) -> str:
    """What people call a video or the anchor."""
    return COMPARISONS[name].label if name in COMPARISONS else LABELS[name]


def signed(value: float) -> str:
    """A number with its sign, a true minus."""
    return f"{value:+.2f}".replace("-", "\u2212")


def change(entry: Entry, name: str, digits: int, unit: str) -> str:
    """A figure of the video before and of I4VGen's."""
    values = [
        getattr(entry.measures[video], name) for video in (entry.before, "i4vgen") if video in entry.measures
    ]
    return (
        " \u2192 ".join("\u2013" if value is None else f"{value:.{digits}f}" for value in values) + f" {unit}"
    )


_environment.filters |= {"label": label, "signed": signed, "change": change}


def render(title: str, entries: Sequence[Entry]) -> str:
    """The page."""
    return _environment.get_template("index.html").render(title=title, entries=entries)
