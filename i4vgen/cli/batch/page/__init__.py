"""Renders index.html, a static page for browsing the runs of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from i4vgen.method.comparisons import COMPARISONS

if TYPE_CHECKING:
    from i4vgen.cli.batch.summary import SummaryRow

HERE = Path(__file__).parent

LABELS = {"anchor": "Anchor", "ni_vsds": "NI-VSDS", "i4vgen": "I4VGen"}

_environment = Environment(
    loader=FileSystemLoader(HERE),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def label(name: str) -> str:
    """Returns the label of a video or of the anchor."""
    return COMPARISONS[name].label if name in COMPARISONS else LABELS[name]


def signed(value: float) -> str:
    """Formats a number with two decimals and its sign, using the Unicode minus."""
    return f"{value:+.2f}".replace("-", "\u2212")


def change(entry: SummaryRow, name: str, digits: int, unit: str) -> str:
    """Formats a metric of the compared video and of I4VGen's video, with an arrow between them."""
    videos = [entry.measures[video] for video in (entry.before, "i4vgen") if video in entry.measures]
    values = [getattr(each, name) for each in videos]
    figures = " \u2192 ".join("\u2013" if value is None else f"{value:.{digits}f}" for value in values)
    return f"{figures} {unit}"


_environment.filters |= {"label": label, "signed": signed, "change": change}


def render(title: str, entries: Sequence[SummaryRow]) -> str:
    """Renders the page as HTML."""
    figures = [measures for entry in entries for measures in entry.measures.values()]
    by = next((each.steadiness.by for each in figures if each.steadiness), "")
    return _environment.get_template("index.html").render(title=title, entries=entries, by=by)
