"""Reads a file of prompts: text, CSV, JSONL or an Excel workbook."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from i4vgen.bounds import shown
from i4vgen.cli.options import split_names
from i4vgen.cli.output import warn
from i4vgen.config import parameters
from i4vgen.errors import InvalidInputError, reason_of

CHOICES = ("compare", "anchor", "anchor_image")
"""Fields of a line that are not settings of the run."""

DELIMITERS = ",;\t|"

ZIP, OLD_EXCEL = b"PK\3\4", b"\xd0\xcf\x11\xe0"
"""Signatures of Excel workbooks: .xlsx, which is a zip file, and .xls."""

WESTERN = re.compile(
    r"[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff"  # letters
    r"\u0160\u0161\u017d\u017e\u0152\u0153\u0178"
    r"\u2018-\u201e\u2013\u2014\u2026\u20ac\u2122"  # quotation marks, dashes, euro
    r"\u00a1\u00a3\u00a7\u00a9\u00ab\u00ae\u00b0\u00b2\u00b3\u00b5\u00b7\u00ba-\u00bf]{1,3}"
)
"""Matches up to three consecutive non-ASCII characters of Western text.

Text in other alphabets has longer sequences if it is decoded as Windows-1252.
"""


@dataclass(frozen=True)
class PromptLine:
    """A line of the prompt file.

    Attributes:
        line: The line number, from 1.
        values: Unchecked values by field, a name from `GenerationConfig` or `CHOICES`.
        error: The reason that the line cannot be read; empty if it can.
    """

    line: int
    values: dict[str, Any]
    error: str = ""


def columns() -> dict[str, str]:
    """Returns the fields by column name: the name of the field or of its command-line option."""
    known = {name: name for name in (*parameters(), *CHOICES)}
    return known | {
        about.option.replace("-", "_"): name for name, about in parameters().items() if about.option
    }


def read_prompts(path: Path) -> list[PromptLine]:
    """Reads the non-empty lines of a prompt file.

    Picture paths are relative to the folder of the file. Workbooks, and files with an extension that is not in
    `READERS`, are recognised by their content: tables have a header of `columns` separated by commas,
    semicolons, tabs or bars. Lines end with LF or CRLF.

    Raises:
        InvalidInputError: The file cannot be read, has no prompts, or has unknown, repeated or missing columns.
    """
    try:
        rows = list(_read(path))
    except OSError as error:
        raise InvalidInputError(
            f"cannot read {path} ({reason_of(error)}): give a text, CSV or JSONL file"
        ) from None
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    for row in rows:
        if isinstance(picture := row.values.get("anchor_image"), str):
            row.values["anchor_image"] = str(path.parent / picture)
    if not rows:
        raise InvalidInputError(f"{path} holds no prompts: write one a line")
    return rows


def _read(path: Path) -> Iterator[PromptLine]:
    data = path.read_bytes()
    if data.startswith(ZIP):
        return _read_workbook(data)
    if data.startswith(OLD_EXCEL):
        raise InvalidInputError("is a workbook of an old Excel: save it as .xlsx, or as CSV UTF-8")
    text = decode(data, path)
    if "\r" in text and "\n" not in text:
        raise InvalidInputError(
            "line 1 ends with a carriage return alone: save it with the line ends of Windows or Unix"
        )
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] == ".txt":  # appended by some programs
        suffixes.pop()
    reader = READERS.get(suffixes[-1] if suffixes else "")
    return (reader or _guess_reader(text))(text)


def decode(data: bytes, path: Path) -> str:
    """Decodes a file from UTF-8, UTF-16 or, with a warning, Windows-1252.

    Raises:
        InvalidInputError: The file is not text, or has another encoding.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode(data, "utf-16")
    for encoding, nothing in (("utf-16-le", slice(1, 16, 2)), ("utf-16-be", slice(0, 16, 2))):
        if len(data) % 2 == 0 and data[nothing] and not any(data[nothing]):  # where ASCII text has zero bytes
            return _decode(data, encoding)
    if b"\0" in data:
        raise InvalidInputError("is not text: give a text, CSV or JSONL file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        with suppress(UnicodeDecodeError):
            text = data.decode("cp1252")
            if all(WESTERN.fullmatch(letters) for letters in re.findall(r"[^\x00-\x7f]+", text)):
                line = text.split("\n")[number - 1].strip()
                warn(
                    f"{path} is not UTF-8 and read as Windows-1252 (line {number}: {shown(line)}). If that is"
                    " wrong, save it as UTF-8"
                )
                return text
        raise InvalidInputError(
            f"line {number} is not UTF-8: save the file as UTF-8 (in Excel: CSV UTF-8)"
        ) from None


def _decode(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise InvalidInputError("is not valid UTF-16: save it as UTF-8") from None


def _guess_reader(text: str) -> Callable[[str], Iterator[PromptLine]]:
    """Returns a reader for a file with an unknown extension, guessed from the first non-empty line."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    if first.lstrip().startswith("{") and first.rstrip().endswith("}"):
        return _read_jsonl
    is_table = _separator_line(first) or _delimiter(first) is not None
    return _read_csv if is_table else _read_text


def _separator_line(line: str) -> str | None:
    """Returns the delimiter declared by an Excel line such as `sep=;`; None for any other line."""
    match = re.fullmatch(r'\s*"?sep=(.)"?\s*', line, re.I | re.S)
    return match[1] if match else None


def _delimiter(header: str) -> str | None:
    """Returns the delimiter that splits a header into known columns, one of them prompt; None if none does.

    Matching the known column names is more reliable than the frequencies that `csv.Sniffer` uses.
    """
    for delimiter in DELIMITERS:
        with suppress(csv.Error, InvalidInputError):
            if "prompt" in _fields(next(csv.reader([header], delimiter=delimiter, strict=True))):
                return delimiter
    return None


def _read_text(text: str) -> Iterator[PromptLine]:
    """Reads one prompt per line."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield PromptLine(number, {"prompt": line.strip()})


def _read_csv(text: str) -> Iterator[PromptLine]:
    """Reads a header and one run per line."""
    lines = io.StringIO(text, newline="\n")
    first = 1
    header = lines.readline()
    if named := _separator_line(header):
        header, first = lines.readline(), 2
    delimiter = named or _delimiter(header) or max(DELIMITERS, key=header.count)
    reader = csv.reader(chain([header], lines), delimiter=delimiter, strict=True)
    try:
        yield from _read_table((reader.line_num + first - 1, cells) for cells in reader)
    except csv.Error as error:
        raise InvalidInputError(f"line {reader.line_num + first - 1} is not CSV ({error})") from None


def _read_workbook(data: bytes) -> Iterator[PromptLine]:
    """Reads the active sheet of an Excel workbook as a table."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise InvalidInputError(
            "is an Excel workbook: pip install 'i4vgen[excel]' reads it, or save it as CSV UTF-8"
        ) from None
    try:
        sheet = load_workbook(io.BytesIO(data), read_only=True, data_only=True).active
        rows = [[_cell(value) for value in row] for row in sheet.iter_rows(values_only=True)] if sheet else []
    except Exception as error:  # openpyxl raises arbitrary exceptions for damaged files
        raise InvalidInputError(
            f"cannot be read as an Excel workbook ({error}): save it as CSV UTF-8"
        ) from None
    yield from _read_table(enumerate(rows, 1))


def _cell(value: object) -> str:
    """Formats a cell as in a CSV file. Excel stores integers as floats, so 7.0 becomes 7."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _read_table(rows: Iterable[tuple[int, list[str]]]) -> Iterator[PromptLine]:
    """Reads a header and one run per line from numbered lines of cells.

    Skips empty cells. A column without a name must be empty.
    """
    filled = ((line, cells) for line, cells in rows if any(cell.strip() for cell in cells))
    _, header = next(filled, (1, []))
    fields = _fields(header)
    if "prompt" not in fields:
        raise InvalidInputError("the first line of a table names its columns: one must be prompt")
    for line, cells in filled:
        while len(cells) > len(header) and not cells[-1].strip():
            cells.pop()
        given = [(field, cell.strip()) for field, cell in zip(fields, cells, strict=False) if cell.strip()]
        error = f"{len(cells)} cells where the header has {len(header)}" if len(cells) > len(header) else ""
        if any(not field for field, _ in given):
            error = "a cell in a column without a name"
        yield PromptLine(line, {field: _convert(field, cell) for field, cell in given if field}, error)


def _read_jsonl(text: str) -> Iterator[PromptLine]:
    """Reads one JSON object per line. Skips null values."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield PromptLine(number, {}, f"is not JSON ({error})")
            continue
        if not isinstance(values, dict):
            yield PromptLine(number, {}, f"must be a JSON object, not {shown(values)}")
            continue
        try:
            fields = _fields(list(values))
        except InvalidInputError as error:
            raise InvalidInputError(f"line {number}: {error}") from None
        given = zip(fields, values.values(), strict=True)
        yield PromptLine(number, {field: value for field, value in given if value is not None})


def _refuse_json(_: str) -> Iterator[PromptLine]:
    raise InvalidInputError("is one JSON document: give a JSONL file, with an object per line")


READERS: dict[str, Callable[[str], Iterator[PromptLine]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".tab": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _refuse_json,
}
"""Readers by file extension."""


def _fields(header: list[str]) -> list[str]:
    """Maps the column names of a header to fields; unnamed columns to an empty string.

    Raises:
        InvalidInputError: A column is unknown, or two columns have the same field.
    """
    known, fields = columns(), []
    for column in header:
        name = re.sub(r"[-\s]+", "_", column.strip().lower())
        field = known.get(name, "" if not name else None)
        if field is None:
            close = get_close_matches(name, known, 1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise InvalidInputError(
                f"unknown column {shown(column)}: {guess}`i4vgen batch --help` names them all"
            )
        if field and field in fields:
            raise InvalidInputError(f"two columns say {field}: keep one")
        fields.append(field)
    return fields


def _convert(field: str, text: str) -> Any:
    """Converts a cell to a number or a list, if its field takes one. Returns other text unchanged."""
    if field == "compare":
        return split_names(text)
    kind = int if field == "anchor" else parameters()[field].kind if field in parameters() else str
    if kind is not str:
        for number in (int, float):
            for spelling in (text, text.replace(",", ".")):  # decimal commas
                with suppress(ValueError):
                    return number(spelling)
    return text
