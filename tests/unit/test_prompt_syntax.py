"""What prompts say beside words."""

import pytest

from i4vgen.weights.prompt_syntax import Span, literal_syntax, named_loras, weighted_parts, without_weights


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("", []),
        ("  ", []),
        ("a red rocket", [("a red rocket", 1)]),
        ("a (red:1.3) rocket", [("a ", 1), ("red", 1.3), (" rocket", 1)]),
        ("(a red rocket: 0.5 )", [("a red rocket", 0.5)]),
        ("(a:2)(b:.5)", [("a", 2), ("b", 0.5)]),
        ("(a (red:1.5) rocket:2), sea", [("a ", 2), ("red", 3), (" rocket", 2), (", sea", 1)]),
        ("((red:1.5) rocket:2)", [("red", 3), (" rocket", 2)]),
        ("a (red) rocket", [("a (red) rocket", 1)]),
        ("a (very (red) bright:1.5) sea", [("a ", 1), ("very (red) bright", 1.5), (" sea", 1)]),
        ("a clock (10:30)", [("a clock (10:30)", 1)]),
        ("wide (16:9), narrow (4:3)", [("wide (16:9), narrow (4:3)", 1)]),
        ("(red:1.3", [("(red:1.3", 1)]),
        ("red:1.3)", [("red:1.3)", 1)]),
        ("(:1.3)", [("(:1.3)", 1)]),
        ("(red:99.5) (blue:5)", [("(red:99.5) (blue:5)", 1)]),
        (":) (a smile:1.2)", [(":) ", 1), ("a smile", 1.2)]),
        ("(красный:1.2)", [("красный", 1.2)]),
    ],
)
def test_weights(prompt, parts):
    found = weighted_parts(prompt)
    assert [part.text for part in found] == [text for text, _ in parts]
    assert [part.weight for part in found] == pytest.approx([weight for _, weight in parts])


def test_a_prompt_without_weights_is_left_as_it_is():
    for prompt in ("a c++ (old) [book]", "((masterpiece)), best", "a) b ( c", "()"):
        assert without_weights(prompt) == prompt
        assert weighted_parts(prompt) == [Span(prompt)]
    assert without_weights("a (red:1.3) rocket") == "a red rocket"


def test_what_is_read_as_words_is_named():
    prompt = (
        "a [red|blue] car, <lora:zoom:0.8> <LORA:film>, embedding:easyneg, [a:b:0.5] <lora:zoom:0.8> <3 [x]"
    )
    assert literal_syntax(prompt) == [
        "[red|blue]", "<lora:zoom:0.8>", "<LORA:film>", "embedding:easyneg", "[a:b:0.5]"
    ]  # fmt: skip
    assert named_loras(prompt) == ["zoom@0.8", "film"]
    assert literal_syntax("a red car (blue:1.2)") == named_loras("") == []
