"""The evidence benchmark: its figures on videos whose answer is known, and the command on a small model."""

import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file

from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence import control, judging, sweep, vbench_judge
from benchmarks.evidence.control import beside, table_of_controls
from benchmarks.evidence.drawing import Case, Drawer
from benchmarks.evidence.identity import identity_figures, resemblance
from benchmarks.evidence.imagenet import ImageNetJudge, Probe
from benchmarks.evidence.measured import Row, merged
from benchmarks.evidence.methods import REAL, TITLES
from benchmarks.evidence.metrics import dynamic_degree, motion_smoothness, temporal_flickering
from benchmarks.evidence.noise_map import embed, noised
from benchmarks.evidence.prompts import OF_THE_REAL_WORLD as LIST
from benchmarks.evidence.prompts import make_prompts, read_prompts
from benchmarks.evidence.publish import publish
from benchmarks.evidence.report import Splits, detailed_tables, provenance_of, summarise
from benchmarks.evidence.rows import compare_with_stored, read_rows, write_rows
from benchmarks.evidence.selection import chosen, select, selection_table
from benchmarks.evidence.statistics import bootstrap, mean_of, wins
from i4vgen.backbones.animatediff import SCHEDULE
from i4vgen.serving.runtime import Runtime
from pocket.judge import STILL, Judge
from pocket.presets import PRESETS
from pocket.world import KINDS, Shown, draw_clip
from training.data import draw_all, render
from training.judge import make_judge

CPU = PRESETS["cpu"]
PROVENANCE = {"weights": "0123", "device": "2 CPU cores", "date": "2026-12-01"}


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
        interval = bootstrap(40, lambda drawn, v=values: v[drawn].mean(-1), 300, seed)
        inside += interval.low < 1.0 < interval.high
    assert 50 <= inside <= 60


def test_means_are_of_prompts_and_wins_of_pairs():
    values = np.array([[1.0, 3.0], [0.0, 0.0]])
    assert mean_of(values).mean == 1.0
    assert wins(values, np.array([[0.0, 3.0], [1.0, 1.0]])) == (1 + 0.5) / 4


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
    seen = judge.look_at_each(clips[0].frames)["member"]
    assert len(seen) == len(clips[0].frames) and seen.count(clips[0].shown.member) > len(seen) / 2
    assert judge.look(np.repeat(clip[:1], len(clip), axis=0))["motion"] == STILL


def test_the_real_clip_of_a_prompt_shows_what_it_asks_for(tmp_path):
    judge = Judge.load()
    for number, shown in enumerate(make_prompts(CPU, 3)):
        case = Case(number, 1000, "a prompt", shown, tmp_path / "none.npz")
        said = judge.look(judging.real_clip(case, CPU))
        assert said["member"] == shown.member or (shown.member is None and said["member"] in KINDS[shown.kind])
        assert {head: said[head] for head in said if head != "member"} == {
            head: getattr(shown, head) for head in said if head != "member"
        }


def test_prompts_are_all_different_and_the_same_every_time():
    prompts = make_prompts(CPU, 40)
    assert len(set(prompts)) == 40 and prompts[:10] == make_prompts(CPU, 10)
    of_kinds = [shown for shown in prompts if not shown.member]
    of_members = [shown for shown in prompts if shown.member]
    assert len(of_kinds) == 24 and all(shown.member in KINDS[shown.kind] for shown in of_members)
    for sort in (of_kinds, of_members):
        for what in ("kind", "setting", "motion"):
            counts = Counter(getattr(shown, what) for shown in sort)
            assert (
                counts.keys() == set(getattr(CPU, f"{what}s"))
                and max(counts.values()) - min(counts.values()) <= 1
            )


def test_identity_is_what_most_frames_show_and_how_often_it_changes():
    figures = identity_figures(["owl", "owl", "swan", "owl", "duck"], "swan")
    assert figures == {"main_member": 0.6, "anchor_member": 0.2, "identity_changes": 3}
    assert identity_figures(["owl"] * 3, "owl") == {"main_member": 1, "anchor_member": 1, "identity_changes": 0}
    assert np.isnan(identity_figures(["owl"], None)["anchor_member"])


@pytest.fixture(scope="module")
def imagenet():
    return ImageNetJudge()


def test_imagenet_sees_a_video_that_turns_into_another_thing(imagenet):
    """The same scene and track with one member, and with another one from the middle on."""
    duck, owl = (
        draw_clip(np.random.default_rng(5), member, "sea", "rising", 6, 96) for member in ("duck", "owl")
    )
    turned = np.concatenate([duck[:3], owl[3:]])
    steady, changing = (resemblance(imagenet.features(v), imagenet.features(duck[:1])) for v in (duck, turned))
    for figure in steady:
        assert steady[figure] > changing[figure] + 0.05, figure


@pytest.mark.slow
def test_a_probe_on_imagenets_features_learns_to_name_what_frames_show(imagenet, tmp_path, monkeypatch):
    world = replace(CPU, kinds=("heart",), settings=("sea", "desert"))
    for name, count in (("PROBE_FRAMES", 120), ("HELD_OUT", 30), ("STEPS", 150), ("BATCH", 64)):
        monkeypatch.setattr(f"benchmarks.evidence.imagenet.{name}", count)
    in_this_process = partial(draw_all, share=120)
    monkeypatch.setattr("benchmarks.evidence.imagenet.draw_all", in_this_process)
    probe = Probe.load_or_fit(tmp_path / "probe.safetensors", world, imagenet)
    assert probe.accuracy["member"] > 0.6 and probe.accuracy["setting"] > 0.9
    monkeypatch.setattr(Probe, "fit", None)  # a fitted one is read again
    again = Probe.load_or_fit(tmp_path / "probe.safetensors", world, imagenet)
    features = torch.randn(2, 1280)
    torch.testing.assert_close(again(features), probe(features))


def test_pairs_of_equal_flow_and_kinds_get_tables_of_their_own():
    shown = [Shown("bird", None, "sea", "rising"), Shown("bird", "owl", "sea", "rising")]
    splits = Splits.of(shown)
    assert splits == Splits(
        {"prompts that name a kind": {0}, "prompts that name a member": {1}}, {"rising": {0}}
    )

    def video(steady, flow):
        figures = {"main_member": steady, "mean_flow": flow, "identity_changes": 10 * (1 - steady)}
        return Row(figures)

    measured = {
        (0, 0): {"vanilla": video(0.4, 2.0), "i4vgen": video(0.9, 2.1)},
        (0, 1): {"vanilla": video(0.5, 2.0), "i4vgen": video(1.0, 0.5)},  # it hardly moves: does not count
        (1, 0): {"vanilla": video(0.7, 1.0), "i4vgen": video(0.8, 1.0)},
        (1, 1): {"vanilla": video(0.7, 1.0), "i4vgen": video(0.8, 1.0)},
    }
    for number in ((1, 0), (1, 1)):  # only these prompts name a member
        for right, row in enumerate(measured[number].values()):
            row.figures["member_right"] = right
    tables = detailed_tables(measured, splits)
    assert "prompts that name a kind, equal flow (1 pairs)" in tables
    assert "prompts that name a member, equal flow (2 pairs)" in tables and "| rising (2 pairs) |" in tables
    (row, _) = (line.split(" | ") for line in tables.splitlines() if line.startswith("| main member"))
    assert [cell[:6] for cell in row[1:]] == ["+0.500", "+0.100", "+0.500", "+0.100"]
    (row, _) = (
        line.split(" | ") for line in tables.splitlines() if line.startswith("| identity changes, less")
    )
    assert [cell[:6] for cell in row[1:]] == ["+5.000", "+1.000", "+5.000", "+1.000"]
    assert "| member right |  | +1.000 (+1.000 to +1.000) |  | +1.000 (+1.000 to +1.000) |" in tables
    assert "of the first 1 prompts that name a kind: main member 1 (behind in 0)" in tables


def test_the_best_of_more_candidates_are_chosen_from_the_same_ones():
    scores, right = np.array([0.1, 0.9, 0.5, 0.4]), np.array([0.0, 1.0, 0.0, 1.0])
    assert [chosen(scores, right, count) for count in (1, 2, 4)] == [0.5, 0.5, 1.0]
    assert chosen(scores[:3], right[:3], 2) == 1.0  # what is left over chooses nothing


def test_a_choice_is_right_where_all_that_the_prompt_asks_for_is_there(tmp_path, imagenet):
    """The reward likes the last of each four real frames, which alone shows the prompt's kind and setting."""
    jury = judging.Jury(Judge.load(), Judge.heads, imagenet, Probe(CPU, blank_probe()))
    asked, rng = Shown("bird", None, "sea", "rising"), np.random.default_rng(3)
    shown = [("apple", "sea"), ("owl", "desert"), ("apple", "desert"), ("owl", "sea")] * 4
    images = np.stack([draw_clip(rng, *names, "rising", 2, 96)[0] for names in shown])
    case = Case(0, 1000, "a bird", asked, tmp_path / "one.npz")
    np.savez(case.pool, images=images, scores=np.tile([0, 1, 2, 3], 4), **PROVENANCE)
    found = select([case], jury)
    right = {choice: row.figures["right"] for choice, row in found[case.key].items()}
    assert list(right) == ["choice of 1", "choice of 4", "choice of 16"]
    assert right["choice of 1"] == pytest.approx(0.25, abs=0.07) and right["choice of 4"] >= 0.75
    assert "our judge" in selection_table(found) and selection_table({}) == ""
    table = selection_table(select([case], replace(jury, heads=["kind"])))
    assert "ImageNet" in table and "our judge" not in table and "| best of 16 |" in table


def test_rows_are_compared_with_those_that_are_kept(tmp_path):
    def measured(flow, right):
        videos = {
            "vanilla": {"kind_right": right, "mean_flow": 1.0},
            "i4vgen": {"kind_right": 1.0, "mean_flow": flow},
        }
        return {(0, 0): {method: Row(figures, 1.5, PROVENANCE) for method, figures in videos.items()}}

    stored = measured(2.0, np.nan)
    stored[1, 0] = measured(4.0, 0.0)[0, 0]
    path = tmp_path / "rows.csv"
    write_rows(stored, path)
    same = compare_with_stored(measured(2.0, np.nan), path)
    assert "2 of 2 videos have the same figures, and 3 of 3 means" in same and "Further" not in same
    other = compare_with_stored(measured(3.0, np.nan), path)
    assert "1 of 2 videos" in other and other.endswith("Further apart: mean flow of i4vgen.")
    assert "no rows of these videos" in compare_with_stored({(7, 0): stored[0, 0]}, path)
    assert "no rows of these videos" in compare_with_stored(measured(2.0, 1.0), tmp_path / "none.csv")


def test_rows_come_back_as_they_were_kept_and_others_join_them(tmp_path):
    path = tmp_path / "rows.csv"
    fast = Row({"mean_flow": 1.25}, 0.5, PROVENANCE | {"date": "2026-12-02"})
    seen = {(1, 0): {"vanilla": Row({"mean_flow": 2.5, "member_right": np.nan}, 1.5, PROVENANCE)}}
    both = merged(seen, {(0, 1): {"fast": fast}, (1, 0): {"fast": fast, "real": Row({"mean_flow": 2.0})}})
    assert list(both) == [(1, 0), (0, 1)] and list(both[1, 0]) == ["vanilla", "fast", "real"]
    write_rows(both, path)
    back = read_rows(path)
    assert back[0, 1] == {"fast": fast} and back[1, 0]["vanilla"] == Row({"mean_flow": 2.5}, 1.5, PROVENANCE)
    others = read_rows(path, weights="others")  # real clips are the same whatever the weights
    assert {key: list(by_method) for key, by_method in others.items()} == {(1, 0): ["real"]}
    dates = "2026-12-01 to 2026-12-02"
    assert provenance_of(back, ["vanilla", "fast"]) == {"device": "2 CPU cores", "date": dates}
    assert provenance_of(back, ["vanilla"])["date"] == "2026-12-01"
    summary = summarise(["vanilla", "fast"], back)
    assert summary["fast"]["videos"]["mean"] == 2 and summary["fast"]["mean_flow"]["gain"]["mean"] == -1.25


def test_controls_are_held_against_the_same_prompts_and_seeds(tmp_path, monkeypatch, capsys):
    def video(worst, changes=0):
        return Row({"worst_frame": worst, "identity_changes": changes})

    stored = {(0, 0): {"vanilla": video(0.5), "i4vgen": video(0.9, 1)}, (1, 0): {"vanilla": video(0.5)}}
    more = {(0, 0): {"vanilla": video(0.7, 3)}, (1, 0): {"vanilla": video(0.0)}, (0, 1): stored[0, 0]}
    measured = beside(stored, {"more": more, "other": stored})
    assert list(measured) == [(0, 0)], "others have no pair"
    heading, _, worst, _, changes, *_ = table_of_controls(measured, ["more", "other"]).splitlines()
    assert "| vanilla | more | other | I4VGen | I4VGen ahead of: more |" in heading
    assert [part.split()[0] for part in worst.split("|")[2:-1]] == [
        "0.500", "0.700", "0.500", "0.900", "+0.200", "+0.400",
    ]  # fmt: skip
    assert "+2.000" in changes, "fewer are better"

    write_rows({(0, 1000): {"vanilla": video(0.7)}}, tmp_path / "rows.csv")
    monkeypatch.setattr(sys, "argv", ["control", f"more={tmp_path / 'rows.csv'}"])
    control.main()
    assert "all prompts (1 pairs)" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["control", "more=rows"])
    with pytest.raises(SystemExit):
        control.main()
    assert "there is no file rows" in capsys.readouterr().err


def test_a_models_card_does_not_part_its_rows(tmp_path, tiny_model_dir):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    digest = Drawer(Runtime(str(folder), "cpu")).digest
    (folder / "README.md").write_text("Measured.")
    assert Drawer(Runtime(str(folder), "cpu")).digest == digest
    (weights,) = (folder / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert Drawer(Runtime(str(folder), "cpu")).digest != digest


def test_the_stored_rows_are_of_the_shipped_weights():
    of_these_weights = read_rows(weights=Drawer(Runtime("pocket", "cpu")).digest)
    assert of_these_weights and figures_in(of_these_weights) == figures_in(read_rows())


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_and_reports_every_method(tmp_path, monkeypatch, tiny_model_dir):
    monkeypatch.setattr(judging, "REAL_CLIPS", 8)
    monkeypatch.setattr(evidence, "RIGHT_ENOUGH", 0.0)  # this judge has learned nothing
    out = tmp_path / "out"
    make_judge(CPU).save(tmp_path / "judge")
    out.mkdir()
    save_file(blank_probe(), out / "probe-cpu.safetensors")
    command = ["evidence", "--model", str(tiny_model_dir), "--prompts", "2", "--seeds", "1"]
    command += ["--judge", str(tmp_path / "judge"), "--out", str(out), "--candidates", "4"]
    drawn = []
    real = Drawer.draw
    monkeypatch.setattr(Drawer, "draw", lambda *given: drawn.append(real(*given)))
    monkeypatch.setattr(sys, "argv", [*command, "--methods", "vanilla,i4vgen"])
    evidence.main()
    assert len(drawn) == 2
    monkeypatch.setattr(sys, "argv", command)
    evidence.main()  # goes on with the methods that are missing
    assert len(drawn) == 4
    report = out / "2-prompts-1-seeds"
    first = read_rows(report / "rows.csv")
    (out / "prompt-001-seed-1000.npz").unlink()
    evidence.main()
    assert len(drawn) == 5
    again = read_rows(report / "rows.csv")
    monkeypatch.setattr(sys, "argv", [*command, "--model", "pocket"])
    with pytest.raises(SystemExit, match="choose another --out"):
        evidence.main()
    assert figures_in(first) == figures_in(again)
    assert {method for by in first.values() for method in by} == {*TITLES, "choice of 1", "choice of 4"}
    assert len(first) == 2 and all(set(TITLES) <= by.keys() for by in first.values())
    assert all((report / f"{chart}.svg").stat().st_size > 5_000 for chart in ("gains", "compute"))
    table = (report / "table.md").read_text()
    assert all(title in table for title in TITLES.values()) and "| best of 4 |" in table
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks" / "evidence").mkdir(parents=True)
    for document, names in (("docs/evidence.md", ("table", "ablations")), ("README.md", ("evidence",))):
        marked = [f"<!-- {name} -->\nold\n<!-- end of {name} -->" for name in names]
        (tmp_path / document).write_text("\n".join(["Before", *marked, "After\n"]))
    publish(report, tmp_path)
    kept = tmp_path / "benchmarks" / "evidence" / "rows.csv"
    assert kept.read_bytes() == (report / "rows.csv").read_bytes()
    document = (tmp_path / "docs" / "evidence.md").read_text()
    assert table.strip() in document and (report / "ablations.md").read_text().strip() in document
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("Before") and readme.endswith("After\n") and "old" not in readme
    assert all(TITLES[method] in readme for method in ("vanilla", "freeinit", "i4vgen", "fast", "real"))
    assert (tmp_path / "docs" / "gains.svg").exists()
    summary = json.loads((report / "results.json").read_text())["summary"]
    assert summary["vanilla"]["kind_right"]["mean"]["mean"] == np.mean(
        [by["vanilla"].figures["kind_right"] for by in again.values()]
    )
    # Others take their part of a long run: what is kept is not drawn again.
    command[command.index(str(out))] = str(tmp_path / "other")
    (tmp_path / "other").mkdir()
    save_file(blank_probe(), tmp_path / "other" / "probe-cpu.safetensors")
    command[command.index("--seeds") + 1] = "2"
    monkeypatch.setattr(sys, "argv", [*command, "--methods", "vanilla", "--add-to", str(kept)])
    evidence.main()
    assert len(drawn) == 5 + 2
    longer = tmp_path / "other" / "2-prompts-2-seeds"
    added = read_rows(longer / "rows.csv")
    main, others = ((longer / f"{name}.md").read_text() for name in ("table", "ablations"))
    assert f"|  | {TITLES['vanilla']} | {TITLES[REAL]} |" in main and "| videos | 4 | 4 |" in main
    assert "2 prompts x 1 seeds" in others and all(f"| {title} |" in others for title in TITLES.values())
    assert len(added) == 4 and {k: f for k, f in figures_in(added).items() if k in again} == figures_in(again)


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
    summary = json.loads((out / "2-prompts-1-seeds" / "results.json").read_text())["summary"]
    assert summary["i4vgen"]["imaging_quality"]["gain"] == {"mean": 0.25, "low": 0.25, "high": 0.25}
    assert set(summary["vanilla"]) == {*vbench_judge.DIMENSIONS, "videos", "seconds"}


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


def test_a_head_that_is_often_wrong_judges_nothing(tmp_path, clip, imagenet):
    torch.manual_seed(0)
    judge = make_judge(CPU).eval()
    case = Case(0, 0, "a prompt", next(iter(make_prompts(CPU, 1))), tmp_path / "one.npz")
    arrays = dict(PROVENANCE)
    for method in ("vanilla", "i4vgen"):
        arrays |= {f"{method} frames": clip, f"{method} seconds": 1.0, f"{method} anchor": clip[0]}
    np.savez(case.path, **arrays)

    def figures_by(*heads):
        jury = judging.Jury(judge, heads, imagenet, Probe(CPU, blank_probe()))
        (by_method,) = judging.judge_pocket({case: ["vanilla", "i4vgen"]}, jury, CPU).values()
        return [by_method[method].figures for method in ("vanilla", "i4vgen")]

    vanilla, i4vgen = figures_by("kind", "member", "setting")
    assert "motion_right" not in vanilla and vanilla.keys() == i4vgen.keys()
    assert {"kind_right", "worst_frame", "dynamic_degree", "imagenet_main_member"} <= vanilla.keys()
    assert vanilla["anchor_member"] == i4vgen["anchor_member"]
    _, i4vgen = figures_by("motion")
    assert np.isnan(i4vgen["worst_frame"])
    assert "main_member" not in i4vgen and "imagenet_main_member" in i4vgen


def figures_in(measured):
    """All but what the clock says."""
    return {key: {m: row.figures for m, row in by.items()} for key, by in measured.items()}


def blank_probe():
    """A probe that has learned nothing."""
    names = Probe(CPU).names
    state = {"mean": torch.zeros(1280), "std": torch.ones(1280)}
    for head in Judge.still_heads:
        state[f"{head}.weight"] = torch.zeros(len(names[head]), 1280)
        state[f"{head}.bias"] = torch.zeros(len(names[head]))
        state[f"{head}.right"] = torch.tensor(0.0)
    return state
