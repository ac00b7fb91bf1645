"""A small model's words: what it does not know, and prompts composed of what it knows."""

from __future__ import annotations

import json

import pytest

from i4vgen.bundled import EXAMPLES
from i4vgen.serving.runtime import Runtime
from i4vgen.weights.vocabulary import Vocabulary

PHRASES = {
    "subject": [["bird"], ["heart"], ["owl"], ["red heart"], ["orange heart"]],
    "motion": [["rising", "going up"], ["falling"]],
    "setting": [["at sunset"], ["by the sea", "over the sea"]],
}
WORDS = "a an bird heart owl red orange rising going up falling at sunset by the sea over"
KNOWN = Vocabulary(frozenset(WORDS.split()), PHRASES)


@pytest.fixture(scope="module")
def pocket() -> Vocabulary:
    """The vocabulary of the embedded model."""
    vocabulary = Runtime("pocket", "cpu").vocabulary
    assert vocabulary
    return vocabulary


def test_unknown_words_are_named_once_and_in_order():
    assert KNOWN.unknown("A zebra and a bird, zebra 2!") == ["zebra", "and"]


@pytest.mark.parametrize(
    ("prompt", "group", "phrase", "composed"),
    [
        ("", "subject", "bird", "a bird"),
        ("", "motion", "rising", "rising"),
        ("rising at sunset", "subject", "owl", "an owl rising at sunset"),
        ("a bird rising", "subject", "owl", "an owl rising"),
        ("an owl rising", "subject", "bird", "a bird rising"),
        ("a bird rising", "subject", "orange heart", "an orange heart rising"),
        ("an orange heart rising", "subject", "red heart", "a red heart rising"),
        ("a red heart rising", "subject", "heart", "a heart rising"),
        ("bird at sunset", "subject", "owl", "owl at sunset"),
        ("a big bird at sunset", "subject", "owl", "a big owl at sunset"),
        ("a bird", "motion", "rising", "a bird rising"),
        ("a bird going up at sunset", "motion", "falling", "a bird falling at sunset"),
        ("a bird over the sea", "setting", "at sunset", "a bird at sunset"),
    ],
)
def test_a_phrase_takes_the_place_of_the_one_of_its_group(prompt, group, phrase, composed):
    assert KNOWN.compose(prompt, group, phrase) == composed


@pytest.mark.parametrize("group", ["subject", "motion", "setting"])
def test_the_pocket_model_knows_its_phrases_and_finds_each_in_a_prompt(pocket, group):
    prompt = "a bird moving left at sunset"
    usual = {"subject": "bird", "motion": "moving left", "setting": "at sunset"}[group]
    for phrase in (phrase for synonyms in pocket.phrases[group] for phrase in synonyms):
        composed = pocket.compose(prompt, group, phrase)
        assert phrase in composed and pocket.unknown(composed) == []
        assert pocket.compose(composed, group, usual) == prompt


def test_the_examples_are_in_words_that_the_pocket_model_knows(pocket):
    prompts = [entry["prompt"] for entry in json.loads(EXAMPLES.read_text(encoding="utf-8"))]
    assert {prompt: pocket.unknown(prompt) for prompt in prompts} == {prompt: [] for prompt in prompts}
