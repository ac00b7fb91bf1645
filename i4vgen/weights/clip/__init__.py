"""CLIP's tokenizer for Stable Diffusion 1.5, because single-file checkpoints do not contain one.

Only the merges are stored. The vocabulary is derived from them in the order of CLIP's `simple_tokenizer.py`:
the 256 bytes, the same bytes at the end of a word, the result of each merge, and the two special tokens.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

MERGES = Path(__file__).with_name("merges.txt")

LENGTH = 77  # tokens of a prompt, including the special tokens

SPECIAL_TOKENS = ("<|startoftext|>", "<|endoftext|>")


def load_tokenizer() -> CLIPTokenizer:
    """Creates the tokenizer of `openai/clip-vit-large-patch14` without a download."""
    vocabulary, merges = _vocabulary()
    pairs: Any = list(merges)  # CLIPTokenizer annotates them as strings
    return CLIPTokenizer(dict(vocabulary), pairs, model_max_length=LENGTH)


@cache
def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    _, *lines = MERGES.read_text(encoding="utf-8").splitlines()
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    # In sorted order, the printable bytes come before the substitutes for all others.
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), *SPECIAL_TOKENS]
    return {piece: number for number, piece in enumerate(pieces)}, merges
