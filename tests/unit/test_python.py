"""The package as it is used from Python."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from PIL import Image

import i4vgen
from i4vgen import I4VGenPipeline
from i4vgen.errors import I4VGenError, InvalidInputError, ModelError
from i4vgen.events import Candidate, Preview, Progress, Result, Stage
from i4vgen.serving.imports import gc_paused
from tests.support.imports import run_and_list_imports

PROMPT = "a red rocket rising"


@pytest.fixture(scope="module")
def pipe(tiny_model_dir) -> I4VGenPipeline:
    return I4VGenPipeline.from_pretrained(tiny_model_dir, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def out(pipe):
    return pipe(PROMPT, seed=7, num_candidates=3, compare=["vanilla"])


def test_importing_it_is_cheap():
    text, imports = run_and_list_imports("-c", "import i4vgen; print(dir(i4vgen), i4vgen.__version__)")
    assert "I4VGenPipeline" in text
    assert not any(name in imports for name in ("torch", "numpy", "PIL"))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = i4vgen.nothing


def test_what_a_call_returns(pipe, out):
    assert out.frames.shape == (4, 32, 24, 3) and out.frames.dtype == np.uint8
    assert [candidate.index for candidate in out.candidates] == [0, 1, 2]
    best = max(out.candidates, key=lambda candidate: candidate.score)
    assert (out.anchor.index, out.anchor.reason, out.anchor.scores) == (
        best.index,
        "highest reward",
        best.scores,
    )
    assert np.array_equal(out.anchor.image, best.image) and np.array_equal(out.anchor.latents, best.latents)
    assert list(out.videos) == ["ni_vsds", "i4vgen", "vanilla"]
    assert out.videos["vanilla"].latents.shape == (4, 4, 8, 6) and out.frames is out.videos["i4vgen"].frames
    assert (out.config.seed, out.config.num_inference_steps) == (7, 5), "what is left out is the model's"


def test_it_is_what_the_runtime_computes(runtime, out):
    events = list(runtime.stream(lambda pipeline: pipeline.run(out.config)))
    made = {event.name: event.frames for event in events if isinstance(event, Result)}
    assert all(np.array_equal(made[name], video.frames) for name, video in out.videos.items())


def test_the_initial_noise_is_where_the_vanilla_video_starts(pipe, out):
    latents = noise = pipe.initial_noise(out.config)
    assert noise.shape == (1, 4, 4, 8, 6) and noise.device.type == "cpu"
    prompt_embeds = pipe.backbone.encode_prompt(PROMPT, "")
    sampler = pipe.backbone.sampler(out.config.sampler, out.config.num_inference_steps)
    for level in sampler.levels:
        prediction = pipe.backbone.predict(latents, level, prompt_embeds, out.config.guidance_scale)
        latents = sampler.step(prediction, [])
    assert np.array_equal(latents[0].numpy(), out.videos["vanilla"].latents)


@pytest.mark.parametrize("how", ["index", "numpy index", "candidate"])
def test_a_candidate_as_the_anchor(pipe, out, how):
    candidate = out.candidates[2]
    anchor = {"index": 2, "numpy index": np.int64(2), "candidate": candidate}[how]
    picked = pipe(PROMPT, seed=7, num_candidates=3, anchor=anchor)
    assert (picked.anchor.index, picked.anchor.reason, picked.anchor.scores) == (2, "picked", candidate.scores)
    assert np.array_equal(picked.anchor.latents, candidate.latents)
    assert len(picked.candidates) == (0 if how == "candidate" else 3)


def test_an_earlier_anchor_again(pipe, out):
    again = pipe(PROMPT, seed=7, anchor=out.anchor)
    assert np.array_equal(again.frames, out.frames) and again.anchor.scores == out.anchor.scores


def test_an_image_as_the_anchor(pipe, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "mine.png")
    outs = [
        pipe(PROMPT, anchor=image) for image in (picture, Image.fromarray(picture), str(tmp_path / "mine.png"))
    ]
    assert all(np.array_equal(each.frames, outs[0].frames) for each in outs)
    anchor = outs[0].anchor
    assert (anchor.index, anchor.reason, anchor.scores) == (None, "uploaded image", {})
    assert anchor.image.shape == (32, 24, 3) and anchor.latents.shape == (4, 1, 8, 6)


def test_a_stream_tells_the_same_step_by_step(pipe, out):
    events = list(pipe.stream(PROMPT, seed=7, num_candidates=3, compare="vanilla", previews=10.0))
    kinds = {type(event) for event in events}
    assert {Stage, Progress, Preview, Candidate, Result} <= kinds
    result = next(event for event in events if isinstance(event, Result) and event.name == "i4vgen")
    assert np.array_equal(result.frames, out.frames)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_candidate": 3}, "unknown setting 'num_candidate': known are .*num_candidates"),
        ({"num_frames": 99}, "num_frames must be at most 8"),
        ({"compare": ["chocolate"]}, "cannot compare with 'chocolate': only with vanilla"),
        ({"anchor": 99}, "index of a candidate, from 0 to 15, not 99"),
        ({"anchor": 0.5}, "anchor must be .*not float"),
        ({"anchor": np.zeros((8, 8, 1), np.uint8)}, r"anchor must be .*uint8 \[H, W, 3\]"),
        ({"anchor": "none.png"}, "none.png does not exist"),
    ],
)
def test_what_is_unknown_or_wrong_is_named(pipe, given, words):
    with pytest.raises(InvalidInputError, match=words):
        pipe(PROMPT, **given)


def test_a_model_that_cannot_be_loaded():
    with pytest.raises(ModelError, match=r"there is no model '\./nowhere'"):
        I4VGenPipeline.from_pretrained("./nowhere")
    with pytest.raises(InvalidInputError, match="there is no reward 'mine'"):
        I4VGenPipeline.from_pretrained("pocket", rewards=["mine"])
    with pytest.raises(I4VGenError, match="device 'toaster' is not available"):
        I4VGenPipeline.from_pretrained("pocket", device="toaster")


def test_imports_give_the_garbage_collector_back():
    with gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
