"""What a model reads of a prompt: the words that it knows, if it was trained on few, and how far it reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

COLOUR = "colour"  # the group whose phrases stand before the subject


@dataclass(frozen=True)
class Vocabulary:
    """What a model can read.

    words: all of them. phrases: by what they say (the first group is the subject), for each thing the ways to
    say it; the first way is the usual one.
    """

    words: frozenset[str]
    phrases: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)

    def unknown(self, prompt: str) -> list[str]:
        """The words of the prompt that the model does not know, in order, each once."""
        words = re.findall(r"[^\W\d_]+", prompt.lower())
        return list(dict.fromkeys(word for word in words if word not in self.words))

    def compose(self, prompt: str, group: str, phrase: str) -> str:
        """The prompt with this phrase in the place of the one of its group, or added to it."""
        found = self._find(group, prompt)
        if found:
            prompt = prompt[: found.start()] + phrase + prompt[found.end() :]
        elif group == self._subject:
            described = self._find(COLOUR, prompt)
            start = described.end() if described else 0
            article = "" if described else "a "
            prompt = f"{prompt[:start]} {article}{phrase} {prompt[start:]}"
        elif group == COLOUR:
            noun = self._find(self._subject, prompt)
            start, article = (noun.start(), "") if noun else (0, "a ")
            prompt = f"{prompt[:start]}{article}{phrase} {prompt[start:]}"
        else:
            prompt = f"{prompt} {phrase}"
        if group in (self._subject, COLOUR):
            article = "an" if phrase[0] in "aeio" else "a"  # but a ufo, a unicorn
            prompt = re.sub(rf"\ban? (?={re.escape(phrase)}\b)", f"{article} ", prompt)
        return " ".join(prompt.split())

    @property
    def _subject(self) -> str:
        return next(iter(self.phrases))

    def _find(self, group: str, prompt: str) -> re.Match[str] | None:
        """Where the prompt says something of this group."""
        ways = (way for ways in self.phrases.get(group, ()) for way in ways)
        known = "|".join(map(re.escape, sorted(ways, key=len, reverse=True)))
        return re.search(rf"\b({known})\b", prompt) if known else None


def cut_off(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The end of the prompt that the text encoder never sees, in whole words; empty if it reads all."""
    # Without truncation, which would change the tokenizer: other threads may be using it.
    tokens = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    offsets = tokens["offset_mapping"]
    if len(offsets) <= room:
        return ""
    start, _ = offsets[room]
    before = re.search(r"\S*$", prompt[:start])
    return prompt[before.start() if before else start :].strip()
