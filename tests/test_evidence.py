"""The evidence benchmark: its figures on videos whose answer is known, and the command on a small model."""

import json
import sys

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence.judge import STILL, Judge
from benchmarks.evidence.methods import METHODS
from benchmarks.evidence.metrics import dynamic_degree, motion_smoothness, temporal_flickering
from benchmarks.evidence.noise_map import embed, noised
from benchmarks.evidence.prompts import make_prompts
from benchmarks.evidence.statistics import bootstrap, frechet_distance, mean_of, wins
from i4vgen.backbones.animatediff import SCHEDULE
from training.config import PRESETS
from training.data import render
from training.judge import make_judge

CPU = PRESETS["cpu"]


@pytest.fixture(scope="module")
def clip():
    return next(
        c.frames for c in (render(CPU, "judge-test", i) for i in range(50)) if c.shown.motion == "moving left"
    )


def test_a_still_video_neither_flickers_nor_moves(clip):
    still = np.repeat(clip[:1], 12, axis=0)
    assert temporal_flickering(still) == 1 and motion_smoothness(still) > 0.999 and dynamic_degree(still) == 0
    assert dynamic_degree(clip) == 1 and temporal_flickering(clip) < 1


def test_frames_out_of_order_are_less_smooth(clip):
    shuffled = clip[np.random.default_rng(0).permutation(len(clip))]
    assert motion_smoothness(clip) > motion_smoothness(shuffled) + 0.01


def test_an_interval_holds_the_mean_of_most_samples():
    rng, inside = np.random.default_rng(0), 0
    for seed in range(60):
        values = rng.normal(1.0, 1.0, 40)
        interval = bootstrap(40, lambda drawn, v=values: v[drawn].mean(), 300, seed)
        inside += interval.low < 1.0 < interval.high
    assert 50 <= inside <= 60


def test_means_are_of_prompts_and_wins_of_pairs():
    values = np.array([[1.0, 3.0], [0.0, 0.0]])
    assert mean_of(values).mean == 1.0
    assert wins(values, np.array([[0.0, 3.0], [1.0, 1.0]])) == (1 + 0.5) / 4


def test_the_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (60_000, 2)), rng.normal(0, 1, (60_000, 2)) * [2, 1] + [3, 0]
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(9 + (2 - 1) ** 2, rel=0.03)


def test_a_judge_comes_back_from_disk_with_what_it_knows(tmp_path, clip):
    torch.manual_seed(0)
    judge = make_judge(CPU).eval()
    judge.save(tmp_path)
    back = Judge.load(tmp_path)
    assert back.names == judge.names and back.names["motion"][-1] == STILL
    assert back.look(clip).keys() == set(Judge.heads) and back.look(clip[:1]).keys() == set(Judge.heads[:3])
    for head, logits in judge(torch.zeros(1, 4, 3, 32, 32)).items():
        torch.testing.assert_close(back(torch.zeros(1, 4, 3, 32, 32))[head], logits, atol=0.02, rtol=0.02)


def test_prompts_are_all_different_and_the_same_every_time():
    prompts = make_prompts(CPU, 40)
    assert len(set(prompts)) == 40 and prompts[:10] == make_prompts(CPU, 10)


def test_the_command_goes_on_where_it_was_and_reports_every_method(tmp_path, monkeypatch, tiny_model_dir):
    monkeypatch.setattr(evidence, "REAL_CLIPS", 8)
    out = tmp_path / "out"
    make_judge(CPU).save(tmp_path / "judge")
    command = ["evidence", "--model", str(tiny_model_dir), "--prompts", "2", "--seeds", "2"]
    command += ["--judge", str(tmp_path / "judge"), "--out", str(out)]
    drawn = []
    real = evidence.draw
    monkeypatch.setattr(evidence, "draw", lambda *given: drawn.append(real(*given)))
    monkeypatch.setattr(sys, "argv", command)
    evidence.main()
    assert len(drawn) == 4
    first = json.loads((out / "results.json").read_text())
    (out / "prompt-001-seed-1.npz").unlink()
    evidence.main()
    assert len(drawn) == 5
    again = json.loads((out / "results.json").read_text())
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in first["videos"]]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in again["videos"]]
    assert {row["method"] for row in strip} == set(METHODS) and len(strip) == 4 * len(METHODS)
    assert all((out / f"{chart}.svg").stat().st_size > 5_000 for chart in ("gains", "compute"))
    table = (out / "table.md").read_text()
    assert all(title in table for title in METHODS.values())
    assert first["summary"]["vanilla"]["subject_right"]["mean"]["mean"] == np.mean(
        [row["subject_right"] for row in strip if row["method"] == "vanilla"]
    )


def test_clips_that_keep_a_trace_lie_apart_from_noise():
    generator = torch.Generator().manual_seed(0)
    pure, added, clips = torch.randn(3, 60, 4, 3, 8, 8, generator=generator)
    clips = clips + 4 * torch.randn(60, 4, 1, 1, 1, generator=generator)  # low frequencies lead

    def overlap(beta_end):
        schedule = DDIMScheduler.from_config(SCHEDULE | {"beta_end": beta_end})
        noise, trace = embed(pure, noised(clips, added, schedule))
        near = np.linalg.norm(trace[:, None] - np.concatenate([noise, trace])[None], axis=-1).argsort(1)[:, 1:6]
        return (near < len(noise)).mean()

    assert overlap(0.004) < 0.6 * overlap(0.02)
