"""The engine against the recorded run of the authors' implementation."""

import json
import shutil

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from tests import parity
from tests.conftest import REFERENCE


def test_every_stage_agrees_with_the_authors(capsys):
    assert parity.main([str(REFERENCE)]) == 0
    assert capsys.readouterr().out.count(" ok") == 6


@pytest.mark.slow
def test_a_difference_is_an_exit_status_of_1(tmp_path, capsys):
    with safe_open(REFERENCE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    config |= {"guidance_scale": 2.0, "anchor_index": 3}
    tensors["candidates"] = tensors["candidates"][:2].clone()  # fewer of them take less time
    changed = tmp_path / "changed.safetensors"
    save_file(tensors, changed, {"config": json.dumps(config)})
    assert parity.main([str(changed)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "DIFFERS" in line] == [
        "candidates", "NI-VSDS", "regeneration", "anchor",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"not a safetensors file"])
def test_unreadable_files_are_said_to_be_so(tmp_path, capsys, content):
    file = tmp_path / "file.safetensors"
    file.write_bytes(content)
    assert parity.main([str(file)]) == 1
    assert "not supported yet" in capsys.readouterr().out


def test_other_networks_are_said_to_be_unsupported(tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    with safe_open(REFERENCE, "pt") as file:
        tensors = {n: file.get_tensor(n) for n in file.keys() if "motion_modules" not in n}  # noqa: SIM118
        save_file(tensors, other, file.metadata())
    shutil.copy(other, tmp_path / "again.safetensors")
    assert parity.main([str(other)]) == 1
    assert "not AnimateDiff's" in capsys.readouterr().out
