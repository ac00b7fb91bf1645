"""A CLIPTokenizer whose vocabulary is the words of the captions, one token a word."""

from __future__ import annotations

import string

from transformers import CLIPTokenizer

from training.loop import Run


def load_or_make_tokenizer(run: Run) -> CLIPTokenizer:
    """The one tokenizer of a run. Training one again would number the tokens differently, so it is kept."""
    folder = run.folder / "tokenizer"
    if not folder.exists():
        make_tokenizer(run.preset.words, run.preset.max_tokens).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def make_tokenizer(words: list[str], max_tokens: int) -> CLIPTokenizer:
    """Learns byte-pair merges until every known word is a single token; unknown words fall into pieces."""
    letters = " ".join(string.ascii_lowercase)
    tokenizer = CLIPTokenizer().train_new_from_iterator(
        [[" ".join(words), letters]], vocab_size=10_000, show_progress=False
    )
    tokenizer.model_max_length = max_tokens
    broken = [word for word in words if len(tokenizer.tokenize(word)) != 1]
    if broken:
        raise ValueError(f"words of more than one token: {', '.join(broken)}")
    return tokenizer
