"""LoRAs: what is added to which weights, in every published format, and what cannot be used."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from i4vgen.backbones.animatediff import AnimateDiffBackbone, MotionModule
from i4vgen.backbones.lora import parse
from i4vgen.errors import ModelError
from tests.support.layouts_animatediff import (
    ALPHA,
    RANK,
    attention_layers,
    image_layers,
    text_layers,
    write_image_lora,
    write_motion_adapter,
    write_motion_lora,
    write_stable_diffusion,
)
from tests.support.predicting import predict_noise

WEIGHT = 0.7


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with one model each, and LoRAs for them."""
    folder = tmp_path_factory.mktemp("loras")
    write_stable_diffusion(folder / "sd")
    write_motion_adapter(folder / "v2")
    write_motion_adapter(folder / "v3", middle=False)
    write_motion_lora(folder / "zoom-in")
    write_image_lora(folder / "ink" / "pytorch_lora_weights.safetensors")
    write_image_lora(folder / "kohya.safetensors", kohya=True)
    return folder


@pytest.fixture(scope="module")
def load(models):
    """load(*loras, ...): the model with LoRAs."""

    def load(*loras, adapter="v2", dtype=torch.float32) -> AnimateDiffBackbone:
        return AnimateDiffBackbone.from_pretrained(
            str(models / "sd"), str(models / adapter), dtype=dtype, loras=[str(lora) for lora in loras]
        )

    return load


@pytest.fixture(scope="module")
def plain(load) -> AnimateDiffBackbone:
    return load()


def weights_of(backbone) -> dict[str, torch.Tensor]:
    networks = {"unet": backbone.unet, "text_encoder": backbone.text_encoder}
    return {f"{name}.{key}": w for name, net in networks.items() for key, w in net.state_dict().items()}


def assert_added(backbone, plain, expected: dict[str, torch.Tensor], atol: float = 1e-6) -> None:
    """The weights are the plain ones plus `expected`, and nothing else was changed."""
    before, after = weights_of(plain), weights_of(backbone)
    assert before.keys() == after.keys() >= expected.keys() != set()
    for name, weight in before.items():
        wanted = weight + expected.get(name, 0)
        torch.testing.assert_close(after[name].float(), wanted, atol=atol, rtol=1e-5, msg=name)


def product(weights, up: str, down: str) -> torch.Tensor:
    return torch.einsum("or...,ri...->oi...", weights[up], weights[down])


def motion_additions(models, plain) -> dict[str, torch.Tensor]:
    weights = load_file(models / "zoom-in" / "diffusion_pytorch_model.safetensors")
    additions = {}
    for name, _ in attention_layers(plain.unet, "motion_modules"):
        module, _, projection = name.replace("to_out.0", "to_out").rpartition(".")
        key = f"unet.{module}.processor.{projection}_lora"
        additions[f"unet.{name}.weight"] = product(weights, f"{key}.up.weight", f"{key}.down.weight")
    return additions


def test_motion_lora(models, load, plain):
    additions = motion_additions(models, plain)
    backbone = load(f"{models / 'zoom-in'}@{WEIGHT}")
    assert_added(backbone, plain, {name: WEIGHT * addition for name, addition in additions.items()})
    assert len(additions) == 56 and any("mid_block" in name for name in additions)


def test_diffusers_image_lora(models, load, plain):
    weights = load_file(models / "ink" / "pytorch_lora_weights.safetensors")
    expected = {}
    for name, _ in image_layers(plain.unet, every=False):
        key = f"unet.{name}.lora"
        expected[f"unet.{name}.weight"] = product(weights, f"{key}.up.weight", f"{key}.down.weight")
    for name, _ in text_layers(plain.text_encoder, every=False):
        key = f"text_encoder.text_model.{name}.lora_linear_layer"
        expected[f"text_encoder.{name}.weight"] = product(weights, f"{key}.up.weight", f"{key}.down.weight")
    assert_added(load(models / "ink"), plain, expected)


def kohya_additions(weights, plain) -> dict[str, torch.Tensor]:
    keys = {f"unet.{name}": f"lora_unet_{name}" for name, _ in image_layers(plain.unet, every=True)}
    for name, _ in text_layers(plain.text_encoder, every=True):
        keys[f"text_encoder.{name}"] = f"lora_te_text_model_{name}"
    expected = {}
    for name, key in keys.items():
        key = key.replace(".", "_")
        scale = weights[f"{key}.alpha"] / len(weights[f"{key}.lora_down.weight"])
        added = product(weights, f"{key}.lora_up.weight", f"{key}.lora_down.weight")
        expected[f"{name}.weight"] = scale * added
    return expected


def test_kohya_image_lora(models, load, plain):
    weights = load_file(models / "kohya.safetensors")
    assert {w.item() / RANK for name, w in weights.items() if "alpha" in name} == {ALPHA / RANK} == {0.5}
    assert_added(load(models / "kohya.safetensors"), plain, kohya_additions(weights, plain))


def test_layers_with_ranks_and_alphas_of_their_own(models, load, plain, tmp_path):
    """A LoRA that was made smaller afterwards."""
    weights = load_file(models / "kohya.safetensors")
    for i, name in enumerate(name for name in list(weights) if name.endswith(".alpha")):
        weights[name] = torch.tensor([0.5, 1.0, 4.0][i % 3])
        if i % 2:
            down, up = (name.replace(".alpha", f".lora_{part}.weight") for part in ("down", "up"))
            weights[down], weights[up] = weights[down][:1].clone(), weights[up][:, :1].clone()
    save_file(weights, tmp_path / "reduced.safetensors")
    assert_added(load(tmp_path / "reduced.safetensors"), plain, kohya_additions(weights, plain))


def test_diffusers_scales_are_in_the_metadata(models, load, plain, tmp_path):
    """As diffusers' training scripts save them since 0.34: alpha / rank, here 6 / 2."""
    weights = load_file(models / "ink" / "pytorch_lora_weights.safetensors")
    weights = {name: weight for name, weight in weights.items() if name.startswith("unet.")}
    config = LoraConfig(r=RANK, lora_alpha=6, target_modules=["to_q", "to_k", "to_v", "to_out.0"]).to_dict()
    config = {f"unet.{key}": list(v) if isinstance(v, set) else v for key, v in config.items()}
    metadata = {LORA_ADAPTER_METADATA_KEY: json.dumps(config)}
    save_file(weights, tmp_path / "pytorch_lora_weights.safetensors", metadata)
    expected = {}
    for name, _ in image_layers(plain.unet, every=False):
        key = f"unet.{name}.lora"
        expected[f"unet.{name}.weight"] = 3 * product(weights, f"{key}.up.weight", f"{key}.down.weight")
    assert_added(load(tmp_path), plain, expected)


def test_motion_lora_by_the_names_of_animatediffs_authors(models, load, plain, tmp_path):
    renamed = {}
    for name, weight in load_file(models / "zoom-in" / "diffusion_pytorch_model.safetensors").items():
        name = name.removeprefix("unet.").replace(".transformer", ".temporal_transformer.transformer")
        renamed[name.replace(".attn1", ".attention_blocks.0").replace(".attn2", ".attention_blocks.1")] = weight
    save_file(renamed, tmp_path / "v2_lora_ZoomIn.safetensors")
    assert_added(load(tmp_path), plain, motion_additions(models, plain))  # a folder's only file


def test_several_loras_add_up(models, load, plain):
    expected = {name: -0.5 * added for name, added in motion_additions(models, plain).items()}
    weights = load_file(models / "kohya.safetensors")
    expected |= {name: 0.25 * added for name, added in kohya_additions(weights, plain).items()}
    assert_added(load(f"{models / 'zoom-in'}@-0.5", f"{models / 'kohya.safetensors'}@0.25"), plain, expected)


def test_weight_0_is_no_lora(models, load, plain):
    before, after = weights_of(plain), weights_of(load(f"{models / 'ink'}@0"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_half_precision(models, load, plain):
    """Off by the rounding of weights up to 2 at most."""
    backbone = load(models / "zoom-in", models / "kohya.safetensors", dtype=torch.float16)
    expected = motion_additions(models, plain)
    expected |= kohya_additions(load_file(models / "kohya.safetensors"), plain)
    assert backbone.dtype == torch.float16
    assert_added(backbone, plain, expected, atol=2e-3)


def test_what_is_left_is_a_plain_model(models, load, plain):
    backbone = load(models / "zoom-in", models / "ink")
    for network, before in ((backbone.unet, plain.unet), (backbone.text_encoder, plain.text_encoder)):
        assert [type(module) for module in network.modules()] == [type(module) for module in before.modules()]
        assert not network.training and not any(weight.requires_grad for weight in network.parameters())
    assert isinstance(backbone.unet.mid_block.motion_modules[0], MotionModule)


def test_only_the_video_changes_with_a_motion_lora(models, load, plain):
    backbone = load(models / "zoom-in")
    prompt = plain.encode_prompt("a red rocket", "")
    video = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    image = video[:, :, :1]
    before, after = (predict_noise(b, image, 500, prompt, 3.0) for b in (plain, backbone))
    assert torch.equal(before, after)
    before, after = (predict_noise(b, video, 500, prompt, 3.0) for b in (plain, backbone))
    assert (before - after).abs().max() > 1e-3


def test_an_adapter_without_a_middle_block_takes_the_rest(models, load, plain):
    expected = {n: a for n, a in motion_additions(models, plain).items() if "mid_block" not in n}
    assert_added(load(models / "zoom-in", adapter="v3"), load(adapter="v3"), expected)


@pytest.mark.parametrize(
    ("lora", "parts"),
    [
        ("guoyww/animatediff-motion-lora-zoom-in", ("guoyww/animatediff-motion-lora-zoom-in", 1.0)),
        ("guoyww/animatediff-motion-lora-zoom-in@0.8", ("guoyww/animatediff-motion-lora-zoom-in", 0.8)),
        ("someone/styles/ink.safetensors@-1", ("someone/styles/ink.safetensors", -1.0)),
        ("someone/styles@main", ("someone/styles@main", 1.0)),
        ("someone/styles@main@0.5", ("someone/styles@main", 0.5)),
        ("@0.5", ("@0.5", 1.0)),
    ],
)
def test_weights_behind_names(lora, parts):
    assert parse(lora) == parts


def test_a_file_with_an_at_sign(models, load, plain, tmp_path):
    shutil.copy(models / "kohya.safetensors", tmp_path / "ink@2")
    assert parse(str(tmp_path / "ink@2")) == (str(tmp_path / "ink@2"), 1.0)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_weight_is_a_finite_number(number):
    with pytest.raises(ModelError, match="must be a number"):
        parse(f"someone/styles@{number}")


def refusal(load, lora) -> str:
    """The one line that says why a LoRA cannot be used."""
    with pytest.raises(ModelError) as caught:
        load(lora)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "repo_or_path",
    ["no such lora", "no-such.safetensors", "./no-such.safetensors", "/no/such/lora", "@0.5", ""],
)
def test_no_such_lora(load, repo_or_path):
    assert "there is no LoRA" in refusal(load, repo_or_path)


def test_a_folder_without_or_with_too_many_files(load, tmp_path):
    assert "FILE.safetensors" in refusal(load, tmp_path)
    for name in ("a", "b"):
        save_file({"unet.x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    assert "FILE.safetensors" in refusal(load, tmp_path)


def test_pickled_loras_are_not_read(load, tmp_path):
    torch.save({}, tmp_path / "v2_lora_ZoomIn.ckpt")
    assert "not a .safetensors file" in refusal(load, tmp_path / "v2_lora_ZoomIn.ckpt")


def other_names(weights):
    return {name.replace("_blocks.", "_layers."): weight for name, weight in weights.items()}


def other_shapes(weights):
    return {n: torch.ones(RANK, 77) if n.endswith("down.weight") else w for n, w in weights.items()}


@pytest.mark.parametrize(
    "change",
    [
        other_names,
        other_shapes,
        lambda weights: {},
        lambda weights: {"conv_in.weight": torch.ones(2, 2)},
        lambda weights: {name.replace("unet.", "transformer."): weight for name, weight in weights.items()},
        lambda weights: weights | {"unet.conv_in.dora_scale": torch.ones(2)},
        lambda weights: {name: weight * torch.nan for name, weight in weights.items()},
    ],
)
def test_loras_that_do_not_fit(models, load, tmp_path, change):
    weights = load_file(models / "zoom-in" / "diffusion_pytorch_model.safetensors")
    save_file(change(weights), tmp_path / "lora.safetensors")
    assert "cannot be used with this model" in refusal(load, tmp_path)


def test_an_alpha_without_its_layer(models, load, tmp_path):
    weights = load_file(models / "kohya.safetensors")
    weights["lora_unet_no_such_layer.alpha"] = torch.tensor(1.0)
    save_file(weights, tmp_path / "lora.safetensors")
    assert "cannot be used with this model" in refusal(load, tmp_path)


def test_truncated(models, load, tmp_path):
    whole = (models / "kohya.safetensors").read_bytes()
    (tmp_path / "lora.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be used with this model" in refusal(load, tmp_path / "lora.safetensors")
