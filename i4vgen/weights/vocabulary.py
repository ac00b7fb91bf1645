"""The limits on the prompts that a model can read: its vocabulary and the longest prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a model that was trained on a small set of words.

    Attributes:
        words: All known words.
        phrases: The phrases of each group; the first group is the subject. Each entry of a group lists
            synonyms, the usual one first.
    """

    words: frozenset[str]
    phrases: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)

    def unknown(self, prompt: str) -> list[str]:
        """Returns the unknown words of a prompt in order, without duplicates."""
        words = re.findall(r"[^\W\d_]+", prompt.lower())
        return list(dict.fromkeys(word for word in words if word not in self.words))

    def compose(self, prompt: str, group: str, phrase: str) -> str:
        """Returns the prompt with its phrase of a group replaced by `phrase`, which is added if there is none.

        A new subject goes to the start of the prompt, other phrases go to the end. "a" and "an" are added or
        corrected as needed.
        """
        is_subject = group == next(iter(self.phrases))
        if found := self._find(group, prompt):
            prompt = prompt[: found.start()] + phrase + prompt[found.end() :]
        else:
            prompt = f"a {phrase} {prompt}" if is_subject else f"{prompt} {phrase}"
        if is_subject:
            article = "an" if phrase[0] in "aeio" else "a"  # "u" is left out for words such as "unicorn"
            prompt = re.sub(rf"\ban? (?={re.escape(phrase)}\b)", f"{article} ", prompt)
        return " ".join(prompt.split())

    def _find(self, group: str, prompt: str) -> re.Match[str] | None:
        """Finds the first phrase of a group in the prompt; None if there is none."""
        phrases = (phrase for synonyms in self.phrases.get(group, ()) for phrase in synonyms)
        pattern = "|".join(map(re.escape, sorted(phrases, key=len, reverse=True)))
        return re.search(rf"\b({pattern})\b", prompt) if pattern else None


def cut_off(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """Returns the end of the prompt that exceeds the text encoder's context, in whole words; "" if it fits."""
    # Truncation would change the state of the tokenizer, which other threads may be using.
    tokens = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    offsets = tokens["offset_mapping"]
    if len(offsets) <= room:
        return ""
    start, _ = offsets[room]
    before = re.search(r"\S*$", prompt[:start])
    return prompt[before.start() if before else start :].strip()
