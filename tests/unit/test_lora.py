"""LoRAs: what is added to which weights, in every published format, and what cannot be used."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from peft.tuners.lycoris_utils import LycorisLayer
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from i4vgen.backbones.animatediff import AnimateDiffBackbone, MotionModule
from i4vgen.backbones.lora import parse
from i4vgen.backbones.wan import WanBackbone
from i4vgen.errors import ModelError
from i4vgen.models.catalog import ModelSpec, find
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
from tests.support.layouts_original import motion_name
from tests.support.layouts_wan import write_wan
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


def test_pickled_loras_are_read_without_executing_anything(load, plain, models, tmp_path):
    """As AnimateDiff's authors publish theirs."""
    weights = load_file(models / "zoom-in" / "diffusion_pytorch_model.safetensors")
    original = {motion_name(name.removeprefix("unet.")): weight for name, weight in weights.items()}
    torch.save({"state_dict": original, "epoch": 3}, tmp_path / "v2_lora_ZoomIn.ckpt")
    assert_added(load(tmp_path / "v2_lora_ZoomIn.ckpt"), plain, motion_additions(models, plain))
    torch.save({"state_dict": original, "more": Path}, tmp_path / "objects.ckpt")
    assert "program objects" in refusal(load, tmp_path / "objects.ckpt")


def test_the_domain_adapter_of_v3(load, plain, models, tmp_path):
    """v3_sd15_adapter.ckpt: diffusers' first names for the attention of images, without a network's name
    before.
    """
    weights, expected = {}, {}
    for name, layer in image_layers(plain.unet, every=False):
        outputs, inputs = layer.weight.shape
        module, _, projection = name.replace("to_out.0", "to_out").rpartition(".")
        down, up = torch.randn(4, inputs), torch.randn(outputs, 4)
        stem = f"module.{module}.processor.{projection}_lora"
        weights |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
        expected[f"unet.{name}.weight"] = up @ down
    torch.save({"state_dict": weights}, tmp_path / "v3_sd15_adapter.ckpt")
    backbone = load(tmp_path / "v3_sd15_adapter.ckpt")
    assert_added(backbone, plain, expected)
    assert [fit.applied for fit in backbone.lora_fits] == [len(expected)]


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
        lambda weights: weights | {"unet.conv_in.dora_scale": torch.ones(2)},
        lambda weights: {name: weight * torch.nan for name, weight in weights.items()},
    ],
)
def test_loras_that_do_not_fit(models, load, tmp_path, change):
    weights = load_file(models / "zoom-in" / "diffusion_pytorch_model.safetensors")
    save_file(change(weights), tmp_path / "lora.safetensors")
    assert re.search(
        "cannot be used with this model|not a LoRA|not supported|no weights", refusal(load, tmp_path)
    )


def test_half_of_a_layer(models, load, tmp_path):
    weights = load_file(models / "kohya.safetensors")
    del weights["lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight"]
    save_file(weights, tmp_path / "lora.safetensors")
    assert "lacks some of its weights" in refusal(load, tmp_path)


# Other formats and kinds: each is compared with peft, or with what the plain format of the same numbers adds


def image_weights(plain) -> dict[str, nn.Linear]:
    """Layers of the UNet that most LoRAs change."""
    return dict(image_layers(plain.unet, every=False))


@pytest.mark.parametrize(
    ("prefix", "ends", "style"),
    [
        ("diffusion_model.", ("lora_A.weight", "lora_B.weight"), "diffusers"),
        ("diffusion_model.", ("lora_down.weight", "lora_up.weight"), "original"),
        ("base_model.model.", ("lora_A.weight", "lora_B.weight"), "diffusers"),
        ("base_model.model.unet.", ("lora_A.default.weight", "lora_B.default.weight"), "diffusers"),
        ("unet.", ("lora_A.weight", "lora_B.weight"), "diffusers"),
        ("lora_unet_", ("lora_down.weight", "lora_up.weight"), "kohya"),
        ("lora_unet_", ("lora_down.weight", "lora_up.weight"), "original kohya"),
        ("lycoris_", ("lora_down.weight", "lora_up.weight"), "kohya"),
    ],
)
def test_prefixes_and_names(load, plain, tmp_path, prefix, ends, style):
    weights, expected = {}, {}
    for name, layer in image_weights(plain).items():
        outputs, inputs = layer.weight.shape
        down, up = torch.randn(2, inputs), torch.randn(outputs, 2)
        stem = original_name(name) if "original" in style else name
        stem = prefix + (stem.replace(".", "_") if "kohya" in style else stem)
        weights |= {f"{stem}.{ends[0]}": down, f"{stem}.{ends[1]}": up}
        expected[f"unet.{name}.weight"] = up @ down
    save_file(weights, tmp_path / "lora.safetensors")
    assert_added(load(tmp_path / "lora.safetensors"), plain, expected, atol=1e-5)


def original_name(name: str) -> str:
    """As Stable Diffusion's authors count the blocks of a UNet of two levels with one layer each."""
    for new, old in (
        ("down_blocks.0.attentions.0", "input_blocks.1.1"),
        ("mid_block.attentions.0", "middle_block.1"),
        ("up_blocks.1.attentions.0", "output_blocks.2.1"),
        ("up_blocks.1.attentions.1", "output_blocks.3.1"),
    ):
        name = name.replace(new, old)
    return name


def with_peft(plain, config) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The UNet with random LoHa or LoKr layers of peft, and what they add to its weights."""
    torch.manual_seed(5)
    wrapped = get_peft_model(copy.deepcopy(plain.unet), config)
    added = {}
    for name, module in wrapped.base_model.model.named_modules():
        if isinstance(module, LycorisLayer):
            added[f"unet.{name}.weight"] = module.get_delta_weight("default").detach()
    return wrapped, added


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("kind", [LoHaConfig, LoKrConfig])
def test_loha_and_lokr_as_peft_computes_them(load, plain, tmp_path, kind, conv):
    targets = ["to_q", "to_v", "to_out.0"] + (["conv1"] if conv else [])
    options = {"decompose_both": True} if kind is LoKrConfig else {}
    config = kind(
        r=2, alpha=3, target_modules=targets, use_effective_conv2d=conv, init_weights=False, **options
    )
    wrapped, expected = with_peft(plain, config)
    weights = {}
    for name, weight in wrapped.state_dict().items():
        if match := re.fullmatch(r"base_model\.model\.(.+)\.(hada_\w+|lokr_\w+)\.default", name):
            stem = f"lora_unet_{match[1].replace('.', '_')}"
            weights |= {f"{stem}.{match[2]}": weight.contiguous(), f"{stem}.alpha": torch.tensor(3.0)}
    for name in [name for name in weights if name.endswith(".alpha")]:
        stem = name.removesuffix("alpha")
        if stem + "lokr_w1" in weights and stem + "lokr_w2" in weights:  # LyCORIS has no scale without a rank
            del weights[name]
            key = next(k for k in expected if k[5:-7].replace(".", "_") == stem[10:-1])
            expected[key] = expected[key] / 1.5
    save_file(weights, tmp_path / "lycoris.safetensors")
    backbone = load(tmp_path / "lycoris.safetensors")
    assert_added(backbone, plain, expected, atol=1e-5)
    assert [(fit.applied, fit.layers) for fit in backbone.lora_fits] == [(len(expected), len(expected))]


def test_locon_with_a_kernel_between_its_factors(load, plain, tmp_path):
    name = "down_blocks.0.resnets.0.conv1"
    weight = plain.unet.get_submodule(name).weight
    down, mid, up = (
        torch.randn(2, weight.shape[1], 1, 1),
        torch.randn(3, 2, 3, 3),
        torch.randn(len(weight), 3, 1, 1),
    )
    stem = f"lora_unet_{name.replace('.', '_')}"
    parts = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up}
    save_file({f"{stem}.{end}": part for end, part in parts.items()}, tmp_path / "locon.safetensors")
    pixels = torch.randn(1, weight.shape[1], 5, 5)
    expected = functional.conv2d(functional.conv2d(functional.conv2d(pixels, down), mid), up)
    added = load(tmp_path / "locon.safetensors").unet.get_submodule(name).weight - weight
    torch.testing.assert_close(functional.conv2d(pixels, added), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16])
def test_other_precisions(models, load, plain, tmp_path, kind):
    weights = load_file(models / "kohya.safetensors")
    small = {n: w if n.endswith(".alpha") else w.to(kind) for n, w in weights.items()}
    save_file(small, tmp_path / "small.safetensors")
    expected = kohya_additions({n: w.float() for n, w in small.items()}, plain)
    assert_added(load(tmp_path / "small.safetensors"), plain, expected, atol=1e-5)


def test_the_configuration_beside_pefts_file(load, plain, tmp_path):
    weights, expected = {}, {}
    for name, layer in image_weights(plain).items():
        outputs, inputs = layer.weight.shape
        down, up = torch.randn(4, inputs), torch.randn(outputs, 4)
        weights |= {
            f"base_model.model.{name}.lora_A.weight": down,
            f"base_model.model.{name}.lora_B.weight": up,
        }
        expected[f"unet.{name}.weight"] = 2 * up @ down
    save_file(weights, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8}))
    assert_added(load(tmp_path), plain, expected, atol=1e-5)


# LoRAs that fit in part, or were made for another family


def test_what_fits_in_part_is_applied_and_said(models, load, plain, tmp_path):
    weights = load_file(models / "kohya.safetensors")
    fitting = {name.partition(".")[0] for name in weights}
    more = {
        name.replace("blocks_0", "blocks_7").replace("blocks_1", "blocks_8"): w for name, w in weights.items()
    }
    save_file({name: w.clone() for name, w in (more | weights).items()}, tmp_path / "more.safetensors")
    backbone = load(tmp_path / "more.safetensors")
    assert_added(backbone, plain, kohya_additions(weights, plain))
    (fit,) = backbone.lora_fits
    assert fit.applied == len(fitting) < fit.layers
    words = f"LoRA more.safetensors: {fit.applied} of its {fit.layers} layers apply (it looks made for SDXL)"
    assert str(fit) == words


@pytest.mark.parametrize(
    ("names", "metadata", "family"),
    [
        (["lora_te2_text_model_encoder_layers_0_mlp_fc1"], {}, "SDXL"),
        (["lora_unet_input_blocks_7_1_transformer_blocks_1_attn1_to_q"], {}, "SDXL"),
        (["lora_unet_down_blocks_1_attentions_0_transformer_blocks_3_attn1_to_q"], {}, "SDXL"),
        (["lora_unet_a"], {"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        (["lora_unet_a"], {"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "Stable Diffusion 2"),
        (["transformer.single_transformer_blocks.0.attn.to_q"], {}, "FLUX"),
        (["lora_unet_double_blocks_0_img_attn_qkv"], {}, "FLUX"),
        (["lora_unet_joint_blocks_0_x_block_attn_qkv"], {}, "Stable Diffusion 3"),
        (["diffusion_model.blocks.0.self_attn.q"], {}, "Wan 14B"),
        (
            ["diffusion_model.blocks.0.self_attn.q", "diffusion_model.blocks.0.cross_attn.k_img"],
            {},
            "Wan 14B image",
        ),
        (["transformer.transformer_blocks.0.img_mlp.net.2"], {}, "Qwen-Image"),
        (["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"], {}, None),
    ],
)
def test_loras_of_another_family(load, tmp_path, names, metadata, family):
    weights = {}
    for name in names:
        weights |= {f"{name}.lora_down.weight": torch.ones(2, 5120), f"{name}.lora_up.weight": torch.ones(4, 2)}
    save_file(weights, tmp_path / "a rather long name of a LoRA, as they are on Civitai.safetensors", metadata)
    message = refusal(load, tmp_path)
    assert len(message) <= 200
    assert message.endswith("Use one made for Stable Diffusion 1.5")
    assert f"made for {family}" in message if family else "layers of other sizes" in message


def test_none_of_its_layers(load, tmp_path):
    weights = {
        f"lora_unet_block_{i}.lora_{end}.weight": torch.ones(2, 2) for i in range(40) for end in ("up", "down")
    }
    save_file(weights, tmp_path / "x.safetensors")
    assert "none of its 40 layers fit" in refusal(load, tmp_path)


def test_differences_of_wans_norms_and_modulation(tmp_path):
    """Added whole; what the model lacks is left out: blocks, and the layers for images of I2V models."""
    write_wan(tmp_path / "wan")
    plain = WanBackbone.from_pretrained(str(tmp_path / "wan")).transformer
    width = plain.config["num_attention_heads"] * plain.config["attention_head_dim"]
    added = {
        "blocks.0.self_attn.norm_q.diff": torch.randn(width),
        "blocks.0.norm3.diff": torch.randn(width),
        "blocks.0.norm3.diff_b": torch.randn(width),
        "blocks.1.diff_m": torch.randn(1, 6, width),
        "blocks.1.ffn.0.diff_b": torch.randn(plain.config["ffn_dim"]),
        "head.diff_m": torch.randn(1, 2, width),
    }
    surplus = {
        f"blocks.{i}.cross_attn.k_img.lora_{end}.weight": torch.ones(2, 2)
        for i in (0, 9)
        for end in ("up", "down")
    }
    weights = {f"diffusion_model.{name}": weight for name, weight in (added | surplus).items()}
    save_file(weights, tmp_path / "wan.safetensors")
    backbone = WanBackbone.from_pretrained(str(tmp_path / "wan"), loras=[f"{tmp_path / 'wan.safetensors'}@0.5"])
    after, before = backbone.transformer.state_dict(), plain.state_dict()
    expected = {
        "blocks.0.attn1.norm_q.weight": added["blocks.0.self_attn.norm_q.diff"],
        "blocks.0.norm2.weight": added["blocks.0.norm3.diff"],
        "blocks.0.norm2.bias": added["blocks.0.norm3.diff_b"],
        "blocks.1.scale_shift_table": added["blocks.1.diff_m"],
        "blocks.1.ffn.net.0.proj.bias": added["blocks.1.ffn.0.diff_b"],
        "scale_shift_table": added["head.diff_m"],
    }
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight + 0.5 * expected.get(name, 0))
    (fit,) = backbone.lora_fits
    assert (fit.applied, fit.layers, fit.made_for) == (5, 7, "Wan image-to-video")


# Files that are no weights


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>", "web page"),
        (b"\n\n  <html>", "web page"),
        (b'{"error": "Unauthorized"}', "JSON"),
        (b"", "empty"),
        (bytes(5000), "zeros"),
        (b"Not found", "text file"),
        (b"GGUF" + bytes(100), "GGUF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "picture"),
        (b"PK\3\4" + bytes(range(256)), "incomplete"),
        (b"\x80\x04" + bytes(range(256)), "renamed"),
        ((300).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[4]' + bytes(400), "damaged"),
        ((300).to_bytes(8, "little") + b'{"a":{"dtype":"F32",', "incomplete"),
    ],
)
def test_files_that_are_no_weights(load, tmp_path, content, words):
    """As a LoRA, a checkpoint and a motion module."""
    file = tmp_path / "ink.safetensors"
    file.write_bytes(content)
    for message in (
        refusal(load, file),
        refusal(lambda _: find(ModelSpec(str(file))), file),
        refusal(lambda _: find(ModelSpec("animatediff", motion_module=str(file))), file),
    ):
        assert words in message and "ink.safetensors" in message
        assert re.search("download|use the|give it", message) and len(message) <= 200


def test_a_checkpoint_with_another_ending(load, tmp_path):
    torch.save({"lora_unet_a.lora_down.weight": torch.ones(1)}, tmp_path / "ink.safetensors")
    assert "renamed" in refusal(load, tmp_path / "ink.safetensors")


def test_truncated(models, load, tmp_path):
    whole = (models / "kohya.safetensors").read_bytes()
    (tmp_path / "lora.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "incomplete" in refusal(load, tmp_path / "lora.safetensors")
