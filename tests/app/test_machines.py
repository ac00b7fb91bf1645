"""`python app.py` on machines with several users, with a device that is not there, and in a container."""

from __future__ import annotations

import os
import re
import runpy
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gradio.routes  # noqa: F401  it keeps the folder that is named when it is imported: before a test names one
import psutil
import pytest

from i4vgen.errors import StorageError
from i4vgen.models.catalog import ENVIRONMENT
from i4vgen.storage.private import app_folder, make_private
from i4vgen.storage.run_store import RunStore
from i4vgen.studio import files
from tests.conftest import ROOT
from tests.support.browsing import running_app
from tests.support.gradio_protocol import open_client
from tests.support.machine import OTHER_USER, as_other_user, interruptible, need_root, shared_folder
from tests.support.waiting import PATIENCE, wait_until

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def build() -> Path:
    """Runs app.py as far as the page, which is not served, and keeps a run. Returns the folder of its files."""
    app = runpy.run_path(str(ROOT / "app.py"))
    app["run_store"].keep(lambda path: path.write_text("run"), owner="visitor")
    return Path(os.environ["GRADIO_TEMP_DIR"])


def modes(folder: Path) -> set[int]:
    """The permissions of a folder and of those in it."""
    inside = [path for path in folder.rglob("*") if path.is_dir() and "i4vgen-runs" in path.parts]
    return {stat.S_IMODE(path.stat().st_mode) for path in (folder, *inside)}


@pytest.fixture
def shared(monkeypatch) -> Iterator[Path]:
    """A temporary folder that all users share, as this process and its forks see it."""
    monkeypatch.setenv(ENVIRONMENT, "pocket")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    with shared_folder() as folder:
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        yield folder


@pytest.mark.parametrize("named", [False, True], ids=["default", "GRADIO_TEMP_DIR"])
def test_every_user_of_a_machine_has_a_folder_of_ones_own(shared, monkeypatch, named):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(shared) if named else "")
    mine = build()  # which names its own folder there
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(shared) if named else "")
    theirs, their_modes = as_other_user(lambda: (folder := build(), modes(folder)))
    assert mine != theirs and {mine.parent, theirs.parent} == {shared}
    assert theirs.stat().st_uid == OTHER_USER and modes(mine) == their_modes == {0o700}
    with pytest.raises(PermissionError):
        as_other_user(lambda: os.listdir(mine))


@pytest.mark.parametrize("named", [False, True], ids=["default", "GRADIO_TEMP_DIR"])
def test_links_to_runs_in_the_folder_of_earlier_versions_still_open(shared, monkeypatch, named):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(shared) if named else "")
    earlier = (shared if named else shared / "i4vgen-studio") / "i4vgen-runs"
    tokens = [RunStore.new_token() for _ in range(3)]
    (earlier / "visitor").mkdir(parents=True)
    (earlier / "visitor" / f"{tokens[0]}.zip").write_text("first")
    (earlier / f"{tokens[1]}.zip").write_text("second")
    (shared / "secret").write_text("what the link leads to")
    (earlier / f"{tokens[2]}.zip").symlink_to(shared / "secret")
    for _ in range(2):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(shared) if named else "")
        store = RunStore()
        kept = [path.read_text() for token in tokens if (path := store.path(token))]
        assert kept == ["first", "second"]
    assert [run.owner for run in store.runs() if run.path.stem == tokens[0]] == ["visitor"]


def test_a_folder_that_another_user_has_put_there_is_refused_in_words(shared):
    mine, link = app_folder(), shared / "link"
    as_other_user(mine.mkdir)
    as_other_user(lambda: link.symlink_to("/root"))
    for folder in (mine, link):
        with pytest.raises(StorageError, match="belongs to another user: set GRADIO_TEMP_DIR to a folder of"):
            make_private(folder)
    with pytest.raises(
        StorageError, match=r"cannot use the folder .* \(Permission denied\): set GRADIO_TEMP_DIR"
    ):
        as_other_user(lambda: make_private(Path("/root/gradio")))


def test_runs_that_others_could_list_are_closed_to_them(tmp_path):
    (tmp_path / "runs").mkdir(mode=0o755)
    assert stat.S_IMODE(RunStore(tmp_path / "runs").root.stat().st_mode) == 0o700


def test_in_a_folder_that_was_named_old_files_go_and_those_of_other_apps_stay(shared, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(shared))
    (shared / "other.mp4").write_text("of another app")
    app = runpy.run_path(str(ROOT / "app.py"))
    kept = app["run_store"].keep(lambda path: path.write_text("run"))
    old = files.new_path("video.mp4")
    old.write_text("old")
    files.sweep(app["cache"], spare=app["run_store"].root, age=0)
    assert not old.exists() and (shared / "other.mp4").exists() and app["run_store"].path(kept)


def test_a_device_that_is_not_there_is_refused_in_words(shared, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(shared))
    monkeypatch.setattr(sys, "argv", ["app.py", "--model", "pocket", "--device", "cuda:99"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the app's own reaction to SIGTERM
    with pytest.raises(SystemExit, match=r"^error: device 'cuda:99' is not available here"):
        runpy.run_path(str(ROOT / "app.py"), run_name="__main__")


# In a container


@pytest.fixture
def first_process(shared):
    """The app as number 1 of a PID namespace, as in a container: its address, and the process."""
    need_root()
    in_container = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    with interruptible(), running_app("--model", "pocket", within=in_container) as url:
        (unshare,) = (p for p in psutil.Process().children() if p.name() == "unshare")
        (app,) = unshare.children()
        yield url, unshare, app


def instruction(name: str) -> str:
    """What the Dockerfile says after a word."""
    return re.search(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)[1]


@pytest.mark.parametrize(
    "sent",
    [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.Signals[instruction("STOPSIGNAL")]],
)
def test_docker_stop_ends_the_app_with_a_run_under_way(first_process, sent, monkeypatch):
    url, unshare, app = first_process
    check = re.search(r"HEALTHCHECK .*CMD (.*)", DOCKERFILE)[1].replace("python", sys.executable, 1)
    monkeypatch.setenv("GRADIO_SERVER_PORT", url.rpartition(":")[2])
    assert subprocess.run(check, shell=True).returncode == 0
    client = open_client(url)
    job = client.submit("a rocket", num_candidates=64, num_inference_steps=100, api_name="/candidates")
    wait_until(lambda: job.done() or job.status().progress_data)
    assert not job.done()
    app.send_signal(sent)
    unshare.wait(PATIENCE)
    assert not app.is_running() and job.exception(PATIENCE), "the run was not waited for"
    assert subprocess.run(check, shell=True, stderr=subprocess.DEVNULL).returncode != 0, "it is not healthy"


def test_models_are_kept_in_a_folder_of_the_user_of_the_image():
    """A volume that is mounted there outlives the container, and Docker gives it the owner of the folder."""
    folder = re.search(r"^ENV HF_HOME=(\S+)", DOCKERFILE, re.MULTILINE)[1]
    before, _, after = DOCKERFILE.partition("\nUSER studio\n")
    assert "useradd" in before and f"-v i4vgen-models:{folder}" in before and 'mkdir -p "$HF_HOME"' in after
    assert f"-v i4vgen-models:{folder}" in (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
