"""The evidence benchmark: its figures on videos whose answer is known, and the command on a small model."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence import judging, sweep, vbench_judge
from benchmarks.evidence.drawing import Job
from benchmarks.evidence.judge import STILL, Judge
from benchmarks.evidence.methods import TITLES
from benchmarks.evidence.metrics import dynamic_degree, motion_smoothness, temporal_flickering
from benchmarks.evidence.noise_map import embed, noised
from benchmarks.evidence.prompts import OF_THE_REAL_WORLD as LIST
from benchmarks.evidence.prompts import make_prompts, read_prompts
from benchmarks.evidence.publish import publish
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


def test_the_shipped_judge_is_right_about_clips_that_it_has_not_seen(clip):
    judge = Judge.load()
    clips = [render(CPU, "judge-test", 2_000 + i) for i in range(40)]
    answers = [judge.look(clip.frames) for clip in clips]
    for head in Judge.heads:
        right = np.mean([said[head] == getattr(c.shown, head) for said, c in zip(answers, clips, strict=True)])
        assert right >= 0.9, head
    assert judge.look(np.repeat(clip[:1], len(clip), axis=0))["motion"] == STILL


def test_the_real_clip_of_a_prompt_shows_what_it_asks_for(tmp_path):
    judge = Judge.load()
    for number, shown in enumerate(make_prompts(CPU, 3)):
        job = Job(number, 1000, "a prompt", shown, tmp_path / "none.npz")
        assert judge.look(judging.real_clip(job, CPU)) == asdict(shown)


def test_prompts_are_all_different_and_the_same_every_time():
    prompts = make_prompts(CPU, 40)
    assert len(set(prompts)) == 40 and prompts[:10] == make_prompts(CPU, 10)


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_and_reports_every_method(tmp_path, monkeypatch, tiny_model_dir):
    monkeypatch.setattr(judging, "REAL_CLIPS", 8)
    monkeypatch.setattr(judging, "RIGHT_ENOUGH", 0.0)  # this judge has learned nothing
    out = tmp_path / "out"
    make_judge(CPU).save(tmp_path / "judge")
    command = ["evidence", "--model", str(tiny_model_dir), "--prompts", "2", "--seeds", "2"]
    command += ["--judge", str(tmp_path / "judge"), "--out", str(out)]
    drawn = []
    real = evidence.draw
    monkeypatch.setattr(evidence, "draw", lambda *given: drawn.append(real(*given)))
    monkeypatch.setattr(sys, "argv", [*command, "--methods", "vanilla,i4vgen"])
    evidence.main()
    assert len(drawn) == 4
    monkeypatch.setattr(sys, "argv", command)
    evidence.main()  # goes on with the methods that are missing
    assert len(drawn) == 8
    first = json.loads((out / "results.json").read_text())
    (out / "prompt-001-seed-1001.npz").unlink()
    evidence.main()
    assert len(drawn) == 9
    again = json.loads((out / "results.json").read_text())
    monkeypatch.setattr(sys, "argv", [*command, "--model", "pocket"])
    with pytest.raises(SystemExit, match="choose another --out"):
        evidence.main()
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in first["videos"]]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in again["videos"]]
    assert {row["method"] for row in strip} == set(TITLES) and len(strip) == 4 * len(TITLES)
    assert all((out / f"{chart}.svg").stat().st_size > 5_000 for chart in ("gains", "compute"))
    table = (out / "table.md").read_text()
    assert all(title in table for title in TITLES.values())
    (tmp_path / "docs").mkdir()
    for document, name in (("docs/evidence.md", "table"), ("README.md", "evidence")):
        (tmp_path / document).write_text(f"Before\n<!-- {name} -->\nold\n<!-- end of {name} -->\nAfter\n")
    publish(out, tmp_path)
    assert table.strip() in (tmp_path / "docs" / "evidence.md").read_text()
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("Before") and readme.endswith("After\n") and "old" not in readme
    assert all(TITLES[method] in readme for method in ("vanilla", "freeinit", "i4vgen", "fast", "real"))
    assert (tmp_path / "docs" / "gains.svg").exists()
    assert first["summary"]["vanilla"]["subject_right"]["mean"]["mean"] == np.mean(
        [row["subject_right"] for row in strip if row["method"] == "vanilla"]
    )


@pytest.mark.slow
def test_a_sweep_tries_every_setting_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys, tiny_model_dir):
    command = ["sweep", "--model", str(tiny_model_dir), "--prompts", "1", "--out", str(tmp_path)]
    command += ["--step-sizes", "0.3,1", "--p-re", "0.55"]
    monkeypatch.setattr(sys, "argv", command)
    sweep.main()
    table = capsys.readouterr().out
    rows = len(sweep.VANILLA) + 2 * (1 + 1)
    assert len((tmp_path / "sweep.jsonl").read_text().splitlines()) == rows
    assert table.count("\n") == 2 + rows and "| step size 0.3, p_re 0.55 |" in table
    assert "motion certainty" in table
    monkeypatch.setattr(sweep, "videos", None)  # nothing is drawn again
    sweep.main()
    assert capsys.readouterr().out == table
    command[command.index("0.3,1")] = "0.5"
    with pytest.raises(TypeError, match="not callable"):  # other settings are
        sweep.main()


@pytest.mark.slow
def test_vbench_judges_what_was_drawn(tmp_path, monkeypatch, tiny_model_dir):
    """`vbench` has networks to download, so a stand-in that is called and answers as it does judges here."""
    out = tmp_path / "out"
    command = ["evidence", "--model", str(tiny_model_dir), "--prompts", "2", "--seeds", "1"]
    command += ["--methods", "vanilla,i4vgen", "--judge", "vbench", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setitem(sys.modules, "vbench", None)  # not installed
    with pytest.raises(SystemExit, match=r"vbench_judge .*out"):
        evidence.main()

    class VBench:
        def __init__(self, device, full_info_dir, output_path):
            assert full_info_dir.endswith("VBench_full_info.json")
            self.output = Path(output_path)
            self.output.mkdir(exist_ok=True)

        def evaluate(self, videos_path, name, prompt_list, dimension_list, mode):
            assert mode == "custom_input" and sorted(prompt_list.values()) == sorted(read_prompts(LIST, 2))
            files = [str(Path(videos_path) / file) for file in prompt_list]
            assert all(Path(file).stat().st_size > 500 for file in files)
            value = 0.5 if name == "vanilla" else 0.75
            videos = [{"video_path": file, "video_results": value} for file in files]
            results = {dimension: [value, videos] for dimension in dimension_list}
            (self.output / f"{name}_eval_results.json").write_text(json.dumps(results))

    package = ModuleType("vbench")
    package.VBench, package.__file__ = VBench, str(tmp_path / "vbench" / "__init__.py")
    monkeypatch.setitem(sys.modules, "vbench", package)
    evidence.main()
    summary = json.loads((out / "results.json").read_text())["summary"]
    assert summary["i4vgen"]["imaging_quality"]["gain"] == {"mean": 0.25, "low": 0.25, "high": 0.25}
    assert set(summary["vanilla"]) == {*vbench_judge.DIMENSIONS, "seconds"}


def test_there_are_as_many_prompts_as_the_command_draws_by_default():
    assert len(set(read_prompts(LIST, 40))) == 40
    with pytest.raises(ValueError, match="has 40 prompts, not 41"):
        read_prompts(LIST, 41)


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


def test_a_head_that_is_often_wrong_judges_nothing(tmp_path, clip):
    torch.manual_seed(0)
    judge = make_judge(CPU).eval()
    job = Job(0, 0, "a prompt", next(iter(make_prompts(CPU, 1))), tmp_path / "one.npz")
    np.savez(job.path, **{"vanilla frames": clip, "vanilla seconds": np.array(1.0)})
    accuracy = dict.fromkeys(Judge.heads, 0.99) | {"motion": 0.9}
    (by_method,) = judging.judge_pocket([job], ["vanilla"], judge, accuracy, CPU).values()
    figures = by_method["vanilla"]["figures"]
    assert (
        "motion_right" not in figures and {"subject_right", "worst_frame", "dynamic_degree"} <= figures.keys()
    )
