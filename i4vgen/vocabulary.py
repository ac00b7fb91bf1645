"""The words of a model that was trained on few: which ones it does not know, and prompts made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


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
        known = sorted((way for ways in self.phrases[group] for way in ways), key=len, reverse=True)
        found = re.search(rf"\b({'|'.join(map(re.escape, known))})\b", prompt)
        is_subject = group == next(iter(self.phrases))
        if found:
            prompt = prompt[: found.start()] + phrase + prompt[found.end() :]
        elif is_subject:
            prompt = f"a {phrase} {prompt}"
        else:
            prompt = f"{prompt} {phrase}"
        if is_subject:
            article = "an" if phrase[0] in "aeio" else "a"  # but a ufo, a unicorn
            prompt = re.sub(rf"\ban? (?={re.escape(phrase)}\b)", f"{article} ", prompt)
        return " ".join(prompt.split())
