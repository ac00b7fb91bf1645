"""Parses weights in prompts, and finds other programs' syntax that is unsupported and read as text."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_WEIGHT = 4.0
"""The largest supported weight. Above 1.6, Stable Diffusion's results are rarely useful."""

_WEIGHT = re.compile(r"(.*):\s*(\d|\d?\.\d+)\s*", re.S)
_LORA = re.compile(r"<(?:lora|lyco):([^<>:]+)(?::([\d.]+))?[^<>]*>", re.I)
_LITERAL = re.compile(
    r"<(?:lora|lyco|hypernet):[^<>]*>"  # networks
    r"|\[[^\[\]|]*\|[^\[\]]*\]"  # alternating words
    r"|\[[^\[\]:]*:[^\[\]:]*:[\d.]+\]"  # words that switch during sampling
    r"|\bembedding:[^\s,]+",
    re.I,
)


@dataclass(frozen=True)
class Span:
    """A span of a prompt with its weight, which is 1 outside parentheses."""

    text: str
    weight: float = 1.0


def weighted_parts(prompt: str) -> list[Span]:
    """Splits a prompt by weights such as (a red rocket:1.3). Nested weights multiply.

    Other parentheses remain text. An empty prompt has no parts.
    """
    parts, opened = [Span("")], []

    def add(text: str) -> None:
        parts[-1] = Span(parts[-1].text + text, parts[-1].weight)

    for piece in re.split(r"([()])", prompt):
        if piece == "(":
            opened.append(len(parts))
            parts.append(Span(""))
        elif piece == ")" and opened:
            start = opened.pop()
            match = _WEIGHT.fullmatch(parts[-1].text)
            words = "".join(part.text for part in parts[start:-1]) + (match[1] if match else "")
            if match and float(match[2]) <= MAX_WEIGHT and re.search(r"[^\W\d_]", words):  # not (16:9)
                parts[-1] = Span(match[1], parts[-1].weight)
                parts[start:] = [Span(part.text, part.weight * float(match[2])) for part in parts[start:]]
                parts.append(Span(""))
            else:
                parts[start] = Span("(" + parts[start].text, parts[start].weight)
                add(")")
        else:
            add(piece)
    for start in opened:  # parentheses that were never closed
        parts[start] = Span("(" + parts[start].text, parts[start].weight)
    return _joined(parts)


def _joined(parts: list[Span]) -> list[Span]:
    """Joins parts of equal weight, adds blank parts to the part before, and drops leading blank parts."""
    joined: list[Span] = []
    for part in parts:
        if joined and joined[-1].weight == part.weight:
            joined[-1] = Span(joined[-1].text + part.text, part.weight)
        elif part.text.strip():
            joined.append(part)
        elif joined:
            joined[-1] = Span(joined[-1].text + part.text, joined[-1].weight)
    return joined


def without_weights(prompt: str) -> str:
    """Returns a prompt without its weights and their parentheses."""
    return "".join(part.text for part in weighted_parts(prompt))


def has_weights(prompt: str) -> bool:
    """Returns whether any part of a prompt has a weight other than 1."""
    return any(part.weight != 1 for part in weighted_parts(prompt))


def literal_syntax(prompt: str) -> list[str]:
    """Returns other programs' syntax, such as <lora:zoom:0.8>, [a|b] or embedding:name, without duplicates."""
    return list(dict.fromkeys(match[0] for match in _LITERAL.finditer(prompt)))


def named_loras(prompt: str) -> list[str]:
    """Returns LoRAs such as <lora:zoom:0.8> in the format of the LoRA setting, zoom@0.8, without duplicates."""
    found = (match.groups() for match in _LORA.finditer(prompt))
    return list(dict.fromkeys(f"{name}@{weight}" if weight else name for name, weight in found))
