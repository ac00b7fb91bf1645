"""The whole recipe of the pocket model, from nothing to a model card, at the smallest size it has."""

import importlib
import itertools
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from i4vgen.config import GenerationConfig
from i4vgen.events import Result
from i4vgen.serving.runtime import Runtime
from pocket.presets import PRESETS
from training import evaluate, judge, means, reward, vae

TINY = replace(
    PRESETS["cpu"],
    size=32,
    num_frames=4,
    kinds=("vehicle", "heart"),
    settings=("sea", "sunset"),
    motions=("rising", "falling"),
    clips=64,
    batch_images=8,
    batch_clips=2,
    batch_scenes=1,
    scene_motions=2,
    unet_channels=(16, 32),
    attention_heads=2,
    text_width=16,
    text_layers=1,
    reward_width=16,
    reward_layers=1,
)
TWO_STEPS = "0.1"  # minutes of a clock that goes on by a second whenever it is looked at


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Runs a stage as the command line does, on little data, and returns all figures recorded so far."""
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    for module, name, few in (
        (vae, "PCA_CLIPS", 64),
        (vae, "DECODER_CLIPS", 8),
        (vae, "TEST_CLIPS", 8),
        (reward, "TRAIN_SCENES", 48),
        (reward, "TEST_SCENES", 4),
        (judge, "TRAIN_CLIPS", 8),
        (judge, "TEST_CLIPS", 8),
        (means, "SCENE_DRAWS", 2),
        (means, "TRACK_DRAWS", 2),
        (evaluate, "PROMPTS", 2),
        (evaluate, "SEEDS", (0,)),
    ):
        monkeypatch.setattr(module, name, few)
    folder = tmp_path / "run"

    monkeypatch.setattr("training.loop.time", SimpleNamespace(monotonic=itertools.count().__next__))

    def run(name, minutes=TWO_STEPS):
        command = [name, "--preset", "tiny", "--device", "cpu", "--minutes", minutes, "--out", str(folder)]
        command += ["--model", str(tmp_path / "model")]
        monkeypatch.setattr(sys, "argv", command)
        importlib.import_module(f"training.{name}").main()
        return json.loads((folder / "figures.json").read_text())

    return run


@pytest.mark.slow
def test_every_stage_of_the_recipe_runs_and_the_model_that_comes_out_draws(stage, tmp_path):
    stage("vae", minutes="0")
    assert stage("text_to_image")["text_to_image"]["steps"] == 2
    assert stage("text_to_image")["text_to_image"]["steps"] == 4, "goes on from its checkpoint"
    for name in ("motion", "vae", "reward", "judge"):
        assert stage(name)[name]["steps"] == 2
    stage("export")
    assert stage("evaluate")["evaluation"]["vanilla reward"] == pytest.approx(0, abs=10)
    stage("card")
    text = (tmp_path / "model" / "README.md").read_text()
    assert "32 x 32 pixels, 4 frames" in text and "broken heart" in text

    runtime = Runtime(str(tmp_path / "model"))
    config = GenerationConfig.for_model(
        runtime.defaults, prompt="a rocket rising by the sea", num_candidates=2, num_inference_steps=4
    )
    events = list(runtime.stream(lambda pipeline: pipeline.run(config)))
    videos = {event.name: event.frames for event in events if isinstance(event, Result)}
    assert all(video.shape == (4, 32, 32, 3) and np.ptp(video) > 0 for video in videos.values())
    assert "i4vgen" in videos
