"""The file of prompts: text, CSV or JSONL."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i4vgen.bounds import shown
from i4vgen.errors import InvalidInputError
from i4vgen.generation_config import parameters
from i4vgen.options import names

BESIDE = ("compare", "anchor", "anchor_image")
"""What a line may say beside the parameters of a run, as the command line may."""


@dataclass(frozen=True)
class Row:
    """A line of the file.

    Attributes:
        line: Its number, from 1.
        values: What it says, by the names of the fields of `GenerationConfig` and of `BESIDE`; not checked yet.
        error: Why it cannot be read; empty if it can.
    """

    line: int
    values: dict[str, Any]
    error: str = ""


def columns() -> dict[str, str]:
    """What a column may be called: by the names in run.json, or by those of the options of the command line."""
    known = {name: name for name in (*parameters(), *BESIDE)}
    return known | {
        about.option.replace("-", "_"): name for name, about in parameters().items() if about.option
    }


def read_prompts(path: Path) -> list[Row]:
    """The lines of a file of prompts, without the empty ones. Paths of pictures in it begin from its folder.

    Raises:
        InvalidInputError: It cannot be read, has no prompts, or has a column that means nothing.
    """
    reader = READERS.get(path.suffix.lower(), _read_text)
    try:
        rows = list(reader(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read {path} ({error}): give a text, CSV or JSONL file") from None
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    for row in rows:
        if isinstance(picture := row.values.get("anchor_image"), str):
            row.values["anchor_image"] = str(path.parent / picture)
    if not rows:
        raise InvalidInputError(f"{path} holds no prompts: write one a line")
    return rows


def _read_text(text: str) -> Iterator[Row]:
    """A prompt a line."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield Row(number, {"prompt": line.strip()})


def _read_csv(text: str) -> Iterator[Row]:
    """A header, then a run a line. An empty cell says nothing."""
    lines = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = next(lines, [])
        fields = _fields(header)
        if "prompt" not in fields:
            raise InvalidInputError("the first line of a CSV file names its columns: one must be prompt")
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            values = {
                field: _convert(field, cell.strip())
                for field, cell in zip(fields, cells, strict=False)
                if cell.strip()
            }
            error = f"{len(cells)} cells where the header has {len(header)}" if len(cells) > len(header) else ""
            yield Row(lines.line_num, values, error)
    except csv.Error as error:
        raise InvalidInputError(f"line {lines.line_num} is no CSV ({error})") from None


def _read_jsonl(text: str) -> Iterator[Row]:
    """A JSON object a line. What is null says nothing."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(number, {}, f"is no JSON ({error})")
            continue
        if not isinstance(values, dict):
            yield Row(number, {}, f"must be a JSON object, not {shown(values)}")
            continue
        try:
            fields = _fields(list(values))
        except InvalidInputError as error:
            raise InvalidInputError(f"line {number}: {error}") from None
        given = zip(fields, values.values(), strict=True)
        yield Row(number, {field: value for field, value in given if value is not None})


def _refuse_json(_: str) -> Iterator[Row]:
    raise InvalidInputError("is one JSON document: give a JSONL file, with an object a line")


READERS: dict[str, Callable[[str], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _refuse_json,
}
"""By the suffix of the file; everything else is text."""


def _fields(header: list[str]) -> list[str]:
    """The fields that columns stand for.

    Raises:
        InvalidInputError: One stands for none, or two for the same.
    """
    known, fields = columns(), []
    for column in header:
        field = known.get(column.strip().replace("-", "_"))
        if field is None:
            raise InvalidInputError(f"unknown column {shown(column)}: known are {', '.join(sorted(known))}")
        if field in fields:
            raise InvalidInputError(f"two columns say {field}: keep one")
        fields.append(field)
    return fields


def _convert(field: str, text: str) -> Any:
    """What a cell says, in the type of its field; the text as it is where it has another one."""
    if field == "compare":
        return names(text)
    kind = int if field == "anchor" else parameters()[field].kind if field in parameters() else str
    if kind is not str:
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text
