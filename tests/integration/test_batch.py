"""A batch: what a file of prompts asks for, what is made of it, how it goes on after an end of any kind."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
from functools import partial
from unittest.mock import Mock

import pytest
from openpyxl import Workbook
from PIL import Image

import i4vgen
from i4vgen.cli.batch import progress
from i4vgen.cli.batch.command import seeds
from i4vgen.cli.batch.folder import BatchFolder
from i4vgen.cli.batch.prompts import PromptLine, read_prompts
from i4vgen.cli.batch.tasks import Refusal, Task, plan
from i4vgen.cli.batch.vbench import VBenchLayout, fitting
from i4vgen.cli.main import main
from i4vgen.errors import InvalidInputError
from i4vgen.events import Selected
from tests.conftest import ROOT
from tests.support.imports import run_and_list_imports

FEW = ("--candidates", "2", "--steps", "2")


@pytest.fixture
def batch(tiny_model_dir, tmp_path, monkeypatch, capsys):
    """batch(prompts, arguments...): in an empty folder with the tiny model; gives (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(prompts: str, *arguments: str, name: str = "prompts.txt"):
        (tmp_path / name).write_text(prompts, encoding="utf-8")
        try:
            status = main(["batch", name, "--out", "study", "--model", str(tiny_model_dir), "--device", "cpu",
                           *FEW, *arguments])  # fmt: skip
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def table(folder) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def runs(folder) -> dict[str, float]:
    """The folders of runs, and when each run.json was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}


def videos(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.mp4")}


# What a file asks for

TEXT = "a red rocket rising\n\n  a blue car \n"
CSV = 'prompt,steps,compare\na red rocket rising,3,"vanilla,freeinit"\n\na blue car,,none\n'
JSONL = (
    '{"prompt": "a red rocket rising", "num_inference_steps": 3, "compare": ["vanilla", "freeinit"]}\n'
    '{"prompt": "a blue car", "steps": null, "compare": "none"}\n'
)


@pytest.mark.parametrize(
    ("name", "text", "steps", "compare"),
    [
        ("prompts.txt", TEXT, [5, 5], [(), ()]),
        ("prompts.csv", CSV, [3, 5], [("vanilla", "freeinit"), ()]),
        ("prompts.jsonl", JSONL, [3, 5], [("vanilla", "freeinit"), ()]),
        ("bom.csv", "\ufeff" + CSV, [3, 5], [("vanilla", "freeinit"), ()]),
    ],
)
def test_text_csv_and_jsonl_ask_for_runs(runtime, tmp_path, name, text, steps, compare):
    (tmp_path / name).write_text(text, encoding="utf-8")
    tasks = plan(read_prompts(tmp_path / name), None, {}, runtime)
    assert all(isinstance(task, Task) for task in tasks)
    assert [task.config.prompt for task in tasks] == ["a red rocket rising", "a blue car"]
    assert [task.config.num_inference_steps for task in tasks] == steps
    assert [task.compare for task in tasks] == compare


ROWS = "prompt;seed\na red rocket\u2028rising;1\na blue\u0085car;2\n"


def workbook(rows: list[list]) -> bytes:
    book, data = Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(data)
    return data.getvalue()


TABLES = {
    "semicolons.csv": ROWS.encode(),
    "tabs.tsv": ROWS.replace(";", "\t").encode(),
    "tabs.csv": ROWS.replace(";", "\t").encode(),
    "bars.csv": ROWS.replace(";", "|").encode(),
    "named.csv.txt": ROWS.encode(),
    "text.txt": ROWS.replace(";", ",").encode(),
    "nothing": ROWS.encode(),
    "windows.csv": ROWS.replace("\n", "\r\n").encode("utf-8-sig"),
    "sep.csv": ("sep=;\n" + ROWS).encode(),
    "quoted sep.csv": ('"sep=|"\r\n' + ROWS.replace(";", "|")).encode(),
    "utf-16.csv": ROWS.replace(";", "\t").encode("utf-16"),
    "utf-16 as Excel's Unicode text.txt": ROWS.replace(";", "\t").encode("utf-16"),
    "utf-16 without a mark.csv": ROWS.encode("utf-16-le"),
    "the other utf-16.csv": codecs.BOM_UTF16_BE + ROWS.encode("utf-16-be"),
    "empty columns.csv": ROWS.replace("seed\n", "seed;;\n").replace("1\n", "1;;\n").encode(),
    "capitals.csv": ROWS.replace("prompt;seed", "Prompt; Seed ").encode(),
    "book.xlsx": workbook([["prompt", "seed"], ["a red rocket\u2028rising", 1], [], ["a blue\u0085car", 2.0]]),
    "lines.jsonl": (
        '{"prompt": "a red rocket\u2028rising", "seed": 1}\r\n{"prompt": "a blue\u0085car", "seed": 2}\n'
    ).encode(),
    "lines": (
        '{"prompt": "a red rocket\u2028rising", "seed": 1}\n{"prompt": "a blue\u0085car", "seed": 2}'
    ).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_however_people_have_saved_them(tmp_path, name):
    (tmp_path / name).write_bytes(TABLES[name])
    assert [line.values for line in read_prompts(tmp_path / name)] == [
        {"prompt": "a red rocket\u2028rising", "seed": 1},
        {"prompt": "a blue\u0085car", "seed": 2},
    ]


def test_lines_end_at_line_feeds_alone(tmp_path):
    (tmp_path / "a.txt").write_bytes("a red\u2028rocket\x0brising\r\na\x85 car\x1c\n\n a sea".encode())
    assert [(line.line, line.values["prompt"]) for line in read_prompts(tmp_path / "a.txt")] == [
        (1, "a red\u2028rocket\x0brising"), (2, "a\x85 car"), (4, "a sea")
    ]  # fmt: skip


def test_a_text_about_prompts_is_no_table(tmp_path):
    (tmp_path / "a.txt").write_text("prompt, as a soldier\na car; red\n")
    assert [line.values["prompt"] for line in read_prompts(tmp_path / "a.txt")] == [
        "prompt, as a soldier", "a car; red"
    ]  # fmt: skip


def test_decimal_commas(tmp_path):
    (tmp_path / "a.csv").write_text("prompt;p_re;guidance_scale\na car, red;0,5;7,25\n")
    (line,) = read_prompts(tmp_path / "a.csv")
    assert line.values == {"prompt": "a car, red", "p_re": 0.5, "guidance_scale": 7.25}


def test_western_windows_files_are_read_and_told(tmp_path, capsys):
    (tmp_path / "a.csv").write_bytes("prompt;seed\r\na car;1\r\na café – “près” du lac;2\r\n".encode("cp1252"))
    assert read_prompts(tmp_path / "a.csv")[1].values["prompt"] == "a café – “près” du lac"
    said = capsys.readouterr().err
    assert "a.csv is not UTF-8 and read as Windows-1252 (line 3: 'a café" in said and said.count("\n") == 1


CYRILLIC = "\u043a\u0440\u0430\u0441\u043d\u0430\u044f"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", f"prompt\na car\n{CYRILLIC}\n".encode("cp1251"), "line 3 is not UTF-8: save"),
        ("a.txt", "a car\n赤いロケット\n".encode("shift-jis"), "line 2 is not UTF-8"),
        ("a.txt", "红色的火箭\n".encode("gb18030"), "line 1 is not UTF-8"),
        ("a.csv", b"prompt,seed\ra car,1\r", "line 1 ends with a carriage return alone"),
        ("a.csv", b"prompt\na \x00 car\n", "is not text"),
        ("a.xls", b"\xd0\xcf\x11\xe0" + bytes(500), "an old Excel: save it as .xlsx, or as CSV UTF-8"),
        ("a.xlsx", b"PK\3\4" + bytes(500), "cannot be read as an Excel workbook"),
        ("a.xlsx", workbook([["words"], ["a car"]]), "unknown column 'words'"),
        ("a.csv", b"sep=;\nprompt;seed\n\"a car;1\n", "line 3 is not CSV"),
        ("a.utf16.csv", codecs.BOM_UTF16_LE + b"a\0b", "is not valid UTF-16"),
    ],
    ids=["cp1251", "shift-jis", "gb18030", "cr", "nul", "xls", "no workbook", "xlsx", "open quote", "utf-16"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_line_and_what_to_do(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInputError) as refused:
        read_prompts(tmp_path / name)
    assert words in str(refused.value) and name in str(refused.value)


def test_every_parameter_may_be_a_column(runtime, tmp_path):
    values = {
        "prompt": "a car",
        "seed": 3,
        "height": 16,
        "p_re": 0.5,
        "negative_prompt": "sea",
        "batch-size": 2,
    }
    (tmp_path / "one.csv").write_text(f"{','.join(values)}\n{','.join(map(str, values.values()))}\n")
    (task,) = plan(read_prompts(tmp_path / "one.csv"), [7, 8], {"height": 32}, runtime)
    config = task.config
    assert (config.seed, config.height, config.p_re) == (3, 16, 0.5), "a line's own value holds"
    assert (config.negative_prompt, config.candidate_batch_size) == ("sea", 2)


def test_seeds_multiply_the_lines_and_twice_the_same_is_once(runtime, tmp_path):
    (tmp_path / "a.txt").write_text("a car\na rocket\na car\n")
    tasks = plan(read_prompts(tmp_path / "a.txt"), seeds("0-1,5"), {}, runtime)
    assert [(task.config.prompt, task.config.seed) for task in tasks] == [
        (prompt, seed) for prompt in ("a car", "a rocket") for seed in (0, 1, 5)
    ]
    assert len({task.name for task in tasks}) == 6


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "a.csv",
            "prompt,sed\na car,1\n",
            "unknown column 'sed': did you mean seed? `i4vgen batch --help` names them all",
        ),
        ("a.csv", "prompt,steps,num_inference_steps\na car,1,2\n", "two columns say num_inference_steps"),
        ("a.csv", "seed\n1\n", "one must be prompt"),
        ("a.csv", 'prompt\n"a car\n', "is not CSV"),
        (
            "a.jsonl",
            '{"prompt": "a car"}\n{"prompt": "a car", "model": "x"}\n',
            "line 2: unknown column 'model'",
        ),
        ("a.json", "[]", "give a JSONL file"),
        ("a.txt", " \n\n", "holds no prompts"),
        ("none.txt", None, "cannot read"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_as_a_whole(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError) as refused:
        read_prompts(tmp_path / name)
    assert words in str(refused.value) and name in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("a.csv", "prompt,seed\na car,1\na car,x\n", 3, "seed must be a whole number"),
        ("a.csv", "prompt,seed\na car,1,2\n", 2, "3 cells where the header has 2"),
        ("a.csv", "prompt,seed\n,1\n", 2, "prompt is missing"),
        ("a.csv", "prompt,compare\na car,chocolate\n", 2, "cannot compare with 'chocolate'"),
        ("a.csv", "prompt,anchor\na car,99\n", 2, "the anchor must be the index"),
        ("a.csv", "prompt,anchor_image\na car,none.png\n", 2, "none.png does not exist"),
        ("a.jsonl", '\n{"prompt": "a car"\n', 2, "is not JSON"),
        ("a.jsonl", '["a car"]\n', 1, "must be a JSON object"),
        ("a.jsonl", '{"prompt": 3}\n', 1, "prompt must be text"),
        ("a.jsonl", '{"prompt": "a car", "anchor_image": ["a.png"]}\n', 1, "anchor_image must be text"),
        ("a.jsonl", '{"prompt": "a car", "anchor_image": 0}\n', 1, "anchor_image must be text, not 0"),
        ("a.jsonl", '{"prompt": "a car", "num_frames": 900}\n', 1, "at most 8 for this model"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(runtime, tmp_path, name, text, line, words):
    (tmp_path / name).write_text(text)
    (refusal,) = [
        each for each in plan(read_prompts(tmp_path / name), None, {}, runtime) if isinstance(each, Refusal)
    ]
    assert refusal.line == line and words in refusal.error


@pytest.mark.parametrize("text", ["", "4-0", "0-", "a", "-1", "0-99999999", "0,,1"])
def test_seeds_that_are_none(batch, text):
    status, _, err = batch("a car", f"--seeds={text}")
    assert status == 2 and "are not seeds: write 0-4" in err and err.count("\n") == 1


# What is made of it


def test_a_batch_leaves_what_single_runs_do_and_a_summary(batch, tmp_path, tiny_model_dir):
    prompts = 'a red rocket rising\na blue car <b>over</b> "the" sea & night\n'
    status, out, _ = batch(prompts, "--seeds", "3", "--compare", "vanilla")
    assert status == 0 and "2 of 2 done" in out and "2 runs done, 0 failed" in out
    single = ["a red rocket rising", "--seed", "3", "--out", "single", "--model", str(tiny_model_dir), *FEW]
    assert main([*single, "--device", "cpu", "--compare", "vanilla"]) == 0
    rows = table(tmp_path / "study")
    assert [(row["line"], row["seed"], row["status"]) for row in rows] == [
        ("1", "3", "done"),
        ("2", "3", "done"),
    ]
    folder = tmp_path / "study" / rows[0]["folder"]
    assert folder.name.startswith("a-red-rocket-rising-3-")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    assert names == sorted(str(p.relative_to(tmp_path / "single")) for p in (tmp_path / "single").rglob("*.*"))
    for name in set(names) - {"run.json"}:  # which says how long it took
        assert (folder / name).read_bytes() == (tmp_path / "single" / name).read_bytes(), name

    run = json.loads((folder / "run.json").read_text())
    measures, (reward,) = run["measures"], run["scores"]
    assert float(rows[0]["score"]) == pytest.approx(max(run["candidate_scores"]), rel=1e-5)
    gain = measures["i4vgen"]["rewards"][reward] - measures["vanilla"]["rewards"][reward]
    assert float(rows[0]["gain"]) == pytest.approx(gain, rel=1e-4, abs=1e-6)
    assert float(rows[0]["i4vgen flicker"]) == pytest.approx(measures["i4vgen"]["flicker"], rel=1e-5)
    page = (tmp_path / "study" / "index.html").read_text()
    assert "a blue car &lt;b&gt;over&lt;/b&gt; &#34;the&#34; sea &amp; night" in page and "<b>over" not in page
    assert f"{folder.name}/i4vgen.mp4" in page
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == sorted(
        [*(row["folder"] for row in rows), "index.html", "summary.csv"]
    )


def test_a_line_may_search_and_one_with_an_anchor_of_its_own_does_not(batch, tmp_path):
    lines = "prompt,anchor,animate_best\na red car,,2\na red car,1,\na red car,1,2\na red car,,9\n"
    status, _, _ = batch(lines, "--animate-best", "2", name="prompts.csv")
    rows = table(tmp_path / "study")
    assert status == 1 and [row["status"] for row in rows] == ["done", "done", "failed", "failed"]
    searched, picked = (tmp_path / "study" / row["folder"] for row in rows[:2])
    assert len(list((searched / "trials").iterdir())) == 2 and not (picked / "trials").exists()
    assert "animate_best" not in json.loads((picked / "run.json").read_text())["request"]
    assert "the anchor is given" in rows[2]["error"] and "animate_best must be at most 2" in rows[3]["error"]
    assert 0 < float(rows[0]["i4vgen subject_consistency"]) <= 1
    page = (tmp_path / "study" / "index.html").read_text()
    assert page.count("best video of 2 anchors") == 1 and 'aria-label="Steadiness of I4VGen' in page


def test_what_is_finished_is_not_made_again(batch, tmp_path, monkeypatch):
    study = tmp_path / "study"
    assert batch("a red car\na blue car\n")[0] == 0
    before, bytes_before = runs(study), videos(study)
    broken, whole = before
    (study / broken / "i4vgen.mp4").write_bytes((study / broken / "i4vgen.mp4").read_bytes()[:-9])
    status, out, _ = batch("a red car\na blue car\na rocket\n")
    after = runs(study)
    assert status == 0 and "1 of 3 runs are there already" in out
    assert after[whole] == before[whole] and after[broken] != before[broken] and len(after) == 3
    assert {name: videos(study)[name] for name in bytes_before} == bytes_before, "made again as it was"

    monkeypatch.setattr(i4vgen, "__version__", "9.9")
    assert batch("a red car\n")[0] == 0
    assert len(runs(study)) == 4, "other code makes other runs, which stand beside these"
    assert [row["folder"] in after for row in table(study)] == [False]


def test_what_fails_is_recorded_and_the_rest_goes_on(batch, tmp_path, monkeypatch):
    def show(self, task, event, file):
        if task.config.prompt == "a night":
            raise RuntimeError("the device is gone")

    monkeypatch.setattr(progress.BatchLines, "show", show)
    status, out, err = batch("prompt,steps\na red car,\na sea,0\na night,\na rocket,\n", name="prompts.csv")
    assert status == 1 and "2 runs done, 2 failed" in out and "RuntimeError: the device is gone" in err
    rows = table(tmp_path / "study")
    assert [row["status"] for row in rows] == ["done", "failed", "failed", "done"]
    assert rows[1]["error"].startswith("line 3: num_inference_steps must be")
    assert rows[2]["error"] == "RuntimeError: the device is gone"
    assert len(runs(tmp_path / "study")) == 2
    assert "line 3: num_inference_steps" in (tmp_path / "study" / "index.html").read_text()


@pytest.mark.slow
def test_own_pictures_and_picked_candidates_are_recognised_too(batch, tmp_path, picture):
    (tmp_path / "pictures").mkdir()
    Image.fromarray(picture).save(tmp_path / "pictures" / "mine.png")
    lines = "prompt,anchor,anchor_image\na red car,1,\na red car,,mine.png\na red car,,\n"
    assert batch(lines, name="pictures/prompts.csv")[0] == 0
    study = tmp_path / "study"
    made = {row["folder"]: row["anchor"] for row in table(study)}
    assert len(made) == 3 and list(made.values())[:2] == ["1", ""]
    _, out, _ = batch(lines, name="pictures/prompts.csv")
    assert "3 of 3 runs are there already" in out
    Image.fromarray(picture[::-1]).save(tmp_path / "pictures" / "mine.png")
    batch(lines, name="pictures/prompts.csv")
    assert len(runs(study)) == 4, "another picture is another run"


def test_ctrl_c_leaves_finished_runs_alone(batch, tmp_path, monkeypatch):
    selected = []

    def show(self, task, event, file):
        if isinstance(event, Selected):
            selected.append(task)
            if len(selected) == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(progress.BatchLines, "show", show)
        status, _, err = batch("a red car\na blue car\n")
    study = tmp_path / "study"
    assert (status, err) == (130, "i4vgen: stopped\n")
    assert sorted(p.name for p in study.iterdir()) == sorted([selected[0].name, "index.html", "summary.csv"])
    assert [row["status"] for row in table(study)] == ["done", "waiting"]
    assert batch("a red car\na blue car\n")[0] == 0 and len(runs(study)) == 2


KILLED_DURING_THE_SECOND_RUN = """
import os, signal, sys
from i4vgen.cli.batch.progress import BatchLines
from i4vgen.cli.main import main
from i4vgen.events import Selected

runs = []

def show(self, task, event, file):
    if isinstance(event, Selected):
        runs.append(task)
        if len(runs) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

BatchLines.show = show
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_batch_that_is_killed_goes_on_where_it_was(batch, tmp_path, tiny_model_dir, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    prompts = "a red car\na blue car\n"
    (tmp_path / "prompts.txt").write_text(prompts)
    command = [sys.executable, "-c", KILLED_DURING_THE_SECOND_RUN, "batch", str(tmp_path / "prompts.txt"), *FEW,
               "--out", str(tmp_path / "study"), "--model", str(tiny_model_dir), "--device", "cpu"]  # fmt: skip
    assert subprocess.run(command, cwd=ROOT, env=environment).returncode == -signal.SIGKILL
    study = tmp_path / "study"
    before = runs(study)
    (first,) = before
    assert list(temporary.iterdir()), "what was under way is out of the way"
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert batch(prompts)[0] == 0
    assert len(runs(study)) == 2 and runs(study)[first] == before[first]
    assert not list(temporary.iterdir())


def test_vbench_finds_every_video_by_its_prompt(batch, tmp_path):
    prompts = "a red car-9\na car/a rocket\n"
    status, *_ = batch(prompts, "--seeds", "7-8", "--layout", "vbench", "--compare", "vanilla")
    study = tmp_path / "study"
    assert status == 1 and "can hold no /" in table(study)[-1]["error"]
    rows = table(study)
    for method in ("i4vgen", "vanilla"):
        found = {path.name: path.read_bytes() for path in (study / "vbench" / method).iterdir()}
        assert sorted(found) == ["a red car-9-0.mp4", "a red car-9-1.mp4"]
        # As vbench 0.1.5 reads the prompt from a name (vbench/utils.py).
        assert {re.sub(r"-\d+$", "", name.removesuffix(".mp4")) for name in found} == {"a red car-9"}
        for row, data in zip(rows[:2], (found[name] for name in sorted(found)), strict=True):
            assert data == (study / row["folder"] / f"{method}.mp4").read_bytes()
    batch("a red car-9\n", "--seeds", "8", "--layout", "vbench", "--compare", "vanilla")
    assert [path.name for path in (study / "vbench" / "i4vgen").iterdir()] == ["a red car-9-0.mp4"]


@pytest.fixture
def make_layout(runtime, tmp_path):
    """make_layout(prompts): the layout of runs whose videos hold the names of their folders, and the tasks."""

    def make(*prompts: str) -> tuple[VBenchLayout, list[Task]]:
        tasks = [
            fitting(task) for task in plan([PromptLine(1, {"prompt": p}) for p in prompts], None, {}, runtime)
        ]
        for task in tasks:
            (tmp_path / task.name).mkdir()
            (tmp_path / task.name / "i4vgen.mp4").write_text(task.name)
        return VBenchLayout(BatchFolder(str(tmp_path)), tasks), tasks

    return make


def test_vbench_names_are_apart_on_disks_that_ignore_case(make_layout, tmp_path):
    layout, tasks = make_layout("A red car", "a red car", "a café", "a cafe\u0301", "a \uff43ar", "a car")
    for task in tasks:
        layout.add(task)
    found = {path.name: path.read_text() for path in (tmp_path / "vbench" / "i4vgen").iterdir()}
    assert set(found.values()) == {task.name for task in tasks}
    # As disks compare names: macOS in NFD, Windows and exFAT in capital letters.
    for compared in (str.casefold, str.upper, partial(unicodedata.normalize, "NFD")):
        assert len({compared(name) for name in found}) == len(tasks)
    assert {"A red car-0.mp4", "a red car-1.mp4"} < set(found)


def test_vbench_names_hold_no_character_that_some_disks_refuse(make_layout, tmp_path):
    layout, (task,) = make_layout('what: a "red" * car\\rocket | <sea>?')
    layout.add(task)
    (path,) = (tmp_path / "vbench" / "i4vgen").iterdir()
    assert not set(path.name) & set('\\/:*?"<>|') and path.read_text() == task.name
    read_by_clip = unicodedata.normalize("NFKC", path.name)  # as ftfy does before CLIP's tokenizer
    assert read_by_clip == f"{task.config.prompt}-0.mp4"


@pytest.mark.parametrize("linked", [True, False])
def test_a_vbench_name_that_is_taken_is_replaced_and_nothing_written_through_it(
    make_layout, tmp_path, monkeypatch, linked
):
    """Where a disk takes two names for one, the name is a hard link to the first run's video."""
    layout, tasks = make_layout("a red car", "a blue car")
    layout.stems = dict.fromkeys(layout.stems, "a car-0")
    layout.add(tasks[0])
    if not linked:
        monkeypatch.setattr(os, "link", Mock(side_effect=OSError("no hard links here")))
    layout.add(tasks[1])
    assert [(tmp_path / task.name / "i4vgen.mp4").read_text() for task in tasks] == [t.name for t in tasks]
    assert (tmp_path / "vbench" / "i4vgen" / "a car-0.mp4").read_text() == tasks[1].name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--seed", "1", "--seeds", "0-4"), "--seed and --seeds exclude each other"),
        (("--layout", "nonsense"), "invalid choice"),
        (("--model", "nowhere"), "there is no model"),
        (("--out", "prompts.txt"), "cannot write to prompts.txt"),
    ],
)
def test_a_command_that_cannot_be_run(batch, arguments, words):
    status, out, err = batch("a red car\n", *arguments)
    assert status == 2 and out == "" and words in err and err.count("\n") == 1


def test_batch_help_is_quick():
    text, imports = run_and_list_imports("-m", "i4vgen", "batch", "--help")
    assert "--seeds" in text and "--p-ni-vsds" in text
    assert "torch" not in imports, "--help must not wait for torch"


@pytest.mark.slow
def test_a_batch_with_the_embedded_model(batch, pocket_dir, tmp_path):
    """The README's command, with fewer candidates and steps."""
    status, *_ = batch("a rocket rising in a starry night\n", "--model", "pocket", "--compare", "vanilla")
    (row,) = table(tmp_path / "study")
    assert status == 0 and row["status"] == "done"
    assert 0 < abs(float(row["gain"])) < 10 and float(row["seconds"]) > 0
