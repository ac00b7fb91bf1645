"""What a request accepts, fills in and refuses."""

import dataclasses
import json

import pytest

from i4vgen.config import Defaults, GenerationConfig, InvalidInputError, range_for

DEFAULTS = Defaults(num_frames=8, height=64, width=96, guidance_scale=4.0, max_frames=12, size_multiple=8)


def make(**given) -> GenerationConfig:
    return GenerationConfig.for_model(DEFAULTS, **{"prompt": "a cat"} | given)


def test_absent_values_come_from_the_model():
    config = make(seed=3, width=None)
    assert (config.num_frames, config.height, config.width) == (8, 64, 96)
    assert (config.guidance_scale, config.seed, config.num_candidates) == (4.0, 3, 16)


def test_dict_round_trip():
    config = make(seed=2**62, p_re=0.8, negative_prompt="fog")
    assert GenerationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_parameter_that_is_younger_than_files_of_runs_changes_none_of_them():
    assert "animate_best" not in make().to_dict()
    searching = make(animate_best=3)
    assert searching.to_dict() == make().to_dict() | {"animate_best": 3}
    assert GenerationConfig.from_dict(searching.to_dict()) == searching


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().seed = 1


@pytest.mark.parametrize(
    ("steps", "p_ni_vsds", "p_re", "ni_vsds_steps", "regeneration_steps"),
    [
        (25, 0.6, 1.0, 16, 25),
        (50, 0.6, 0.8, 31, 40),
        (25, 1.0, 1.0, 25, 25),  # floor + 1, but there are only 25 timesteps
        (10, 0.0, 0.25, 1, 2),
    ],
)
def test_steps_of_stage_2(steps, p_ni_vsds, p_re, ni_vsds_steps, regeneration_steps):
    config = make(num_inference_steps=steps, p_ni_vsds=p_ni_vsds, p_re=p_re)
    assert config.ni_vsds_steps == ni_vsds_steps
    assert config.regeneration_steps == regeneration_steps


@pytest.mark.parametrize("value", [8, 8.0])
def test_whole_numbers_may_come_as_floats(value):
    config = make(num_frames=value)
    assert config.num_frames == 8 and isinstance(config.num_frames, int)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": 5}, "prompt must be text"),
        ({"prompt": "long " * 1000}, "prompt is too long: at most 2000 characters, not 5000"),
        ({"negative_prompt": "a \ud800"}, "negative_prompt holds characters that are not valid Unicode"),
        ({"seed": "9" * 5000}, r"not '9+\.\.\.9+'$"),
        ({"num_candidates": 0}, "num_candidates must be a whole number from 1 to 64, not 0"),
        ({"num_candidates": 65}, "from 1 to 64"),
        ({"num_candidates": True}, "whole number"),
        ({"num_candidates": 2.5}, "whole number"),
        ({"seed": -1}, "seed must be"),
        ({"seed": "7"}, "seed must be"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_frames": 1}, "num_frames"),
        ({"num_frames": 13}, "at most 12 for this model"),
        ({"height": 60}, "multiple of 8 for this model, not 60: try 56 or 64"),
        ({"width": 1_000_000}, "width must be"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_scale": float("inf")}, "guidance_scale"),
        ({"guidance_scale": 10**400}, "guidance_scale must be a number from 0 to 100, not 10"),
        ({"seed": float("nan")}, "seed must be"),
        ({"seed": float("inf")}, "seed must be"),
        ({"seed": -(10**400)}, "seed must be a whole number"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"p_ni_vsds": 1.1}, "p_ni_vsds must be a number from 0 to 1"),
        ({"p_re": 0}, "leaves nothing to regenerate"),
        ({"num_inference_steps": 4, "p_re": 0.2}, "p_re must be at least 0.25"),
        ({"candidate_batch_size": 0}, "candidate_batch_size"),
        ({"animate_best": 0}, "animate_best must be a whole number from 1 to 64, not 0"),
        ({"animate_best": 4, "num_candidates": 3}, "at most 3, as many .* finishes, not 4: draw more"),
        ({"candidats": 3}, "unknown setting 'candidats'"),
    ],
)
def test_wrong_values_say_what_to_do_in_one_line(given, words):
    with pytest.raises(InvalidInputError, match=words) as error:
        make(**given)
    assert "\n" not in str(error.value)


def test_missing_values_are_named():
    with pytest.raises(InvalidInputError, match="num_frames is missing"):
        GenerationConfig.from_dict({"prompt": "a cat"})


def test_videos_whose_latents_fold_time_have_a_multiple_of_frames_plus_one():
    folded = Defaults(num_frames=9, height=64, width=96, max_frames=21, frames_per_latent=4)
    assert range_for("num_frames", folded) == (5, 21, 4) and range_for("num_frames", DEFAULTS) == (2, 12, 1)
    assert [folded.latent_frames(count) for count in (1, 5, 9, 21)] == [1, 2, 3, 6]
    assert GenerationConfig.for_model(folded, prompt="a car", num_frames=13).num_frames == 13
    for wrong, advice in ((8, "try 5 or 9"), (3, "try 5 or 9"), (11, "try 9 or 13")):
        with pytest.raises(InvalidInputError, match=f"not {wrong}: {advice}"):
            GenerationConfig.for_model(folded, prompt="a car", num_frames=wrong)
