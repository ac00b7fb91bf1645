"""Where a run may be written, so that nothing a person has is lost."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i4vgen.errors import InvalidInputError, StorageError
from i4vgen.events import Selected
from i4vgen.method.anchor import Anchor
from i4vgen.storage import run_place
from i4vgen.storage.run_place import PLAN, check_room, claimed_folder, planned_run, room_for
from i4vgen.storage.runs import RunFolder
from tests.conftest import ROOT

MADE_WITH = {"model": "pocket", "versions": {"torch": "1"}}


@pytest.fixture
def plan(make_config):
    """plan(compare, anchor, **settings): what is to be made."""

    def make(compare=(), anchor=None, **settings):
        return planned_run(make_config(**settings), compare, MADE_WITH, anchor)

    return make


@pytest.fixture
def finish(make_config):
    """finish(path, compare, **settings): leaves a finished run there."""

    def make(path: Path, compare=(), stars=(), **settings) -> None:
        config = make_config(**settings)
        folder = RunFolder(path)
        folder.record(Selected(0, np.zeros((config.height, config.width, 3), np.uint8), "highest reward"))
        folder.finish(config, compare, MADE_WITH, stars)

    return make


def place(path: Path, plan, is_named=False, **options) -> Path:
    """Where a run would go that then does not begin."""
    with claimed_folder(path, plan, is_named, **options) as found:
        return found


def test_another_request_gets_a_number_and_the_same_one_its_own_folder(tmp_path, plan, finish):
    usual = tmp_path / "run"
    assert place(usual, plan()) == usual
    finish(usual)
    before = (usual / "run.json").read_bytes()
    assert place(usual, plan()) == usual
    assert place(usual, plan(seed=5)) == tmp_path / "run-2"
    assert place(usual, plan(anchor=1)) == tmp_path / "run-2", "the anchor is a part of the request"
    finish(tmp_path / "run-2", seed=5)
    assert place(usual, plan(seed=5)) == tmp_path / "run-2"
    assert place(usual, plan(seed=6)) == tmp_path / "run-3"
    assert (usual / "run.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2"]


def test_a_run_that_would_drop_a_video_or_a_star_is_another_request(tmp_path, plan, finish):
    finish(tmp_path / "run", ["vanilla"])
    assert place(tmp_path / "run", plan(["freeinit", "vanilla"])) == tmp_path / "run"
    assert place(tmp_path / "run", plan()) == tmp_path / "run-2"
    finish(tmp_path / "stars", stars=[3])
    assert place(tmp_path / "stars", plan()) == tmp_path / "stars-2"


def test_an_own_picture_is_a_part_of_the_request(tmp_path, plan, picture):
    red, blue = (Anchor.from_image(Image.new("RGB", (30, 30), colour)) for colour in ("red", "blue"))
    with claimed_folder(tmp_path / "run", plan(anchor=red), is_named=False) as path:
        (path / "anchor.png").write_bytes(b"...")  # interrupted after this
    assert place(tmp_path / "run", plan(anchor=red)) == tmp_path / "run"
    assert place(tmp_path / "run", plan(anchor=blue)) == tmp_path / "run-2"


@pytest.mark.parametrize("name", ["anchor.png", "notes.txt", "candidates", "run.json"])
def test_a_named_folder_with_foreign_files_is_refused(tmp_path, plan, name):
    if name == "candidates":
        (tmp_path / "mine" / name).mkdir(parents=True)
    else:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(InvalidInputError, match=r"holds other files.*--overwrite"):
        place(tmp_path / "mine", plan(), is_named=True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert place(tmp_path / "mine", plan(), is_named=True, overwrite=True) == tmp_path / "mine"
    assert place(tmp_path / "mine", plan()) == tmp_path / "mine-2"


def test_what_file_managers_leave_is_not_in_the_way(tmp_path, plan):
    (tmp_path / ".DS_Store").write_text("")
    assert place(tmp_path, plan(), is_named=True) == tmp_path


def test_a_named_folder_with_another_run_is_refused_finished_or_not(tmp_path, plan, finish):
    finish(tmp_path / "run")
    assert place(tmp_path / "run", plan(), is_named=True) == tmp_path / "run"
    with pytest.raises(InvalidInputError, match=r"a finished run of another request.*--overwrite"):
        place(tmp_path / "run", plan(seed=5), is_named=True)
    with suppress(KeyboardInterrupt), claimed_folder(tmp_path / "half", plan(), is_named=True) as path:
        (path / "candidates").mkdir()
        raise KeyboardInterrupt
    assert (tmp_path / "half" / PLAN).exists()
    assert place(tmp_path / "half", plan(), is_named=True) == tmp_path / "half"
    with pytest.raises(InvalidInputError, match=r"an unfinished run of another request.*--overwrite"):
        place(tmp_path / "half", plan(seed=5), is_named=True)


def test_a_run_that_does_not_begin_leaves_no_folder_and_keeps_an_empty_one(tmp_path, plan):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(InvalidInputError), claimed_folder(tmp_path / name, plan(), is_named=True):
            raise InvalidInputError("no such model")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.MP4", "anchor.png", "run.json", "all.zip"])
def test_a_folder_named_like_a_file_is_refused(tmp_path, plan, name):
    with pytest.raises(InvalidInputError, match="named like a file"):
        place(tmp_path / name, plan(), is_named=True)
    (tmp_path / "v1.5").mkdir()
    assert place(tmp_path / "v1.5", plan(), is_named=True) == tmp_path / "v1.5"
    assert place(tmp_path / "v2.0", plan(), is_named=True) == tmp_path / "v2.0"


def test_a_file_in_the_way(tmp_path, plan):
    (tmp_path / "run").write_text("mine")
    assert place(tmp_path / "run", plan()) == tmp_path / "run-2"
    with pytest.raises(InvalidInputError, match="it is a file"):
        place(tmp_path / "run", plan(), is_named=True)
    for is_named in (True, False):
        with pytest.raises(InvalidInputError, match="cannot write to"):
            place(tmp_path / "run" / "deeper", plan(), is_named)


def test_two_processes_do_not_share_a_folder(tmp_path, plan):
    """The other one is at work on the same request, which would be welcome in the folder otherwise."""
    (tmp_path / "plan.json").write_text(plan().model_dump_json(exclude_unset=True))
    script = (
        "import sys; from pathlib import Path; from i4vgen.storage.run_file import RunFile\n"
        "from i4vgen.storage.run_place import claimed_folder\n"
        "plan = RunFile.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "with claimed_folder(Path(sys.argv[2]), plan, is_named=False) as path:\n"
        "    print(path.name, flush=True); sys.stdin.read()\n"
    )
    call = [sys.executable, "-c", script, str(tmp_path / "plan.json"), str(tmp_path / "run")]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout.readline() == "run\n"
        for overwrite in (False, True):
            with pytest.raises(InvalidInputError, match="another run: wait"):
                place(tmp_path / "run", plan(), is_named=True, overwrite=overwrite)
        assert place(tmp_path / "run", plan()) == tmp_path / "run-2"
        other.kill()  # without a word: its lock goes with it
    assert place(tmp_path / "run", plan(), is_named=True) == tmp_path / "run"


def test_the_room_is_checked(tmp_path, make_config, monkeypatch):
    config = make_config(height=512, width=512, num_frames=8, num_candidates=16)
    needed = room_for(config, ["vanilla"])
    assert needed > 17 * 512 * 512 * 3 + 3 * 8 * 512 * 512 / 2
    assert room_for(make_config(animate_best=3), []) > room_for(make_config(), [])
    usage = run_place.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run_place.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(StorageError, match="not enough room") as refused:
        check_room(tmp_path / "not" / "there" / "yet", needed)
    assert len(str(refused.value)) < 200 + len(str(tmp_path))
    check_room(tmp_path, needed - 1)
