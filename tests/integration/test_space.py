"""The upload to a Hugging Face Space, of a small hub on this machine: all that the app needs arrives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fake_hub import LARGEST_REGULAR, FakeHub

ROOT = Path(__file__).resolve().parents[2]
SPACE = "someone/studio"
UPLOADED = {"README.md", "LICENSE", "app.py", "assets", "examples.json", "i4vgen", "requirements.txt"}

USE = """
import app
from i4vgen import bundled

page = str(app.demo.get_config_file())
assert "opening" in page, "the first screen shows a stored run"
assert app.runtime.defaults.num_frames
print(app.__file__, bundled.ROOT, sep="\\n")
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Someone", "-c", "user.email=someone@localhost", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """This repository as it lies here, committed: the script uploads nothing else."""
    folder = tmp_path_factory.mktemp("checkout") / "studio"
    leave_out = shutil.ignore_patterns(
        ".git", ".venv", "runs", "screenshots", "__pycache__", ".*_cache", ".gradio", ".hypothesis", "*.pyi"
    )
    shutil.copytree(ROOT, folder, ignore=leave_out)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "As it is")
    return folder


@pytest.fixture
def hub():
    with FakeHub() as fake:
        yield fake


@pytest.fixture
def deploy(checkout, hub, tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """deploy(): runs the script, with a token."""
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_someone",
        "HF_HUB_DISABLE_XET": "1",  # which this hub does not speak
        "NO_PROXY": "127.0.0.1",
    }

    def run(space: str = SPACE, **others: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "deploy.space", space]
        environment = os.environ | settings | others
        return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_the_app_runs_on_what_arrives(checkout, deploy, hub, tmp_path):
    done = deploy()
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"{hub.url}/spaces/{SPACE}"]
    assert hub.commits == [f"Deploy {git(checkout, 'rev-parse', '--short=12', 'HEAD').strip()}"]
    files = {name: content for name, content in hub.spaces[SPACE].items() if name != ".gitattributes"}
    assert {Path(name).parts[0] for name in files} == UPLOADED
    for name, content in files.items():
        assert content == (checkout / name).read_bytes(), name
        path = tmp_path / "space" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert max(map(len, files.values())) > LARGEST_REGULAR, "nothing here tries what the hub treats apart"

    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "I4VGEN_MODEL": "pocket"}
    built = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path / "space", env=environment, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    assert built.stdout.split() == [str(tmp_path / "space" / "app.py"), str(tmp_path / "space")]


def test_what_the_commit_no_longer_has_is_removed(deploy, hub):
    hub.spaces[SPACE] = {
        ".gitattributes": b"*.zip lfs",
        "notes.md": b"mine",
        "i4vgen/old.py": b"",
        "app.py": b"",
    }
    done = deploy()
    assert done.returncode == 0, done.stderr
    assert {".gitattributes", "notes.md", "i4vgen/pipeline.py"} <= hub.spaces[SPACE].keys()
    assert "i4vgen/old.py" not in hub.spaces[SPACE]
    assert hub.spaces[SPACE]["app.py"] == (ROOT / "app.py").read_bytes()


@pytest.mark.parametrize("name", ["app.py", "new.py"])
def test_a_tree_with_changes_is_refused(checkout, deploy, hub, name):
    before = (checkout / name).read_bytes() if (checkout / name).exists() else None
    (checkout / name).write_text("changed")
    try:
        done = deploy()
    finally:
        (checkout / name).unlink() if before is None else (checkout / name).write_bytes(before)
    assert done.returncode == 1
    assert "error: the work tree has changes; commit or stash them first" in done.stderr
    assert name in done.stderr
    assert not hub.spaces


def test_who_is_not_logged_in_is_told_how(deploy, hub):
    done = deploy(HF_TOKEN="")
    assert done.returncode == 1
    assert "hf auth login" in done.stderr
    assert not hub.spaces


def test_without_a_connection(deploy):
    done = deploy(HF_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "error: the hub cannot be reached" in done.stderr


def test_a_name_that_no_space_can_have(deploy):
    done = deploy("some one/studio")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
