"""The same request gives the same bytes."""

import numpy as np
import pytest

from i4vgen.events import Candidate, Result
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.rewards.pocket import PocketReward


def arrays(events) -> list[np.ndarray]:
    return [
        array
        for event in events
        if isinstance(event, (Candidate, Result))
        for array in (event.latents, event.image if isinstance(event, Candidate) else event.frames)
    ]


def test_same_request_same_bytes(pipeline, make_config):
    first = arrays(pipeline.run(make_config(seed=7)))
    # Whatever ran in between, and whatever others did to the global generator, must not matter.
    list(pipeline.comparison("vanilla", make_config(seed=8, num_frames=6)))
    second = arrays(pipeline.run(make_config(seed=7)))
    assert len(first) == 12
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_loading_of_the_model_gives_the_same(pipeline, tiny_model_dir, make_config):
    reward = PocketReward.from_pretrained(str(tiny_model_dir))
    again = I4VGenPipeline(type(pipeline.backbone).from_pretrained(str(tiny_model_dir)), [reward])
    first, second = (arrays(p.run(make_config(), compare=())) for p in (pipeline, again))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("change", [{"seed": 1}, {"prompt": "a blue car"}, {"guidance_scale": 1.0}])
def test_another_request_gives_another_video(pipeline, make_config, change):
    first, second = (arrays(pipeline.comparison("vanilla", make_config(**given))) for given in ({}, change))
    assert not np.array_equal(first[0], second[0])


def test_the_reward_is_calibrated_and_reads_lower_case(tiny_model_dir, picture):
    from PIL import Image

    reward = PocketReward.from_pretrained(str(tiny_model_dir))
    images = [Image.fromarray(picture), Image.new("L", (9, 50), 200)]
    scores = reward.score("A Red ROCKET", images)
    assert scores == reward.score("a red rocket", images)
    np.testing.assert_allclose(scores[1], reward.score("a red rocket", images[1:])[0], atol=1e-5)
    raw = PocketReward(reward.clip, reward.tokenizer, 0.0, 1.0).score("a red rocket", images)
    np.testing.assert_allclose(scores, [(value - 0.5) / 2.0 for value in raw], atol=1e-5)
