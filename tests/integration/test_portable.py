"""Run files hold no folders: local models are named by file name and digest, and found again by that."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from i4vgen.cli.main import main
from i4vgen.errors import InvalidInputError
from i4vgen.media import read_comment
from i4vgen.models import library, portable
from i4vgen.models.catalog import ModelSpec
from i4vgen.models.portable import FileId, from_portable, to_portable
from i4vgen.storage.runs import open_run
from tests.support import layouts_original as original


@pytest.fixture(autouse=True)
def another_process(monkeypatch, tmp_path):
    """Nothing is known of earlier tests, and the current folder is empty."""
    monkeypatch.setattr(portable, "_used", {})
    monkeypatch.setattr(portable, "_known", {})
    monkeypatch.setenv(library.ENVIRONMENT, "")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def private(tmp_path):
    """A person's folder of models."""
    folder = tmp_path / "Ann's secret +plans" / "models"
    (folder / "loras").mkdir(parents=True)
    for name, value in (("ink.safetensors", 1.0), ("oil.safetensors", 2.0)):
        save_file({"lora_unet_a.lora_down.weight": torch.full((2, 2), value)}, folder / "loras" / name)
    (folder / "sd" / "unet").mkdir(parents=True)
    (folder / "sd" / "unet" / "config.json").write_text("{}")
    return folder


def spec_of(folder) -> ModelSpec:
    loras = (f"{folder / 'loras' / 'ink.safetensors'}@0.5", "guoyww/animatediff-motion-lora-zoom-in@0.8")
    return ModelSpec("animatediff", base=str(folder / "sd"), loras=loras)


def test_names_and_digests(private):
    spec, files = to_portable(spec_of(private))
    assert spec == ModelSpec(
        "animatediff", base="sd", loras=("ink.safetensors@0.5", "guoyww/animatediff-motion-lora-zoom-in@0.8")
    )
    content = (private / "loras" / "ink.safetensors").read_bytes()
    assert files.keys() == {"sd", "ink.safetensors"}
    assert files["ink.safetensors"] == FileId(hashlib.sha256(content).hexdigest(), len(content))
    assert "secret" not in json.dumps([spec.to_dict(), {name: asdict(file) for name, file in files.items()}])


def test_a_pair_of_local_models(private):
    spec, _ = to_portable(ModelSpec(f"{private / 'sd'}+{private / 'loras' / 'oil.safetensors'}"))
    assert (spec.model, spec.motion_module) == ("sd", "oil.safetensors")
    assert to_portable(ModelSpec("a/b+c/d"))[0] == ModelSpec("a/b+c/d")


def test_two_files_of_one_name(private, tmp_path):
    other = tmp_path / "ink.safetensors"
    shutil.copy(private / "loras" / "oil.safetensors", other)
    given = (str(private / "loras" / "ink.safetensors"), str(other))
    spec, files = to_portable(ModelSpec("animatediff", loras=given))
    assert spec.loras == ("ink.safetensors", "ink-2.safetensors") and len(files) == 2
    assert from_portable(spec, files)[0].loras == given


def test_the_process_that_described_a_model_finds_it(private):
    assert from_portable(*to_portable(spec_of(private))) == (spec_of(private), {})


def test_files_are_found_by_digest_in_the_allowed_folders(private, tmp_path, monkeypatch):
    spec, files = to_portable(ModelSpec("animatediff", loras=(f"{private / 'loras' / 'ink.safetensors'}@0.5",)))
    monkeypatch.setattr(portable, "_used", {})
    assert from_portable(spec, files) == (spec, {"loras": ["ink.safetensors"]})
    elsewhere = tmp_path / "comfy" / "loras" / "styles"
    elsewhere.mkdir(parents=True)
    shutil.copy(
        private / "loras" / "oil.safetensors", elsewhere / "ink.safetensors"
    )  # of the same name and size
    shutil.copy(private / "loras" / "ink.safetensors", elsewhere / "renamed.safetensors")
    library.set_folders([str(tmp_path / "comfy")])
    assert from_portable(spec, files) == (
        ModelSpec("animatediff", loras=("styles/renamed.safetensors@0.5",)),
        {},
    )


def test_a_run_from_the_command_line_and_again(tmp_path, capsys):
    """run.json, pictures and videos name no folder; --from finds the files again, or asks."""
    models = tmp_path / "Ann's plans"
    original.write(models / "checkpoints" / "v1.safetensors", original.checkpoint())
    original.write(models / "animatediff_models" / "mm.ckpt", original.motion_module())
    sizes = "--reward none --anchor 0 --steps 1 --frames 2 --height 64 --width 64 --candidates 1 --p-re 1"
    common = ["a cat", *sizes.split(), "--out", "run"]
    model = ["--model", str(models / "checkpoints" / "v1.safetensors")]
    module = ["--motion-module", str(models / "animatediff_models" / "mm.ckpt")]
    vae = original.write(models / "vae" / "mse.safetensors", original.vae_weights(original.vae(21)))
    module += ["--vae", str(vae)]
    assert main([*common, *model, *module]) == 0, capsys.readouterr().err
    run = tmp_path / "here" / "run"
    for file in run.rglob("*"):
        assert not file.is_file() or b"plans" not in file.read_bytes(), file
    recipe = json.loads(read_comment(run / "i4vgen.mp4", 2**20))
    named = [recipe[name] for name in ("model", "motion_module", "vae")]
    assert named == ["v1.safetensors", "mm.ckpt", "mse.safetensors"]
    assert recipe["files"] == json.loads((run / "run.json").read_text())["files"]

    saved = (run / "i4vgen.mp4").read_bytes()
    portable._used.clear()
    again = ["--from", str(run / "run.json"), "--out", "again"]
    assert main(again) == 2
    message = capsys.readouterr().err
    assert "v1.safetensors" in message and "--models-dir" in message and len(message) < 220
    assert main([*again, "--models-dir", str(models)]) == 0, capsys.readouterr().err
    assert (tmp_path / "here" / "again" / "i4vgen.mp4").read_bytes() == saved
    portable._used.clear()
    library.set_folders([])
    assert main([*again, *model, *module]) == 0, capsys.readouterr().err


def test_runs_of_files_with_one_name_are_not_the_same(tmp_path):
    run = {"request": {"prompt": "a"}, "model": "x.safetensors"}
    files = [{"x.safetensors": {"sha256": digit * 64, "size": 5}} for digit in "ab"]
    identities = []
    for one in files:
        (tmp_path / "run.json").write_text(
            json.dumps(REQUEST | run | {"files": one} | {"request": REQUEST["request"]})
        )
        identities.append(open_run(tmp_path / "run.json").file.identity)
    assert identities[0] != identities[1]


REQUEST = {
    "request": {"prompt": "a", "num_frames": 2, "height": 64, "width": 64, "guidance_scale": 7.5},
    "versions": {},
}


@pytest.mark.parametrize(
    "files", [{"x": {"sha256": "x", "size": 1}}, {"x": {"sha256": "a" * 64}}, {"x": "/etc"}, []]
)
def test_malformed_files_are_refused(tmp_path, files):
    (tmp_path / "run.json").write_text(json.dumps(REQUEST | {"model": "x", "files": files}))
    with pytest.raises(InvalidInputError):
        open_run(tmp_path / "run.json")
