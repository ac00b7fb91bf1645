"""Size limits for all untrusted input: forms, links, clients, files and the browser's storage.

Pictures and videos are checked before they are decoded. The limits are far above normal use. Models
(`config.Defaults`) and servers (`serving.limits`) set stricter ones.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator

from i4vgen.errors import InvalidInputError

MAX_TEXT = 2000  # characters of a prompt, about as many as Wan's text encoder reads
MAX_NAME = 1000  # characters of a path or hub id
MAX_LORAS = 16
MAX_PIXELS = 50_000_000  # per picture; decoding takes about ten bytes per pixel
MAX_JPEG_PIXELS = 250_000_000  # per JPEG, which can be decoded at a reduced size
MAX_RUN_PIXELS = 200_000_000  # all pictures and videos of a run together
MAX_RUN_FILES = 1000  # files in a packed run
MAX_JSON = 2**20  # bytes

SHORT_NAME = 60  # characters of a file name in a message


def check_text(name: str, value: object, max_length: int = MAX_TEXT) -> str:
    """Returns the value if it is valid text of at most `max_length` characters.

    Args:
        name: The value's name in error messages.

    Raises:
        InvalidInputError: The value is not text, is too long, or is not valid Unicode.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text, not {shown(value)}")
    if len(value) > max_length:
        raise InvalidInputError(f"{name} is too long: at most {max_length} characters, not {len(value)}")
    check_unicode(name, value)
    return value


def check_unicode(name: str, text: str) -> None:
    """Raises `InvalidInputError` if the text has unpaired surrogates, which UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"{name} holds characters that are not valid Unicode: retype it") from None


def texts_in(value: object) -> Iterator[str]:
    """Yields all strings in a JSON value except the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)


def short_name(path: object) -> str:
    """Returns the last component of a path, shortened for a message."""
    name = re.split(r"[/\\]", str(path).rstrip("/\\"))[-1]
    return name if len(name) <= SHORT_NAME else f"{name[: SHORT_NAME - 12]}...{name[-9:]}"


def shown(value: object) -> str:
    """Returns the repr of a value, shortened for a message."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
