"""ZeroGPU: runs in another process. What of it is emulated here, `zero_gpu_emulation.py` says."""

import inspect
import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from i4vgen.config import Defaults, GenerationConfig
from i4vgen.events import LoraFit
from i4vgen.method.comparisons import COMPARISONS, Comparison
from i4vgen.models.catalog import ModelSpec
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.serving.runtime import Runtime
from tests.conftest import ROOT
from tests.support.zero_gpu_emulation import ANIMATE, REQUEST, TOKEN

emulated = pytest.mark.slow
"""On tests that look at what the emulated Space has left behind: it takes a minute."""
TIME_LIMIT = 1200  # seconds; generous, for busy machines


@pytest.fixture(scope="module")
def space(tiny_model_dir, tmp_path_factory):
    """What the emulated Space left behind: a function that reads one file of it."""
    folder = tmp_path_factory.mktemp("space")
    other = shutil.copytree(tiny_model_dir, tmp_path_factory.mktemp("other") / "model")
    command = [sys.executable, "-m", "tests.support.zero_gpu_emulation", tiny_model_dir, other, folder]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT)
    assert run.returncode == 0, run.stdout + run.stderr

    def read(name: str):
        if name == "report":
            return json.loads((folder / "report.json").read_text())
        return pickle.loads((folder / f"{name}.pickle").read_bytes())

    return read


def assert_same(events, expected):
    """The same events but for their seconds and the last bits: on CUDA, pretended or not, convolutions have
    another memory layout.
    """
    assert [type(event) for event in events] == [type(event) for event in expected]
    for event, other in zip(events, expected, strict=True):
        for name, value in vars(event).items():
            wanted = getattr(other, name)
            if isinstance(value, np.ndarray):
                assert value.dtype == wanted.dtype and value.shape == wanted.shape
                slack = 1 if value.dtype == np.uint8 else 1e-5 * np.abs(wanted).max()
                assert np.abs(value.astype(float) - wanted).max() <= slack, (event, name)
            elif name == "scores":
                assert value == pytest.approx(wanted, abs=0.01)  # of a picture that differs by a level
            elif name != "seconds":
                assert value == (pytest.approx(wanted, rel=1e-5) if isinstance(value, float) else wanted)


@emulated
def test_the_events_of_another_process_are_those_of_an_ordinary_run(space, runtime, make_config):
    config = make_config(**REQUEST)
    drawn = list(runtime.stream(lambda pipeline: pipeline.candidates(config)))
    assert_same(space("candidates"), drawn)
    anchor = Anchor.from_candidate(drawn[-1])
    animated = list(runtime.stream(lambda pipeline: pipeline.animate(config, anchor, **ANIMATE)))
    assert_same(space("animate"), animated)


@emulated
def test_nothing_in_an_event_is_on_a_device(space):
    for event in space("candidates") + space("animate"):
        assert not any(isinstance(value, torch.Tensor) for value in vars(event).values())


@emulated
def test_the_app_has_no_cuda_and_one_worker_has_it_all(space):
    report = space("report")
    assert report["device"] == "cuda:0", "the weights are noted down for the GPU"
    assert report["cuda initialised"] is False
    first, second = report["workers"]
    assert first == second != report["main"]


@emulated
def test_a_stop_reaches_the_other_process(space):
    report = space("report")
    assert report["events before the stop"] < 10
    assert report["closed"], "the stream ended before the run did"


@emulated
def test_an_error_keeps_its_words(space):
    assert space("report")["error"].startswith("the anchor must be the index of a candidate")


@emulated
def test_after_the_other_process_has_died_the_next_run_works(space, runtime, make_config):
    report = space("report")
    assert "aborted" in report["death"]
    assert report["next"] not in (report["dead"], report["main"]), "a process of its own"
    config = make_config(**REQUEST)
    assert_same(space("after death"), list(runtime.stream(lambda pipeline: pipeline.candidates(config))))


@emulated
def test_a_model_that_was_not_loaded_before_the_launch_is_loaded_by_the_worker(space, runtime, make_config):
    config = make_config(**REQUEST)
    assert_same(space("other"), list(runtime.stream(lambda pipeline: pipeline.comparison("vanilla", config))))


@emulated
def test_what_zero_gpu_is_asked_for(space):
    calls = space("report")["api"]
    assert calls[0][0] == "/startup-report"
    asked = [values for path, values in calls if path == "/schedule"]
    granted = [path for path, _ in calls if path == "/release"]
    assert len(asked) == len(granted) == 5
    assert {values["token"] for values in asked} == {TOKEN}, "visitors pay with their own time"
    short, _, long, *_ = [int(values["durationSeconds"]) for values in asked]
    assert short < long, "2 steps and 400"


# The duration


@pytest.fixture
def zero_gpu(monkeypatch):
    """The module, on a machine that is no Space: there `spaces` leaves functions as they are."""
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    from i4vgen.serving import zero_gpu

    return zero_gpu


def big(**given) -> GenerationConfig:
    values = {"num_frames": 16, "height": 512, "width": 512, "guidance_scale": 7.5}
    return GenerationConfig(prompt="a red rocket", **values | given)


@pytest.mark.parametrize(
    ("method", "more", "options"),
    [
        ("candidates", {"num_candidates": 32}, {}),
        ("candidates", {"num_inference_steps": 50}, {}),
        ("candidates", {"width": 768}, {}),
        ("comparison", {"num_frames": 24}, {"name": "vanilla"}),
        ("comparison", {"num_inference_steps": 26}, {"name": "freeinit"}),
        ("animate", {"p_ni_vsds": 0.9}, {}),
        ("animate", {}, {"compare": ("vanilla",)}),
        ("animate", {}, {"previews": 0.1}),
    ],
)
def test_a_longer_run_asks_for_a_longer_time(zero_gpu, method, more, options):
    usual = {name: value for name, value in options.items() if name == "name"}
    assert zero_gpu.estimate(method, big(**more), **options) > zero_gpu.estimate(method, big(), **usual)


def test_the_parts_of_a_run_add_up(zero_gpu, picture):
    whole, brought = big(), Anchor.from_image(Image.fromarray(picture))
    animate = zero_gpu.estimate("animate", whole)
    assert zero_gpu.estimate("run", whole, brought) == animate
    drawn = zero_gpu.estimate("candidates", whole) - zero_gpu.STARTING
    assert zero_gpu.estimate("run", whole) == pytest.approx(animate + drawn)
    searched = zero_gpu.estimate("run", big(animate_best=3))
    assert searched == pytest.approx(drawn + 3 * (animate - zero_gpu.STARTING) + zero_gpu.STARTING)
    assert zero_gpu.estimate("candidates", big(preset="fast")) < zero_gpu.estimate("candidates", whole)


def test_without_a_reward_the_fast_preset_asks_for_more_time(zero_gpu):
    has_reward, without_reward = (
        zero_gpu.duration(ModelSpec("pocket", rewards=rewards), "candidates", {"config": big(preset="fast")})
        for rewards in (None, ())
    )
    assert has_reward < without_reward < zero_gpu.LONGEST


def test_a_comparison_asks_for_the_time_of_its_steps(zero_gpu, monkeypatch):
    double = Comparison("double", "", "", lambda config: 2 * config.num_inference_steps, None)
    monkeypatch.setitem(COMPARISONS, "double", double)
    one, two, none = (
        zero_gpu.estimate("animate", big(), compare=names) for names in (["vanilla"], ["double"], [])
    )
    assert none < one < two


@pytest.mark.parametrize("method", ["run", "candidates", "animate", "comparison", "score"])
def test_the_duration_takes_all_arguments_of_a_method(zero_gpu, method):
    bound = inspect.signature(getattr(I4VGenPipeline, method)).bind_partial(None)
    bound.apply_defaults()
    arguments = bound.arguments | {"config": big()}
    del arguments["self"]
    assert zero_gpu.duration(ModelSpec("pocket"), method, arguments) >= zero_gpu.STARTING


def test_the_duration_stays_within_what_zero_gpu_grants(zero_gpu):
    spec = ModelSpec("pocket")
    arguments = {"name": "vanilla", "config": big(num_inference_steps=500, height=1024, width=1024)}
    assert zero_gpu.duration(spec, "comparison", arguments) == zero_gpu.LONGEST
    assert zero_gpu.duration(spec, "comparison", {"name": "vanilla", "config": big()}) < zero_gpu.LONGEST


def test_what_counts_are_frames_of_latents_and_what_each_of_them_takes(zero_gpu):
    config, folded = big(num_frames=17), Defaults(frames_per_latent=4)
    plain, fewer, heavier = (
        zero_gpu.estimate("comparison", config, name="vanilla", **given)
        for given in ({}, {"defaults": folded}, {"defaults": folded, "work": 3.0})
    )
    assert fewer < plain and fewer < heavier


def test_off_zero_gpu_the_same_code_runs_in_this_process(zero_gpu, tiny_model_dir, make_config, runtime):
    own = zero_gpu.ZeroGPURuntime(str(tiny_model_dir))
    own.device, own.dtype = "cpu", runtime.dtype
    config = make_config()
    expected = list(runtime.stream(lambda pipeline: pipeline.comparison("vanilla", config)))
    assert_same(list(own.stream(lambda pipeline: pipeline.comparison("vanilla", config))), expected)


def test_the_fits_of_loras_come_from_the_process_with_the_gpu(
    zero_gpu, tiny_model_dir, make_config, monkeypatch
):
    """They are announced once per run, and are in what run files say of the model."""
    fits = (LoraFit("zoom.safetensors", 8, 48, "SDXL"), LoraFit("oil.safetensors", 2, 2))
    own, worker = zero_gpu.ZeroGPURuntime(str(tiny_model_dir)), Runtime(str(tiny_model_dir), "cpu")
    worker.load_here().backbone.lora_fits = fits
    # As in the fork, whose loaded model the app's process never sees.
    monkeypatch.setattr(zero_gpu.ZeroGPURuntime, "known", lambda _: worker)
    assert "lora_fits" not in own.describe()
    for _ in range(2):
        events = own.stream(lambda pipeline: pipeline.comparison("vanilla", make_config()))
        assert tuple(event for event in events if isinstance(event, LoraFit)) == fits
        assert own.describe()["lora_fits"] == [asdict(fit) for fit in fits]
