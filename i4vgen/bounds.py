"""How large anything may be that comes from outside: from a form, a link, a client, a file, a browser's memory.

What is read is measured against these before memory is taken for it. They are far above what people need; what
a single model can run is narrower (`generation_config.Defaults`), and what an app lets its visitors ask for is
narrower still (`ui.limits`).
"""

from __future__ import annotations

import reprlib

from i4vgen.errors import InvalidInputError

MAX_TEXT = 2000  # characters of a prompt: several times what any text encoder reads
MAX_NAME = 1000  # characters of a path or hub id
MAX_LORAS = 16
MAX_PIXELS = 50_000_000  # of a picture: decoding one takes some ten bytes for each
MAX_RUN_PIXELS = 200_000_000  # of all pictures and videos of a run together
MAX_RUN_FILES = 1000  # in a packed run
MAX_JSON = 2**20  # bytes


def check_text(name: str, value: object, most: int = MAX_TEXT) -> str:
    """The value of this name, which must be a text of at most so many characters.

    Raises:
        InvalidInputError: It is none, is longer, or see `check_unicode`.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text, not {shown(value)}")
    if len(value) > most:
        raise InvalidInputError(f"{name} is too long: at most {most} characters, not {len(value)}")
    check_unicode(name, value)
    return value


def check_unicode(name: str, text: str) -> None:
    """Raises `InvalidInputError` for half a character: with it a text can be neither sent nor written down."""
    try:
        text.encode()
    except UnicodeEncodeError:
        words = f"{name} holds characters that are not valid Unicode: type it anew"
        raise InvalidInputError(words) from None


def shown(value: object) -> str:
    """A value as an error may quote it, cut to a sensible length."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
