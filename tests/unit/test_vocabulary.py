"""A small model's words: what it does not know, and prompts composed of what it knows."""

from __future__ import annotations

import pytest

from i4vgen.serving.runtime import Runtime
from i4vgen.weights.vocabulary import Vocabulary

PHRASES = {
    "subject": [["rocket"], ["octopus"], ["ufo"]],
    "colour": [["red"], ["golden"]],
    "motion": [["rising", "going up"], ["falling"]],
    "setting": [["at sunset"], ["by the sea", "over the sea"]],
}
KNOWN = Vocabulary(
    frozenset(
        [
            "a",
            "an",
            "rocket",
            "octopus",
            "rising",
            "going",
            "up",
            "falling",
            "at",
            "sunset",
            "by",
            "the",
            "sea",
            "over",
        ]
    ),
    PHRASES,
)


def test_unknown_words_are_named_once_and_in_order():
    assert KNOWN.unknown("A zebra and a rocket, zebra 2!") == ["zebra", "and"]


@pytest.mark.parametrize(
    ("prompt", "group", "phrase", "composed"),
    [
        ("", "subject", "rocket", "a rocket"),
        ("rising at sunset", "subject", "octopus", "an octopus rising at sunset"),
        ("a rocket rising", "subject", "octopus", "an octopus rising"),
        ("an octopus rising", "subject", "ufo", "a ufo rising"),
        ("a rocket", "motion", "rising", "a rocket rising"),
        ("an octopus rising", "colour", "red", "a red octopus rising"),
        ("a red rocket", "colour", "golden", "a golden rocket"),
        ("a red rocket", "subject", "octopus", "a red octopus"),
        ("", "colour", "red", "a red"),
        ("a red rising", "subject", "octopus", "a red octopus rising"),
        ("a rocket going up at sunset", "motion", "falling", "a rocket falling at sunset"),
        ("a rocket over the sea", "setting", "at sunset", "a rocket at sunset"),
    ],
)
def test_a_phrase_takes_the_place_of_the_one_of_its_group(prompt, group, phrase, composed):
    assert KNOWN.compose(prompt, group, phrase) == composed


def test_the_pocket_model_offers_phrases_that_it_knows():
    vocabulary = Runtime("pocket", "cpu").vocabulary
    ways = [way for things in vocabulary.phrases.values() for ways in things for way in ways]
    assert len(vocabulary.phrases["subject"]) >= 12
    assert [vocabulary.unknown(way) for way in ways] == [[] for _ in ways]
