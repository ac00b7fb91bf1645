"""A CLIPTokenizer whose vocabulary is the words of the captions, one token a word."""

from __future__ import annotations

import string

from torch import Tensor, nn
from transformers import CLIPTokenizer

from training.loop import Run


def load_or_make_tokenizer(run: Run) -> CLIPTokenizer:
    """The one tokenizer of a run. Training one again would number the tokens differently, so it is kept."""
    folder = run.folder / "tokenizer"
    if not folder.exists():
        make_tokenizer(run.preset.words, run.preset.max_tokens).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def begin_reading(run: Run, network: nn.Module, name: str, tokenizer: CLIPTokenizer) -> nn.Module:
    """The network with the weights of the exported model that the run starts from, if there is one. Words that
    both know keep what they mean, the others are new.
    """
    if run.start_from is None:
        return network
    state: dict[str, Tensor] = type(network).from_pretrained(run.start_from / name).float().state_dict()
    (embedding,) = (key for key in state if key.endswith("token_embedding.weight"))
    places = (run.start_from / place for place in (name, "tokenizer"))  # a reward has a tokenizer of its own
    known = CLIPTokenizer.from_pretrained(
        next(place for place in places if (place / "tokenizer.json").exists())
    ).get_vocab()
    values = network.state_dict()[embedding].clone()
    for token, number in tokenizer.get_vocab().items():
        if token in known:
            values[number] = state[embedding][known[token]]
    network.load_state_dict(state | {embedding: values})
    return network


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
