"""Folders of models that the owner names, and fields in which people name files."""

from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from i4vgen.cli.main import parse
from i4vgen.cli.options import chosen_model
from i4vgen.errors import InvalidInputError
from i4vgen.models import catalog, library
from i4vgen.models.catalog import REPLACEMENTS, ModelSpec
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.storage.run_file import RunFile
from i4vgen.studio.api.model_choice import ModelChoice
from i4vgen.studio.form import Form
from i4vgen.studio.lora_text import join_loras, split_loras
from tests.support import layouts_original as original


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder in ComfyUI's layout."""
    folder = tmp_path / "my models"
    original.write(folder / "checkpoints" / "real +istic.safetensors", original.checkpoint())
    original.write(folder / "animatediff_models" / "mm_sd_v15_v2.ckpt", original.motion_module())
    original.write(folder / "vae" / "mse.safetensors", original.vae_weights(original.vae()))
    (folder / "loras" / "styles").mkdir(parents=True)
    save_file(
        {"lora_unet_a.lora_down.weight": torch.ones(1)}, folder / "loras" / "styles" / "ink blot.safetensors"
    )
    save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    monkeypatch.setenv(library.ENVIRONMENT, str(folder))
    return folder


def test_files_are_named_without_their_folder(models):
    assert library.names(library.MODEL) == ["real +istic.safetensors"]
    assert library.names(library.MOTION_MODULE) == ["mm_sd_v15_v2.ckpt"]
    assert library.names(library.VAE) == ["mse.safetensors"]
    assert library.names(library.LORA) == ["styles/ink blot.safetensors"]
    spec = ModelSpec(
        "real +istic.safetensors",
        loras=("styles/ink blot.safetensors@0.5",),
        motion_module="mm_sd_v15_v2.ckpt",
        vae="mse.safetensors",
    )
    entry = catalog.find(spec)
    assert entry.sources == {
        "model": str(models / "checkpoints" / "real +istic.safetensors"),
        "motion_adapter": str(models / "animatediff_models" / "mm_sd_v15_v2.ckpt"),
        "vae": str(models / "vae" / "mse.safetensors"),
    }
    assert entry.loras == (f"{models / 'loras' / 'styles' / 'ink blot.safetensors'}@0.5",)


def test_every_surface_has_every_replaceable_part():
    """The command line, the form, the endpoints, run files and Python."""
    chosen = {name: f"someone/{name}" for name in REPLACEMENTS}
    given = [text for name, value in chosen.items() for text in (f"--{name.replace('_', '-')}", value)]
    spec = chosen_model(parse(["a car", "--model", "animatediff", *given]))
    assert spec.replacements == chosen
    form = Form.of({"compare": [], "model": "pocket", "base": "", "loras": "", "rewards": []} | chosen)
    assert form.spec().replacements == chosen
    assert form.with_values(dict.fromkeys(chosen, "")).with_spec(spec).spec().replacements == chosen
    assert RunFile(request={}, model="pocket", **chosen).spec().replacements == chosen
    for takes in (ModelChoice, I4VGenPipeline.from_pretrained):
        assert chosen.keys() <= inspect.signature(takes).parameters.keys()


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "styles/../../../secret.safetensors", "/etc/passwd", ""]
)
def test_nothing_outside_of_the_folders_is_found(models, name):
    assert library.locate(name, library.LORA) == name
    assert not library.has(str(models.parent / "secret.safetensors"), library.LORA)


def test_visitors_may_name_what_is_in_the_folders(models, runtime):
    offered = OfferedModels(runtime, allowed=[])
    named = ModelSpec(
        "real +istic.safetensors",
        None,
        ("styles/ink blot.safetensors@2",),
        (),
        "mm_sd_v15_v2.ckpt",
        "mse.safetensors",
    )
    assert offered.runtime_for(named).spec == named
    for spec in (
        ModelSpec(str(models / "checkpoints" / "real +istic.safetensors")),
        ModelSpec("../secret.safetensors"),
        ModelSpec("animatediff", loras=("../../secret.safetensors",)),
        ModelSpec("animatediff", motion_module=str(models / "animatediff_models" / "mm_sd_v15_v2.ckpt")),
        ModelSpec("animatediff", vae=str(models / "vae" / "mse.safetensors")),
        ModelSpec("animatediff", vae="mm_sd_v15_v2.ckpt"),
        ModelSpec("animatediff", vae="someone/files/mse.safetensors"),
    ):
        with pytest.raises(InvalidInputError, match=r"is not offered here|there is no model"):
            offered.runtime_for(spec)


def test_the_owner_may_name_any_file(models, runtime):
    spec = ModelSpec(str(models / "checkpoints" / "real +istic.safetensors"), rewards=())
    assert OfferedModels(runtime).runtime_for(spec).spec == spec


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInputError, match="--models-dir"):
        library.set_folders([str(tmp_path / "none")])


@pytest.mark.parametrize(
    ("text", "loras"),
    [
        ("a/b@0.8  c/d", ("a/b@0.8", "c/d")),
        ("/my loras/ink blot.safetensors@0.8 a/b", ("/my loras/ink blot.safetensors@0.8", "a/b")),
        ("/a b/x.safetensors /c d/y.ckpt@-1", ("/a b/x.safetensors", "/c d/y.ckpt@-1")),
        (
            r"C:\My LoRAs\ink.safetensors D:/x+y/z.safetensors",
            (r"C:\My LoRAs\ink.safetensors", "D:/x+y/z.safetensors"),
        ),
        (r"\\server\my share\ink.safetensors", (r"\\server\my share\ink.safetensors",)),
        ('"ink blot.safetensors"@0.5 "it\'s.safetensors"', ("ink blot.safetensors@0.5", "it's.safetensors")),
        ("'a \"b\".safetensors'", ('a "b".safetensors',)),
        ("/it's/mine/x.safetensors", ("/it's/mine/x.safetensors",)),
        ("", ()),
    ],
)
def test_loras_in_a_text(text, loras):
    assert split_loras(text) == loras
    assert split_loras(join_loras(loras)) == loras


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\\\0"), min_size=1).filter(str.strip)))
def test_loras_survive_the_form(loras):
    assert split_loras(join_loras(loras)) == tuple(loras)


def test_a_form_keeps_paths():
    spec = ModelSpec(
        "/a b/x+y.safetensors", "C:\\my 'base'.ckpt", ('/it"s/a b.safetensors@0.5', "c/d"), (), "m m.ckpt"
    )
    form = Form({}, [], "", "", "", [])
    assert form.with_spec(spec).spec() == spec
