"""The chain of stages on a tiny model: its events, its random numbers, its choices."""

import inspect
import math
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from i4vgen.config import InvalidInputError
from i4vgen.errors import ModelError
from i4vgen.events import STAGES, VIDEOS, Candidate, Preview, Progress, Result, Selected, Stage, latest
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.method.noise import Noise
from i4vgen.pipeline import Anchor, I4VGenPipeline
from tests.support import predicting


def only(events, kind):
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def events(pipeline, runtime):
    from i4vgen.config import GenerationConfig

    config = GenerationConfig.for_model(
        runtime.defaults, prompt="a red rocket rising", num_candidates=3, candidate_batch_size=2
    )
    return list(pipeline.run(config, compare=COMPARISONS, previews=math.inf))


def test_stages_come_in_order_and_count_their_steps(events):
    stages = only(events, Stage)
    assert [s.name for s in stages] == [*STAGES, *COMPARISONS]
    assert [s.total for s in stages] == [10, 4, 5, 5, 15]  # candidates come in two chunks of 5 steps
    for stage in stages:
        steps = [p for p in only(events, Progress) if p.stage == stage.name]
        assert [p.step for p in steps] == list(range(1, stage.total + 1))
        assert all(p.total == stage.total and p.seconds > 0 for p in steps)


def test_candidates_are_reported_as_their_chunk_finishes(events):
    kinds = [type(e).__name__ for e in events]
    assert kinds[:12] == ["Stage", *["Progress"] * 5, "Candidate", "Candidate", *["Progress"] * 4]
    assert [c.index for c in only(events, Candidate)] == [0, 1, 2]


def test_shapes_and_types(events):
    for candidate in only(events, Candidate):
        assert candidate.image.shape == (32, 24, 3) and candidate.image.dtype == np.uint8
        assert candidate.latents.shape == (4, 1, 8, 6) and candidate.latents.dtype == np.float32
        assert isinstance(candidate.score, float)
    for result in only(events, Result):
        assert result.frames.shape == (4, 32, 24, 3) and result.frames.dtype == np.uint8
        assert result.latents.shape == (4, 4, 8, 6) and result.fps == 8 and result.seconds > 0
    for preview in only(events, Preview):
        assert preview.frames.shape == (4, 32, 24, 3)


def test_steps_tell_their_weight_and_update_with_previews(events, pipeline, make_config):
    watched = [p for p in only(events, Progress) if p.stage != "candidates"]
    assert all(p.update > 0 and 0 < p.weight < 1 for p in watched)
    weights = [p.weight for p in watched if p.stage == "ni_vsds"]
    assert weights == sorted(weights, reverse=True), "from noisy to clean"
    unwatched = only(pipeline.comparison("vanilla", make_config()), Progress)
    assert all(p.update is None for p in unwatched)


def test_more_candidates_go_on_where_the_first_ones_ended(pipeline, make_config):
    all_at_once = only(pipeline.candidates(make_config(num_candidates=4)), Candidate)
    more = only(pipeline.candidates(make_config(num_candidates=4), first=2), Candidate)
    assert [c.index for c in more] == [2, 3]
    for one, other in zip(all_at_once[2:], more, strict=True):
        np.testing.assert_allclose(one.latents, other.latents, atol=1e-4)


def test_every_finished_video_is_judged_if_asked(pipeline, make_config):
    config = make_config(num_candidates=1)
    results = only(pipeline.run(config, judge=True), Result)
    assert [r.name for r in results] == ["ni_vsds", "i4vgen", "vanilla"]
    for result in results:
        scores = [event.scores for event in pipeline.score(config.prompt, list(result.frames))]
        for name, mean in result.scores.items():
            assert mean == pytest.approx(np.mean([s[name] for s in scores]), abs=1e-4)
    assert not any(r.scores for r in only(pipeline.run(config), Result))


def test_pictures_are_judged_against_another_prompt(pipeline, make_config):
    config = make_config(num_candidates=3)
    drawn = only(pipeline.candidates(config), Candidate)
    images = [c.image for c in drawn]
    again = [event.scores for event in pipeline.score(config.prompt, images)]
    assert [list(s.values()) for s in again] == [
        pytest.approx(list(c.scores.values()), abs=1e-3) for c in drawn
    ]
    assert again != [event.scores for event in pipeline.score("a blue whale under water", images)]
    with pytest.raises(InvalidInputError, match="no reward model"):
        list(I4VGenPipeline(pipeline.backbone).score("a rocket", images))


def test_previews_come_after_every_step_but_the_last_if_time_is_no_matter(events):
    totals = {"ni_vsds": 4, "regeneration": 5, "vanilla": 5, "freeinit": 15}
    expected = [(stage, step) for stage, total in totals.items() for step in range(1, total)]
    assert [(p.stage, p.step) for p in only(events, Preview)] == expected


def test_previews_keep_to_their_share_of_the_time(pipeline, make_config, monkeypatch):
    clock = iter(range(10**6))  # every look at the clock is a second later: a step takes one, a preview too
    monkeypatch.setattr("i4vgen.method.tracking.time.perf_counter", lambda: next(clock))
    seen = only(pipeline.comparison("vanilla", make_config(num_inference_steps=20), previews=0.25), Preview)
    assert [p.step for p in seen] == [1, 4, 8, 12, 16]


def test_previews_of_large_videos_are_smaller(pipeline, make_config, monkeypatch):
    monkeypatch.setattr("i4vgen.backbones.base.PREVIEW_SIDE", 4)  # of latents of 8 x 6
    seen = only(pipeline.comparison("vanilla", make_config(), previews=math.inf), Preview)
    assert {p.frames.shape for p in seen} == {(4, 16, 12, 3)}


def test_the_highest_reward_is_selected(events):
    best = max(only(events, Candidate), key=lambda c: c.score)
    (selected,) = only(events, Selected)
    assert (selected.index, selected.reason) == (best.index, "highest reward")
    assert np.array_equal(selected.image, best.image)


def test_events_pickle(events):
    for event in events:
        copy = pickle.loads(pickle.dumps(event))
        for field in fields(event):
            assert np.array_equal(getattr(copy, field.name), getattr(event, field.name))


def test_results_in_order(events):
    assert [r.name for r in only(events, Result)] == [*VIDEOS, *COMPARISONS]


def test_picked_candidate(pipeline, make_config):
    events = list(pipeline.run(make_config(), anchor=1, compare=()))
    (selected,) = only(events, Selected)
    assert (selected.index, selected.reason) == (1, "picked")
    assert [r.name for r in only(events, Result)] == ["ni_vsds", "i4vgen"]


def test_an_uploaded_image_needs_no_candidates(pipeline, make_config, picture):
    events = list(pipeline.run(make_config(), Anchor.from_image(Image.fromarray(picture)), compare=()))
    (selected,) = only(events, Selected)
    assert (selected.index, selected.reason) == (None, "uploaded image")
    assert selected.image.shape == (32, 24, 3)
    assert not only(events, Candidate)


@pytest.mark.parametrize("anchor", [-1, 3, "1"])
def test_an_anchor_that_is_no_candidate_is_refused_before_anything_runs(pipeline, make_config, anchor):
    with pytest.raises(InvalidInputError, match="from 0 to 2"):
        next(pipeline.run(make_config(), anchor=anchor))


def test_without_a_reward_someone_has_to_choose(pipeline, make_config):
    unjudged = I4VGenPipeline(pipeline.backbone)
    with pytest.raises(InvalidInputError, match="no reward model"):
        next(unjudged.run(make_config()))
    events = list(unjudged.run(make_config(), anchor=0, compare=()))
    assert [c.score for c in only(events, Candidate)] == [None] * 3


def test_requests_for_another_model_are_refused(pipeline, make_config):
    with pytest.raises(InvalidInputError, match="at most 8"):
        next(pipeline.comparison("vanilla", replace(make_config(), num_frames=9)))
    (candidate, *_) = only(pipeline.candidates(make_config(num_candidates=1)), Candidate)
    with pytest.raises(InvalidInputError, match="another model or size"):
        next(pipeline.animate(make_config(height=64), Anchor.from_candidate(candidate)))


def test_one_seed_draws_one_video_noise():
    noise = Noise(5, (4, 6, 3, 2))
    video = noise.frames(0, 6)
    assert video.shape == (6, 4, 1, 3, 2)
    generator = torch.Generator().manual_seed(5)
    for k in range(6):  # as documented: the k-th draw from the seed
        assert torch.equal(video[k, :, 0], torch.randn(1, 4, 3, 2, generator=generator)[0])
    assert torch.equal(noise.frames(4, 6), video[4:])
    assert torch.equal(noise.initial, video.transpose(0, 2))
    assert not torch.equal(noise.fresh("ni_vsds"), noise.fresh("regeneration"))
    assert not torch.equal(noise.fresh("ni_vsds"), Noise(6, noise.shape).fresh("ni_vsds"))


def test_a_candidate_does_not_depend_on_the_others(pipeline, make_config):
    many = only(pipeline.candidates(make_config(num_candidates=7)), Candidate)
    few = only(pipeline.candidates(make_config(num_candidates=2, candidate_batch_size=1)), Candidate)
    for a, b in zip(few, many, strict=False):
        np.testing.assert_allclose(a.latents, b.latents, atol=1e-4)


def test_the_number_of_candidates_does_not_change_the_animation(pipeline, make_config):
    few = only(pipeline.candidates(make_config(num_candidates=1)), Candidate)
    anchor = Anchor.from_candidate(few[0])
    a = only(pipeline.animate(make_config(num_candidates=1), anchor), Result)
    b = only(pipeline.animate(make_config(num_candidates=64), anchor), Result)
    assert all(np.array_equal(x.frames, y.frames) for x, y in zip(a, b, strict=True))


def test_64_candidates(pipeline, make_config):
    config = make_config(num_candidates=64, num_inference_steps=1)
    assert len(only(pipeline.candidates(config), Candidate)) == 64


def test_p_re_starts_later(pipeline, make_config):
    (candidate, *_) = only(pipeline.candidates(make_config(num_candidates=1)), Candidate)
    config = make_config(num_inference_steps=10, p_re=0.35, p_ni_vsds=0.0)
    events = list(pipeline.animate(config, Anchor.from_candidate(candidate)))
    assert [s.total for s in only(events, Stage)] == [1, 3]
    timesteps = [p.timestep for p in only(events, Progress) if p.stage == "regeneration"]
    assert timesteps == predicting.timesteps(pipeline.backbone.sampler("ddim", 10))[-3:]


def test_values_that_are_not_numbers_are_an_error_and_no_black_video(pipeline, make_config, monkeypatch):
    right = pipeline.backbone.predict

    def overflow(latents, *others):
        prediction = right(latents, *others)
        return replace(prediction, output=prediction.output * (float("nan") if latents.shape[2] > 1 else 1))

    monkeypatch.setattr(pipeline.backbone, "predict", overflow)
    seen = []
    with pytest.raises(ModelError, match="not numbers"):
        seen.extend(pipeline.run(make_config()))  # keeps what came before
    assert any(isinstance(event, Selected) for event in seen)
    assert not any(isinstance(event, Result) for event in seen)
    monkeypatch.undo()
    assert any(isinstance(event, Result) for event in pipeline.run(make_config())), "the next run works"


def test_listeners_keep_their_own_grad_mode(pipeline, make_config):
    for event in pipeline.run(make_config(), previews=math.inf):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled(), event


def test_events_hold_arrays_that_nothing_writes_to_later(pipeline, make_config):
    seen = []
    for event in pipeline.candidates(make_config()):
        if isinstance(event, Candidate):
            seen.append((event, event.latents.copy(), event.image.copy()))
    assert all(np.array_equal(e.latents, a) and np.array_equal(e.image, b) for e, a, b in seen)


def test_the_fast_preset_takes_fewer_steps_but_not_for_the_baseline(pipeline, make_config):
    config = make_config(preset="fast", num_inference_steps=10)
    events = list(pipeline.run(config, compare=("vanilla",)))
    assert {s.name: s.total for s in only(events, Stage)} == {
        "candidates": 5, "ni_vsds": 4, "regeneration": 5, "vanilla": 10,
    }  # fmt: skip
    plain = list(pipeline.comparison("vanilla", make_config(num_inference_steps=10)))
    assert np.array_equal(only(events, Result)[-1].frames, only(plain, Result)[0].frames)
    with pytest.raises(InvalidInputError, match="preset must be"):
        make_config(preset="faster")


def test_the_fast_preset_sketches_all_candidates_and_finishes_the_best(pipeline, make_config):
    config = make_config(preset="fast", num_inference_steps=10, num_candidates=9)
    events = list(pipeline.run(config, compare=()))
    drawn = only(events, Candidate)
    sketches, finished = [c for c in drawn if c.sketch], [c for c in drawn if not c.sketch]
    assert [c.index for c in sketches] == list(range(9)) and len(finished) == 3
    best = sorted(sketches, key=lambda c: -c.score)[:3]
    assert [c.index for c in finished] == sorted(c.index for c in best)
    assert only(events, Selected)[0].index == max(finished, key=lambda c: c.score).index
    (stage,) = (s for s in only(events, Stage) if s.name == "candidates")
    assert len([p for p in only(events, Progress) if p.stage == "candidates"]) == stage.total
    timesteps = [p.timestep for p in only(events, Progress) if p.stage == "candidates"]
    assert timesteps == [p.timestep for p in only(events, Progress) if p.stage == "regeneration"]
    latest_ones = latest(drawn)
    assert [c.index for c in latest_ones] == list(range(9)) and sum(not c.sketch for c in latest_ones) == 3


def test_a_candidate_is_finished_the_same_whatever_its_chunk(pipeline, make_config):
    config = make_config(preset="fast", num_inference_steps=10, num_candidates=9)
    small = replace(config, candidate_batch_size=2)
    one, other = (latest(only(pipeline.candidates(r), Candidate)) for r in (config, small))
    for a, b in zip(one, other, strict=True):
        assert a.sketch == b.sketch
        np.testing.assert_allclose(a.latents, b.latents, atol=1e-3)


def test_a_sketch_can_be_the_anchor_too(pipeline, make_config):
    config = make_config(preset="fast", num_inference_steps=10, num_candidates=9)
    (sketch, *_) = (c for c in latest(only(pipeline.candidates(config), Candidate)) if c.sketch)
    picked = only(pipeline.run(config, anchor=sketch.index, compare=()), Selected)[0]
    assert picked.index == sketch.index and np.array_equal(picked.image, sketch.image)


def test_there_is_no_screening_without_a_reward(pipeline, make_config):
    config = make_config(preset="fast", num_inference_steps=10, num_candidates=9)
    drawn = only(I4VGenPipeline(pipeline.backbone).candidates(config), Candidate)
    assert len(drawn) == 9 and not any(c.sketch for c in drawn)


def test_freeinit_begins_with_the_vanilla_video(pipeline, make_config):
    vanilla = [p.timestep for p in only(pipeline.comparison("vanilla", make_config()), Progress)]
    first, *later = only(pipeline.comparison("freeinit", make_config(), previews=math.inf), Preview)
    steps = [p.timestep for p in only(pipeline.comparison("freeinit", make_config()), Progress)]
    assert steps == 3 * vanilla
    (same, *_) = only(pipeline.comparison("vanilla", make_config(), previews=math.inf), Preview)
    assert np.array_equal(first.frames, same.frames)
    assert not np.array_equal(later[4].frames, first.frames), "the second pass starts from other noise"


def test_every_reward_scores_and_the_first_one_decides(pipeline, make_config):
    class Index:
        name = "index"

        def score(self, prompt, images):
            return [float(i) for i in range(len(images))]

    judged = I4VGenPipeline(pipeline.backbone, [Index(), *pipeline.rewards])
    config = make_config(num_candidates=3, candidate_batch_size=3)
    events = list(judged.run(config, compare=()))
    assert [list(c.scores) for c in only(events, Candidate)] == [["index", "pocket"]] * 3
    assert only(events, Selected)[0].index == 2


@pytest.mark.parametrize("method", ["run", "animate", "stream", "__call__"])
def test_arguments_come_in_one_order(method):
    given = list(inspect.signature(getattr(I4VGenPipeline, method)).parameters)
    order = [name for name in ("config", "prompt", "anchor", "compare", "previews", "judge") if name in given]
    assert [name for name in given if name not in ("self", "settings")] == order
