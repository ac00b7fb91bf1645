"""Search at test time: the best candidates are animated, and the best of their videos is kept."""

from __future__ import annotations

import json
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from i4vgen.cli.main import main
from i4vgen.errors import InvalidInputError
from i4vgen.events import Candidate, Progress, Result, Selected, Stage, Trial
from i4vgen.media import read_comment
from i4vgen.method.comparisons import stage_work
from i4vgen.method.search import video_score
from i4vgen.pipeline import Anchor
from i4vgen.storage.runs import open_run

K = 2
FEW = ("--candidates", "3", "--steps", "2")


def only(events, kind):
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def config(runtime):
    from i4vgen.config import GenerationConfig

    return GenerationConfig.for_model(
        runtime.defaults, prompt="a red rocket rising", num_candidates=3, animate_best=K
    )


@pytest.fixture(scope="module")
def events(pipeline, config):
    return list(pipeline.run(config, compare=["vanilla"]))


def test_the_worst_frame_counts_as_much_as_the_mean():
    steady, broken = {"mine": 1.0, "other": 0.0}, {"mine": 1.2, "other": 9.0}
    assert video_score(steady, {"mine": 0.8}) == pytest.approx(0.9)
    assert video_score(steady, {"mine": 0.8}) > video_score(broken, {"mine": -1.0}), "a moment is enough"
    assert video_score({}, {}) is None


def test_the_best_candidates_are_tried_and_the_best_video_is_kept(events, pipeline, config):
    ranked = sorted(only(events, Candidate), key=lambda candidate: candidate.rank_key)
    trials = only(events, Trial)
    assert [trial.index for trial in trials] == [candidate.index for candidate in ranked[:K]]
    assert all(trial.score == video_score(trial.scores, trial.worst) for trial in trials)
    (selected,) = only(events, Selected)
    best = max(trials, key=lambda trial: trial.score)
    assert (selected.index, selected.reason) == (best.index, "highest reward")
    results = {result.name: result for result in only(events, Result)}
    assert list(results) == ["ni_vsds", "i4vgen", "vanilla"]
    assert np.array_equal(results["i4vgen"].frames, best.frames)
    for trial, candidate in zip(trials, ranked, strict=False):
        alone = only(pipeline.animate(config, Anchor.from_candidate(candidate), judge=True), Result)[1]
        assert np.array_equal(alone.frames, trial.frames), "as if it had been the only anchor"
        assert (alone.scores, alone.worst) == (trial.scores, trial.worst)


def test_stages_count_the_steps_of_all_that_are_tried(events, config, runtime):
    stages = {stage.name: stage.total for stage in only(events, Stage)}
    assert stages == {"candidates": 5, "ni_vsds": 4 * K, "regeneration": 5 * K, "vanilla": 5}
    for name, total in stages.items():
        steps = [event.step for event in only(events, Progress) if event.stage == name]
        assert steps == list(range(1, total + 1))
    once = stage_work(
        type(config).from_dict(config.to_dict() | {"animate_best": 1}), [], runtime.defaults, has_reward=True
    )
    work = stage_work(config, [], runtime.defaults, has_reward=True)
    assert work == once | {stage: K * once[stage] for stage in ("ni_vsds", "regeneration")}


def test_only_finished_candidates_are_tried(pipeline, make_config):
    fast = {"preset": "fast", "num_inference_steps": 10, "num_candidates": 5}
    with pytest.raises(InvalidInputError, match="at most 2, as many candidates as preset fast finishes, not 3"):
        make_config(**fast, animate_best=3)
    events = list(pipeline.run(make_config(**fast, animate_best=2), compare=()))
    finished = {candidate.index for candidate in only(events, Candidate) if not candidate.sketch}
    assert {trial.index for trial in only(events, Trial)} == finished


@pytest.mark.parametrize("anchor", [1, Anchor.from_image(Image.new("RGB", (9, 9)))])
def test_it_chooses_itself(pipeline, config, anchor):
    with pytest.raises(
        InvalidInputError, match="but the anchor is given: leave out the anchor, or set animate_best to 1"
    ):
        next(pipeline.run(config, anchor))


def test_one_is_what_it_always_was(pipeline, make_config):
    events = list(pipeline.run(make_config(animate_best=1)))
    assert not only(events, Trial) and isinstance(events[6], Candidate)
    assert [event.name for event in only(events, Stage)] == ["candidates", "ni_vsds", "regeneration", "vanilla"]


def test_a_folder_keeps_every_video_and_each_can_be_made_again(tiny_model_dir, tmp_path, capsys):
    asked = ["a red car", *FEW, "--model", str(tiny_model_dir), "--device", "cpu"]
    assert main([*asked, "--animate-best", "2", "--out", str(tmp_path / "search")]) == 0
    assert capsys.readouterr().out.count("score ") == 2
    run = json.loads((tmp_path / "search" / "run.json").read_text())
    best = max(run["trials"], key=run["trials"].get)
    assert run["request"]["animate_best"] == 2 and run["anchor_index"] == int(best)
    files = sorted(path.stem for path in (tmp_path / "search" / "trials").iterdir())
    assert files == sorted(run["trials"]) and len(files) == 2
    saved = open_run(tmp_path / "search")
    assert saved.chosen() is None and saved.file.trials == run["trials"]
    assert saved.file.measures["i4vgen"].steadiness.from_anchor

    other = min(run["trials"], key=run["trials"].get)
    trial = tmp_path / "search" / "trials" / f"{other}.mp4"
    assert json.loads(read_comment(trial, 10_000))["anchor_reason"] == "picked"
    assert main(["--from", str(trial), "--device", "cpu", "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "i4vgen.mp4").read_bytes() == trial.read_bytes()


def test_an_anchor_of_ones_own_beside_it_is_refused_before_anything_is_loaded(
    tiny_model_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("download_model", "load_model"):
        monkeypatch.setattr(f"i4vgen.serving.runtime.{name}", Mock(side_effect=AssertionError(name)))
    asked = ["a red car", "--animate-best", "2", "--model", str(tiny_model_dir), "--device", "cpu"]
    assert main([*asked, "--anchor", "1"]) == 2
    error = capsys.readouterr().err
    assert "animate_best 2 tries the best candidates, but the anchor is given" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
