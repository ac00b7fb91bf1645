"""Runs the commands of README.md and docs/ as they stand, with options that make them small."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.serving import wait_for_url
from tests.support.commands import ROOT, SERVERS, SESSIONS, SLOW_SESSIONS, Session

PATIENCE = 900  # seconds, for one command


@pytest.fixture
def environment(tmp_path) -> Iterator[dict[str, str]]:
    """An environment in which `python` and `i4vgen` are those of the tests, and the home folder is empty."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, call in (("python", ""), ("i4vgen", "-m i4vgen")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        (programs / name).chmod(0o755)
    ours = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "RAY_memory_monitor_refresh_ms": "0",  # would kill workers where other work fills the memory
    }
    (tmp_path / "home").mkdir()
    with TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as sockets:  # whose paths have to be short
        yield {"OMP_NUM_THREADS": "1"} | os.environ | ours | {"RAY_TMPDIR": sockets}


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder in which commands run."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def run(session: Session, folder: Path, environment: dict[str, str], tiny: Path) -> None:
    for name, content in session.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for command, options in session.commands.items():
        done = subprocess.run(
            f"{command} {options.format(tiny=tiny)}",
            shell=True,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("name", SESSIONS)
def test_commands(name, folder, environment, tiny_model_dir):
    run(SESSIONS[name], folder, environment, tiny_model_dir)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_SESSIONS)
def test_slow_commands(name, folder, environment, tiny_model_dir):
    run(SLOW_SESSIONS[name], folder, environment, tiny_model_dir)


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVERS)
def test_servers(command, folder, environment):
    options, paths = SERVERS[command]
    assert shutil.which("sh")
    (folder / "app.py").symlink_to(ROOT / "app.py")
    (Path(environment["HOME"]) / "ComfyUI/models/loras").mkdir(parents=True)
    log = folder / "log.txt"
    with log.open("w") as file:
        server = subprocess.Popen(
            f"exec env {command} --model pocket {options}",
            shell=True,
            cwd=folder,
            env=environment | {"PYTHONUNBUFFERED": "1", "TMPDIR": str(folder)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        url = wait_for_url(log, server)
        for path in paths:
            with urllib.request.urlopen(f"{url}{path}", timeout=PATIENCE) as answer:
                assert answer.status == 200
    finally:
        server.terminate()  # Ctrl-C may be ignored, as in the background
        server.wait(timeout=PATIENCE)
