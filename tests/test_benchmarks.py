"""That the benchmark measures what it says. How fast anything is, no test asks."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import random_weights, speed
from i4vgen.pipeline import I4VGenPipeline


def test_every_stage_is_timed_and_its_flops_are_those_of_its_calls(pipeline, make_request):
    request = make_request(num_candidates=3, candidate_batch_size=2)
    costs = speed.measure(pipeline, request)
    assert list(costs) == list(speed.STAGES)
    assert all(cost.seconds > 0 and cost.gpu_memory is None for cost in costs.values())
    video = costs["vanilla"].flops / request.num_inference_steps
    assert costs["ni_vsds"].flops == pytest.approx(video * request.ni_vsds_steps)
    with FlopCounterMode(display=False) as counter:
        list(I4VGenPipeline(pipeline.backbone).candidates(request))
    decoding = torch.zeros(1, 4, 1, 8, 6)
    with FlopCounterMode(display=False) as decoder:
        pipeline.backbone.decode(decoding)
    drawn = counter.get_total_flops() - 3 * decoder.get_total_flops()
    assert costs["candidates"].flops == pytest.approx(drawn, rel=0.01)


def test_the_report_is_json(tiny_model_dir, monkeypatch, capsys):
    options = ["--model", str(tiny_model_dir), "--steps", "2", "--candidates", "2", "--warm-up", "0", "--json"]
    monkeypatch.setattr(sys, "argv", ["speed", *options, "--device", "cpu"])
    speed.main()
    report = json.loads(capsys.readouterr().out)
    assert report["i4vgen_over_vanilla"] > 0 and report["product_rate"] > 0
    assert report["request"]["num_candidates"] == 2


@pytest.mark.parametrize("model", random_weights.MAKERS)
def test_random_weights_have_the_full_size(model, monkeypatch):
    """Built without memory for the weights; the numbers of parameters are those of the released models."""
    monkeypatch.setattr(random_weights, "_ready", lambda network, dtype: network.requires_grad_(False))
    monkeypatch.setattr("i4vgen.backbones.stable_diffusion.StableDiffusionBackbone.set_memory", lambda *_: None)
    with torch.device("meta"):
        unet = random_weights.MAKERS[model]("cpu", torch.float32).unet
    million = sum(parameter.numel() for parameter in unet.parameters()) / 1e6
    assert round(million) == {"animatediff": 1313, "sparsectrl": 1277, "lavie": 909}[model]
