"""Text format for several LoRAs in one field. Does not import Gradio.

LoRAs are separated by spaces. A name with spaces must be in quotes, unless it starts as a path does
(such as ~, /, ./ or C:/) and ends with the suffix of a weights file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_START = r"(?:~|/|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\)"
_WEIGHT = r"(?:@[-+.\d]+)?"
_ITEM = re.compile(
    rf'"(?P<double>(?:\\"|[^"])*)"(?P<after_double>{_WEIGHT})(?=\s|$)'
    rf"|'(?P<single>[^']*)'(?P<after_single>{_WEIGHT})(?=\s|$)"
    rf"|(?P<path>{_START}(?:(?!\s{_START}).)*?\.(?:safetensors|ckpt|pt|pth|bin){_WEIGHT})(?=\s|$)"
    r"|(?P<word>\S+)",
    re.IGNORECASE,
)


def split_loras(text: str) -> tuple[str, ...]:
    """Returns the LoRAs named in a text, in order."""
    found = []
    for item in _ITEM.finditer(text):
        if item["double"] is not None:
            found.append(item["double"].replace('\\"', '"') + item["after_double"])
        elif item["single"] is not None:
            found.append(item["single"] + item["after_single"])
        else:
            found.append(item["path"] or item["word"])
    return tuple(filter(None, found))


def join_loras(loras: Iterable[str]) -> str:
    """Joins LoRAs into a text that `split_loras` splits again."""
    return " ".join(map(_quoted, loras))


def _quoted(lora: str) -> str:
    if split_loras(lora) == (lora,) and not lora.startswith(('"', "'")) and " " not in lora:
        return lora
    return '"' + lora.replace('"', '\\"') + '"'
