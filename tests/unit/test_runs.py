"""A run on disk: what is written, and that it comes back as it was."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save as save_tensors

from i4vgen.errors import InvalidInputError, StorageError
from i4vgen.events import Candidate, Progress, Result, Selected, Stage
from i4vgen.storage.runs import LATENTS, RunFolder, open_run, run_name

SIZE = (32, 24, 3)  # of what the tiny model draws


def clip(num_frames: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (num_frames, *SIZE), np.uint8)


@pytest.fixture
def picture() -> np.ndarray:
    return clip(1)[0]


@pytest.fixture
def folder(tmp_path, make_config) -> RunFolder:
    """A finished run: two candidates of which the second was picked, and one video."""
    folder = RunFolder(tmp_path / "run")
    rng = np.random.default_rng(1)
    for index, score in ((0, 0.5), (3, -0.25)):
        latents = rng.standard_normal((4, 1, 8, 8), np.float32)
        folder.record(Candidate(index, rng.integers(0, 255, SIZE, np.uint8), {"pocket": score}, latents))
    folder.record(Selected(3, folder.candidates[1].image, "picked"))
    folder.record(Result("i4vgen", clip(), 8, 0.2, np.zeros((4, 4, 8, 8), np.float32)))
    folder.finish(make_config(seed=9), ["vanilla"], {"model": "pocket", "device": "cpu"}, stars={3})
    return folder


def test_run_folder(tmp_path, picture, make_config):
    latents = np.zeros((4, 1, 8, 6), np.float32)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "vanilla.mp4").write_text("of an earlier run")
    folder = RunFolder(tmp_path)
    assert not (tmp_path / "vanilla.mp4").exists() and (tmp_path / "notes.txt").exists()
    folder.record(Stage("candidates", 1))
    assert folder.record(Progress("candidates", 1, 1, 961, 0.1)) is None
    file = folder.record(Candidate(0, picture, {"pocket": 0.5}, latents))
    assert file == tmp_path / "candidates" / "00.png"
    assert np.array_equal(np.asarray(Image.open(file)), picture)
    folder.record(Selected(0, picture, "highest reward"))
    folder.record(Stage("ni_vsds", 1))
    folder.record(Result("ni_vsds", clip(), 8, 0.2, latents))
    run = json.loads(folder.finish(make_config(), ["vanilla"], {"device": "cpu"}).read_text())
    assert run["request"] == make_config().to_dict()
    assert (run["anchor_index"], run["candidate_scores"], run["device"]) == (0, [0.5], "cpu")
    assert set(run["seconds"]) == {"candidates", "ni_vsds"}


def test_a_finished_candidate_takes_the_place_of_its_sketch(tmp_path, make_config):
    folder = RunFolder(tmp_path / "run")
    latents = np.zeros((4, 1, 8, 6), np.float32)
    for index, shade, score, sketch in ((0, 10, 0.9, True), (1, 20, 0.5, True), (1, 30, 0.7, False)):
        folder.record(Candidate(index, np.full(SIZE, shade, np.uint8), {"pocket": score}, latents, sketch))
    folder.finish(make_config(height=32, width=24), [], {"model": "pocket", "device": "cpu"})
    back = open_run(tmp_path / "run").candidates()
    assert [(c.index, c.score, c.sketch, c.image[0, 0, 0]) for c in back] == [
        (0, 0.9, True, 10), (1, 0.7, False, 30)
    ]  # fmt: skip
    with (tmp_path / "run" / "scores.csv").open() as file:
        assert [row["rank"] for row in csv.DictReader(file)] == ["2", "1"], "what is finished is ahead"


def test_a_disk_that_fills_up_costs_the_file_that_is_written_and_no_other(tmp_path, picture, make_config):
    folder, latents = RunFolder(tmp_path / "run"), np.zeros((4, 1, 8, 6), np.float32)
    folder.record(Candidate(0, picture, {"pocket": 0.5}, latents))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(StorageError, match="make room on the disk"):
            folder.record(Candidate(1, picture, {"pocket": 0.5}, latents))
        with pytest.raises(StorageError, match="make room on the disk"):
            folder.finish(make_config(), [], {"model": "pocket"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["00.png"]
    assert np.array_equal(np.asarray(Image.open(files[0])), picture)


def test_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="choose another folder"):
        RunFolder(tmp_path / "file")


@pytest.mark.parametrize("how", ["folder", "run.json", "zip"])
def test_a_run_comes_back_as_it_was(folder, tmp_path, make_config, how):
    places = {"folder": folder.path, "run.json": folder.path / "run.json"}
    run = open_run(places.get(how) or folder.pack(tmp_path / "run.zip"))
    assert (run.config, run.spec.model, run.compare) == (make_config(seed=9), "pocket", ("vanilla",))
    assert (run.chosen(), run.anchor_index, run.stars) == (3, 3, {3})
    for before, after in zip(folder.candidates, run.candidates(), strict=True):
        assert (before.index, before.scores) == (after.index, after.scores)
        assert np.array_equal(before.image, after.image) and np.array_equal(before.latents, after.latents)
    assert np.array_equal(run.anchor_picture(), folder.candidates[1].image)
    assert run.videos() == {"i4vgen": (folder.path / "i4vgen.mp4").read_bytes()}


def test_the_best_candidate_is_no_choice_and_an_own_picture_is(folder, tmp_path, make_config):
    folder.record(Selected(0, folder.candidates[0].image, "highest reward"))
    folder.finish(make_config(), [], {"model": "pocket"})
    assert open_run(folder.path).chosen() is None
    folder.record(Selected(None, folder.candidates[0].image, "uploaded image"))
    folder.finish(make_config(), [], {"model": "pocket"})
    anchor = open_run(folder.path).chosen()
    assert anchor.index is None and np.array_equal(np.asarray(anchor.image), folder.candidates[0].image)
    (folder.path / "anchor.png").unlink()
    with pytest.raises(InvalidInputError, match=r"anchor\.png is missing"):
        open_run(folder.path).chosen()


def test_the_earlier_name_of_an_uploaded_image_is_understood(folder, make_config):
    folder.record(Selected(None, folder.candidates[0].image, "uploaded image"))
    file = folder.finish(make_config(), [], {"model": "pocket"})
    write(file, file.read_text().replace("uploaded image", "own picture"))
    run = open_run(file)
    assert run.chosen().reason == run.file.anchor_reason == "uploaded image"


def test_the_scores_stand_in_a_table(folder):
    with (folder.path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["0", "3"] and rows[0]["seed"] == "9"
    assert [row["rank"] for row in rows] == ["1", "2"] and [row["starred"] for row in rows] == ["0", "1"]
    assert float(rows[1]["pocket"]) == -0.25


def test_a_run_json_alone_gives_the_settings(folder, tmp_path, make_config):
    shutil.copy(folder.path / "run.json", tmp_path / "alone.json")
    run = open_run(tmp_path / "alone.json")
    assert run.config == make_config(seed=9) and run.candidates() == () and run.videos() == {}


def write(path, text):
    path.write_text(text)
    return path


def test_what_is_no_run_is_refused_in_words(folder, tmp_path):
    for path in (tmp_path / "none.json", folder.path / "none.zip", folder.path / "none"):
        with pytest.raises(InvalidInputError, match="no such file"):
            open_run(path)
    with pytest.raises(InvalidInputError, match="not valid JSON"):
        open_run(write(tmp_path / "a.json", "{"))
    for text in ("[]", "{}", '{"request": {}, "compare": []}'):
        with pytest.raises(InvalidInputError, match="holds no run"):
            open_run(write(tmp_path / "b.json", text))
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as packed:
        packed.writestr("readme.txt", "nothing")
    with pytest.raises(InvalidInputError, match="no run in it"):
        open_run(tmp_path / "empty.zip")
    (folder.path / LATENTS).write_bytes(b"not tensors")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        open_run(folder.path).candidates()
    values = json.loads((folder.path / "run.json").read_text()) | {"scores": {"pocket": [0.5]}}
    shutil.copy(folder.pack(tmp_path / "run.zip"), tmp_path / "short.zip")
    write(folder.path / "run.json", json.dumps(values))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        open_run(folder.path).candidates()


HOSTILE = {
    "compare": [{"path": "README.md", "meta": {"_type": "gradio.FileData"}}],
    "stars": None,
    "rewards": None,
    "loras": 3,
    "base": [1],
    "candidate_indices": ["../../x"],
    "scores": {"pocket": ["high", 0]},
    "seconds": [],
    "measures": {"i4vgen": {"flicker": "none", "motion": 0, "consistency": 0, "rewards": {}}},
    "anchor_reason": "because",
}


@pytest.mark.parametrize(("name", "value"), HOSTILE.items(), ids=HOSTILE)
def test_a_run_json_with_other_values_is_refused(folder, name, value):
    values = json.loads((folder.path / "run.json").read_text()) | {name: value}
    write(folder.path / "run.json", json.dumps(values))
    with pytest.raises(InvalidInputError, match=f"{name} is not as a run writes it"):
        open_run(folder.path)


def test_all_measures_of_a_run_name_the_same_rewards(folder):
    values = json.loads((folder.path / "run.json").read_text())
    figures = {"flicker": 0, "motion": 0, "consistency": 0}
    measures = {name: figures | {"rewards": {name: 1.0}} for name in ("i4vgen", "vanilla")}
    write(folder.path / "run.json", json.dumps(values | {"measures": measures}))
    with pytest.raises(InvalidInputError, match="measures is not as a run writes it"):
        open_run(folder.path)


def test_files_that_are_not_what_they_seem(folder, tmp_path):
    Image.new("RGB", (5000, 5000)).save(folder.path / "candidates" / "00.png")
    with pytest.raises(InvalidInputError, match="another size"):
        open_run(folder.path).candidates()
    write(folder.path / "anchor.png", "no picture")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        open_run(folder.path).anchor_picture()
    with pytest.raises(InvalidInputError, match="not valid JSON"):
        open_run(write(tmp_path / "deep.json", "[" * 100_000))


def repack(path, **contents):
    """A packed run with other contents of some files."""
    other = path.with_name("other.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, contents.pop(Path(name).stem, None) or old.read(name))
    return other


def read_all(path):
    run = open_run(path)
    return run.candidates(), run.anchor_picture(), run.videos()


@pytest.mark.parametrize("stem", ["candidates", "00", "i4vgen", "run"])
def test_a_packed_file_that_would_fill_the_memory_is_refused(folder, tmp_path, stem):
    path = repack(folder.pack(tmp_path / "run.zip"), **{stem: bytes(64 * 2**20)})
    assert path.stat().st_size < 2**20
    with pytest.raises(InvalidInputError, match="too large"):
        read_all(path)


@pytest.mark.parametrize("shape", [(4, 2, 8, 6), (4, 1, 512, 512), (4, 8, 6)])
def test_latents_of_a_forged_shape_are_refused(folder, tmp_path, shape):
    forged = save_tensors({"00": np.zeros(shape, np.float32), "03": np.zeros(shape, np.float32)})
    with pytest.raises(InvalidInputError, match=r"too large|not hold the latents"):
        open_run(repack(folder.pack(tmp_path / "run.zip"), candidates=forged)).candidates()


def test_a_packed_run_of_very_many_files_is_not_even_listed(folder, tmp_path):
    path = folder.pack(tmp_path / "run.zip")
    with zipfile.ZipFile(path, "a") as packed:
        for number in range(5000):
            packed.writestr(f"an-entry-with-a-long-enough-name-{number}", b"")
    with pytest.raises(InvalidInputError, match="too many files"):
        open_run(path)
    with zipfile.ZipFile(path, "a") as packed:
        packed.comment = b"PK\5\6" + bytes(40)  # a record that is none
    with pytest.raises(InvalidInputError, match=r"too many files|cannot be|no run in it"):
        open_run(path)


def test_a_run_too_large_to_be_opened_is_refused(folder, make_config):
    values = json.loads((folder.path / "run.json").read_text())
    write(
        folder.path / "run.json",
        json.dumps(values | {"request": values["request"] | {"height": 4096, "width": 4096}}),
    )
    with pytest.raises(InvalidInputError, match="larger videos"):
        open_run(folder.path)


RESERVED = {"con", "prn", "aux", "nul", *(port + digit for port in ("com", "lpt") for digit in "123456789")}
"""What Windows takes for a device, with any suffix."""


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A rocket, rising!", "a-rocket-rising-9"),
        ("लड़की और बिल्ली", "लड़की-और-बिल्ली-9"),
        ("cafe\u0301 NOI\u0308R", "caf\u00e9-no\u00efr-9"),
        ("क\u094d\u200dष", "क\u094dष-9"),  # without the joiner
        ("\u202egnp", "gnp-9"),
        ("❤\ufe0f love", "love-9"),  # a mark of no letter
        ("🚀", "run-9"),
        ("..\\x/.", "x-9"),
    ],
)
def test_a_folder_is_named_after_the_words_of_the_prompt(make_config, prompt, name):
    config = make_config(prompt=prompt, seed=9)
    assert run_name(config) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u0915", "\U00020000", "\u0915\u093f", "a\u0334\u0333"])
def test_a_folder_of_a_long_prompt_can_be_made(make_config, tmp_path, letter):
    """However many bytes a letter takes; its marks are not cut off."""
    name = run_name(make_config(prompt=letter * 100, seed=2**32 - 1))
    (tmp_path / f"{name}-01234567").mkdir()
    words = name.rpartition("-")[0]
    assert words == letter * (len(words) // len(letter)) and len(words) > 40


def test_no_folder_has_a_name_that_windows_reserves(make_config):
    for word in RESERVED:
        assert run_name(make_config(prompt=word)).lower() not in RESERVED


def test_a_run_is_packed_whatever_the_clock_says(folder, tmp_path, make_config):
    for file in folder.path.rglob("*"):
        os.utime(file, (0, 0))  # 1970, as a machine has it that starts without a network
    assert open_run(folder.pack(tmp_path / "run.zip")).config == make_config(seed=9)
