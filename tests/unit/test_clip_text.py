"""Prompts of any length and with weights, as the text encoder of Stable Diffusion sees them."""

import subprocess
import sys

import pytest
import torch

from i4vgen.backbones.clip_text import encode_texts, encode_weighted
from tests.conftest import ROOT

LONG = "a red rocket over the sea in the night, the car rising, a blue sea over the night falling"
CPU = torch.device("cpu")


@pytest.fixture
def encode(pipeline):
    """encode(texts...): embeddings [B, tokens, D]."""
    backbone = pipeline.backbone

    def call(*texts, function=encode_texts, **options):
        with torch.inference_mode():
            return function(backbone.tokenizer, backbone.text_encoder, texts, CPU, **options)

    return call


def test_a_prompt_without_weights_is_encoded_as_diffusers_does(encode):
    texts = ("a red rocket", "")
    assert torch.equal(encode(*texts), encode(*texts, to_the_end=False))
    torch.testing.assert_close(encode(*texts), encode(*texts, function=encode_weighted), rtol=0, atol=1e-5)
    assert torch.equal(encode("a (red:1.0) rocket"), encode("a red rocket"))


def test_all_of_a_long_prompt_is_read(encode):
    short, long = encode("a red rocket"), encode(LONG)
    pieces, rest = divmod(long.shape[1], short.shape[1])
    assert pieces > 1 and rest == 0
    assert not torch.allclose(long, encode(LONG.replace("falling", "rising")))
    assert torch.equal(encode(LONG, to_the_end=False), encode(LONG.replace("falling", "sea"), to_the_end=False))


def test_the_shorter_of_two_prompts_is_padded_with_nothing(encode):
    long, short = encode(LONG, "a car")
    width = encode("a car").shape[1]
    torch.testing.assert_close(short[:width], encode("a car")[0], rtol=0, atol=1e-5)
    for piece in short.split(width)[1:]:
        torch.testing.assert_close(piece, encode("")[0], rtol=0, atol=1e-5)
    assert len(long) == len(short)


def test_weights_move_words_away_from_nothing_and_towards_being_left_out(encode):
    plain, nothing = encode("a red car", function=encode_weighted)[0], encode("")[0]
    heavy, light = encode("a (red:1.5) car")[0], encode("a (red:0.5) car")[0]
    changed = (heavy - plain).abs().amax(-1) > 1e-6
    assert changed.sum() == 1, "the token of red alone"
    at = int(changed.nonzero())
    torch.testing.assert_close(heavy[at], nothing[at] + 1.5 * (plain[at] - nothing[at]))
    assert not torch.allclose(light, plain)
    torch.testing.assert_close(encode("a (red:1) car")[0], plain, rtol=0, atol=1e-5)


def test_weights_reach_into_what_is_beyond_the_encoders_length(encode):
    plain, heavy = encode(LONG)[0], encode(LONG.replace("falling", "(falling:1.4)"))[0]
    width = encode("").shape[1]
    assert plain.shape == heavy.shape
    torch.testing.assert_close(plain[:width], heavy[:width], rtol=0, atol=1e-5)
    assert not torch.allclose(plain[width:], heavy[width:])


def test_a_model_of_few_words_reads_to_its_encoders_end_and_says_so(pipeline, runtime):
    assert not pipeline.backbone.reads_to_the_end
    embeds = pipeline.backbone.encode_prompt(LONG, "")
    assert embeds.prompt.shape[1] == pipeline.backbone.tokenizer.model_max_length
    assert runtime.unread(LONG) and runtime.unread(f"({LONG}:1.2)") == runtime.unread(LONG)


@pytest.mark.slow
def test_compel_is_imported_for_prompts_that_need_it_and_prints_nothing():
    script = (
        "import sys, i4vgen.backbones.animatediff\n"
        "assert 'compel' not in sys.modules\n"
        "from i4vgen.backbones.clip_text import _provider_class as load; load()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_run_with_weights_differs_by_them_alone(pipeline, make_config):
    def last(prompt):
        config = make_config(prompt=prompt, num_candidates=1, num_inference_steps=2)
        return list(pipeline.run(config, anchor=0, compare=()))[-1]

    plain = last("a red car")
    assert (last("a red car").frames == plain.frames).all()
    assert (last("a (red:1.0) car").latents == plain.latents).all()
    assert (last("a (red:3) car").latents != plain.latents).any()
