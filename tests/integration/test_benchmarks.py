"""That the benchmark measures what it says. How fast anything is, no test asks."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import random_weights, speed
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.pipeline import I4VGenPipeline


def test_every_stage_is_timed_and_its_flops_are_those_of_its_calls(pipeline, make_config):
    config = make_config(num_candidates=3, candidate_batch_size=2)
    costs = speed.measure(pipeline, config)
    assert list(costs) == list(speed.STAGES)
    assert all(cost.seconds > 0 and cost.gpu_memory is None for cost in costs.values())
    video = costs["vanilla"].flops / config.num_inference_steps
    assert costs["ni_vsds"].flops == pytest.approx(video * config.ni_vsds_steps)
    with FlopCounterMode(display=False) as counter:
        list(I4VGenPipeline(pipeline.backbone).candidates(config))
    decoding = torch.zeros(1, 4, 1, 8, 6)
    with FlopCounterMode(display=False) as decoder:
        pipeline.backbone.decode(decoding)
    drawn = counter.get_total_flops() - 3 * decoder.get_total_flops()
    assert costs["candidates"].flops == pytest.approx(drawn, rel=0.01)


def run(monkeypatch, *options: str) -> None:
    """The command, on the CPU and without a warm-up."""
    monkeypatch.setattr(sys, "argv", ["speed", "--device", "cpu", "--warm-up", "0", *options])
    speed.main()


def test_the_report_is_json(tiny_model_dir, monkeypatch, capsys):
    run(monkeypatch, "--model", str(tiny_model_dir), "--steps", "2", "--candidates", "2", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["i4vgen_over_vanilla"] > 0 and report["product_rate"] > 0
    assert report["request"]["num_candidates"] == 2 and report["authors"] is None


STAND_IN = """#!{python}
import json, sys
spec = json.load(sys.stdin)
if spec["call"]["prompt"] == "fail":
    sys.exit("their last line")
versions = {{"torch": "1", "diffusers": "2", "xformers": False}}
print(json.dumps({{"seconds": 30.0, "asked": spec, **versions}}))
"""


@pytest.fixture
def stand_in(tmp_path) -> str:
    """Stands in for an interpreter that runs the authors' code: it says what it was asked."""
    program = tmp_path / "python"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    return str(program)


@pytest.mark.slow
def test_random_weights_run_beside_the_authors(stand_in, monkeypatch, capsys):
    for sizes in (random_weights.UNET, random_weights.MOTION, random_weights.VAE):
        monkeypatch.setitem(sizes, "block_out_channels", (32,) * 4)
    monkeypatch.setattr(speed, "product_rate", lambda *_: 1e9)
    sizes = ("--steps", "1", "--height", "64", "--width", "64")
    run(monkeypatch, "--model", "animatediff", "--random-weights", "--authors", "checkout", stand_in, *sizes)
    shown = capsys.readouterr().out
    assert "animatediff (random weights) on cpu, float32" in shown
    assert "The authors' implementation took 30.00 s" in shown and "without xformers" in shown


def time_authors(python: str, **given):
    values = {"prompt": "a rocket", "num_frames": 16, "num_candidates": 16, "height": 64, "width": 128}
    config = GenerationConfig(
        **values | {"num_inference_steps": 20, "guidance_scale": 7.5, "p_re": 0.8} | given
    )
    return speed.time_authors("checkout", python, config, torch.device("cpu"), torch.float32, warm_up=1)


def test_the_authors_run_the_same_request(stand_in):
    asked = time_authors(stand_in)["asked"]
    assert asked["unet"]["block_out_channels"] == [320, 640, 1280, 1280]
    assert asked["device"] == "cpu" and not asked["half"] and asked["warm_up"] == 1
    assert asked["call"] == {
        "prompt": "a rocket",
        "video_length": 16,
        "height": 64,
        "width": 128,
        "num_inference_steps": 20,
        "guidance_scale": 7.5,
        "p_ni_vsds": 0.6,
        "p_re": 0.8,
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_candidates": 8}, "as many candidates"),
        ({"num_candidates": 8, "num_frames": 8}, "below 16 frames"),
        ({"prompt": "fail"}, "their last line"),
    ],
)
def test_what_the_authors_do_not_run_is_said(stand_in, given, message):
    with pytest.raises(InvalidInputError, match=message):
        time_authors(stand_in, **given)


# AnimateDiff v2 and v3: as many as the authors' UNet has, built by their code from their configurations. The
# others are, at 4 bytes each, what the released files weigh: SparseCtrl RGB 1.85 GiB, lavie_base.pt 3.64 GB,
# Wan's transformers 5.68 and 20.0 GB, its VAEs 0.51 and 2.82 GB.
STABLE_DIFFUSION = 859_520_964
RELEASED = {
    "animatediff": {"unet": STABLE_DIFFUSION + 453_209_280},
    "sparsectrl": {"unet": STABLE_DIFFUSION + 417_137_600, "controlnet": 496_730_880},
    "lavie": {"unet": 909_124_100},
    "wan": {"transformer": 1_418_996_800, "vae": 126_892_531},
    "wan-5b": {"transformer": 4_999_787_712, "vae": 704_688_668},
}


@pytest.mark.parametrize("model", random_weights.MAKERS)
def test_random_weights_have_the_full_size(model):
    """Built without memory for the weights; the numbers of parameters are those of the released models."""
    backbone = random_weights.MAKERS[model]("meta", torch.float32)
    for name, parameters in ({"vae": 83_653_863} | RELEASED[model]).items():
        assert sum(p.numel() for p in getattr(backbone, name).parameters()) == parameters, name
    assert model in random_weights.WAN or backbone.vae.config.sample_size == 512


def test_flops_of_a_full_size_model_are_counted_without_its_weights(monkeypatch, capsys):
    monkeypatch.setitem(random_weights.WAN["wan"]["transformer"], "num_layers", 2)
    run(monkeypatch, "--model", "wan", "--flops", "--frames", "5", "--height", "64", "--width", "64")
    lines = capsys.readouterr().out.splitlines()
    assert "wan: faithful, 16 candidates, 50 steps, 5 frames of 64 x 64" in lines[0]
    counted = {line.split()[0]: float(line.split()[1]) for line in lines[1:5]}
    # At least two FLOPs for every weight of the blocks' feed-forward layers and token, twice with guidance.
    assert counted["vanilla"] > 50 * 2 * 2 * 2 * (2 * 1536 * 8960) * (2 * 4 * 4) / 1e12
    assert counted["ni_vsds"] == pytest.approx(counted["vanilla"] * 31 / 50, rel=0.01)
