"""Models in one file: what is loaded from the authors' layouts draws as the same weights in the diffusers
layout.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from i4vgen.backbones.animatediff import AnimateDiffBackbone
from i4vgen.backbones.wan import WanBackbone
from i4vgen.cli.main import main
from i4vgen.errors import I4VGenError, ModelError
from i4vgen.models import catalog
from i4vgen.models.catalog import ModelSpec
from i4vgen.storage.runs import open_run
from i4vgen.studio import strings
from i4vgen.weights import hub
from i4vgen.weights.clip import load_tokenizer
from tests.support import layouts_original as original
from tests.support.layouts_animatediff import motion_adapter as smaller_motion_adapter
from tests.support.layouts_wan import TRANSFORMER, write_wan
from tests.support.machine import as_other_user, shared_folder
from tests.support.predicting import predict_noise

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
SHORTEST, MOST = 20, 200  # characters of a message


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each model in its authors' layout, and in the diffusers layout beside it."""
    folder = tmp_path_factory.mktemp("single files")
    original.write(folder / "v1 5+ema.safetensors", original.checkpoint())
    original.write(folder / "v1-5.ckpt", original.checkpoint(), epoch=3, global_step=840_000)
    original.write_folder(folder / "sd")
    for version, name in (("v1", "mm_sd_v15"), ("v2", "mm_sd_v15_v2"), ("v3", "v3_sd15_mm")):
        weights = original.motion_module(version)
        original.write(folder / f"{name}.safetensors", weights)
        distributed = {f"module.{key}": weight for key, weight in weights.items()}
        original.write(folder / f"{name}.ckpt", distributed, epoch=1, animatediff_config={"a": 1})
        original.motion_adapter(version).save_pretrained(folder / version)
    return folder


@pytest.fixture(scope="module")
def reference(files):
    """reference(version): the backbone from the diffusers layout."""
    known = {}

    def load(version="v2") -> AnimateDiffBackbone:
        if version not in known:
            known[version] = AnimateDiffBackbone.from_pretrained(str(files / "sd"), str(files / version))
        return known[version]

    return load


DRAWN: WeakKeyDictionary[AnimateDiffBackbone, tuple] = WeakKeyDictionary()
"""What backbones have drawn: references are drawn with once."""


def draw(backbone: AnimateDiffBackbone) -> tuple:
    """Uses every network of a backbone on the same inputs."""
    video = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    prompt = backbone.encode_prompt("a photo of a cat, naïve and 1girl", "blurry")
    return (
        prompt.prompt,
        prompt.negative,
        predict_noise(backbone, video[:, :, :1], 400, prompt, 7.5),
        predict_noise(backbone, video, 400, prompt, 7.5),
        backbone.encode(image),
        torch.from_numpy(backbone.decode(0.1 * video)).float(),
    )


def assert_draws_alike(backbone: AnimateDiffBackbone, reference: AnimateDiffBackbone) -> None:
    if reference not in DRAWN:
        DRAWN[reference] = draw(reference)
    for mine, theirs in zip(draw(backbone), DRAWN[reference], strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)
        assert theirs.std() > 1e-3


@pytest.mark.parametrize("name", ["v1 5+ema.safetensors", "v1-5.ckpt"])
def test_a_checkpoint_draws_as_its_folder(files, reference, name):
    backbone = AnimateDiffBackbone.from_pretrained(str(files / name), str(files / "v2"))
    assert_draws_alike(backbone, reference())


@pytest.mark.parametrize(
    ("name", "version", "frames"),
    [("mm_sd_v15", "v1", 24), ("mm_sd_v15_v2", "v2", 32), ("v3_sd15_mm", "v3", 32)],
)
@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
def test_a_motion_module_draws_as_its_folder(files, reference, name, version, frames, ending):
    backbone = AnimateDiffBackbone.from_pretrained(str(files / "sd"), str(files / f"{name}{ending}"))
    assert backbone.defaults.max_frames == frames
    assert_draws_alike(backbone, reference(version))


def vae_file(path: Path, names: str) -> Path:
    """Writes another VAE than the checkpoint's to a single file, with the weights' names of a layout."""
    network = original.vae(seed=21)
    if names == "diffusers":
        weights = network.state_dict()
    elif names == "early diffusers":
        renamed = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        weights = {
            re.sub(r"\b(to_[qkv]|to_out\.0)\b", lambda m: renamed[m[1]], name): weight
            for name, weight in network.state_dict().items()
        }
        assert weights.keys() != network.state_dict().keys()
    else:
        weights = original.vae_weights(network, names) | {"loss.logvar": torch.zeros(())}
    return original.write(path, weights)


@pytest.fixture(scope="module")
def with_other_vae(files):
    """The reference: a folder in the diffusers layout with another VAE in it."""
    folder = shutil.copytree(files / "sd", files / "sd with another vae")
    original.vae(seed=21).save_pretrained(folder / "vae")
    original.vae(seed=21).save_pretrained(files / "vae")
    return AnimateDiffBackbone.from_pretrained(str(folder), str(files / "v2"))


@pytest.mark.parametrize("names", ["", original.VAE, "diffusers", "early diffusers"])
@pytest.mark.parametrize("ending", [".safetensors", ".ckpt"])
def test_a_vae_draws_as_its_folder(files, with_other_vae, tmp_path, names, ending):
    file = vae_file(tmp_path / f"vae-ft-mse{ending}", names)
    entry = catalog.find(ModelSpec(f"{files / 'sd'}+{files / 'v2'}", vae=str(file)))
    backbone = entry.backbone.from_pretrained(**entry.sources, device="cpu", dtype=torch.float32)
    assert_draws_alike(backbone, with_other_vae)


@pytest.mark.parametrize("place", ["vae", "sd with another vae"])
def test_a_vae_in_a_folder(files, with_other_vae, place):
    """A VAE's own folder, and that of a model with one."""
    backbone = AnimateDiffBackbone.from_pretrained(str(files / "sd"), str(files / "v2"), vae=str(files / place))
    assert_draws_alike(backbone, with_other_vae)


def test_a_checkpoint_without_a_vae_takes_one(files, with_other_vae, tmp_path):
    file = original.write(tmp_path / "no vae.safetensors", cut(original.checkpoint(), original.VAE))
    spec = ModelSpec(str(file), motion_module=str(files / "v2"), vae=str(files / "vae"))
    entry = catalog.find(spec)
    backbone = entry.backbone.from_pretrained(**entry.sources, device="cpu", dtype=torch.float32)
    assert_draws_alike(backbone, with_other_vae)


def test_a_vae_for_sparsectrl(files, tmp_path):
    file = str(vae_file(tmp_path / "vae.safetensors", ""))
    entry = catalog.find(ModelSpec("sparsectrl", base=str(files / "sd"), vae=file))
    assert (entry.sources["model"], entry.sources["vae"]) == (str(files / "sd"), file)
    assert "vae" in inspect.signature(entry.backbone.from_pretrained).parameters


def test_vaes_of_other_models(files, tmp_path):
    """In a file, in a folder, and on a model that takes none."""
    wide = original.vae(latent_channels=16)
    flux = original.write(tmp_path / "ae.safetensors", original.vae_weights(wide))
    wan = original.write(
        tmp_path / "wan_2.1_vae.safetensors", {"decoder.conv1.weight": torch.ones(4, 4, 3, 3, 3)}
    )
    wide.save_pretrained(tmp_path / "wide")
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    write_wan(tmp_path / "wan")
    vae = str(vae_file(tmp_path / "vae.safetensors", ""))

    def load(chosen: Path) -> object:
        return AnimateDiffBackbone.from_pretrained(str(files / "sd"), str(files / "v2"), vae=str(chosen))

    find = catalog.find
    for call, words in (
        (lambda: find(ModelSpec("animatediff", vae=str(flux))), "16 latent channels"),
        (lambda: find(ModelSpec("animatediff", vae=str(wan))), "a VAE for videos: use a VAE for Stable"),
        (lambda: load(tmp_path / "wide"), "16 latent channels"),
        (lambda: load(tmp_path / "unet"), "'UNet2DConditionModel', not an AutoencoderKL"),
        (lambda: load(files / "text_encoder"), "there is no model"),
        (lambda: find(ModelSpec("wan", vae=vae)), "does not take --vae: use it with animatediff, lavie"),
        (lambda: find(ModelSpec(str(tmp_path / "wan"), vae=vae)), "does not take --vae"),
    ):
        assert words in message_of(call)


def test_an_incomplete_vae(files, tmp_path):
    weights = original.vae_weights(original.vae())
    file = original.write(tmp_path / "vae.safetensors", cut(weights, "encoder.mid", 2))
    entry = catalog.find(ModelSpec(f"{files / 'sd'}+{files / 'v2'}", vae=str(file)))
    load = partial(entry.backbone.from_pretrained, **entry.sources, device="cpu", dtype=torch.float32)
    assert "is a VAE, but incomplete" in message_of(load)


def test_defaults_are_those_of_stable_diffusion(files):
    entry = catalog.find(ModelSpec(str(files / "v1-5.ckpt"), motion_module=str(files / "v3_sd15_mm.ckpt")))
    defaults = entry.backbone.read_defaults(**entry.sources)
    assert (defaults.height, defaults.width, defaults.num_frames, defaults.max_frames) == (512, 512, 16, 32)


def test_a_checkpoint_alone_gets_animatediffs_motion_module(files):
    entry = catalog.find(ModelSpec(str(files / "v1-5.ckpt")))
    assert entry.sources == {
        "model": str(files / "v1-5.ckpt"),
        "motion_adapter": catalog.MODELS["animatediff"].sources["motion_adapter"],
    }
    based = catalog.find(ModelSpec("animatediff", base=str(files / "v1-5.ckpt")))
    assert based.sources == entry.sources


def test_half_precision(files):
    backbone = AnimateDiffBackbone.from_pretrained(
        str(files / "v1-5.ckpt"), str(files / "mm_sd_v15.ckpt"), dtype=torch.float16
    )
    assert {weight.dtype for network in backbone.networks for weight in network.parameters()} == {torch.float16}


def test_weights_in_8_bit_floats_are_converted(files, tmp_path):
    """With the scales that ComfyUI puts beside them, and without."""
    weights, plain = original.wan_weights(original.wan_transformer()), {}
    packed = {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    for name, weight in weights.items():
        plain[name] = packed[name] = weight
        if name.endswith(".weight") and weight.ndim == 2:
            scale = torch.tensor(0.25) if ".ffn." in name else None
            packed[name] = (weight / (1.0 if scale is None else scale)).to(torch.float8_e4m3fn)
            plain[name] = packed[name].float() * (1.0 if scale is None else scale)
            if scale is not None:
                packed[name.replace(".weight", ".scale_weight")] = scale
    save_file(packed, tmp_path / "fp8.safetensors")
    save_file(plain, tmp_path / "plain.safetensors")
    one, other = (
        hub.load(torch.nn.Module, str(tmp_path / name), "transformer", torch.float32)  # type: ignore[type-var]
        for name in ("fp8.safetensors", "plain.safetensors")
    )
    assert {w.dtype for w in one.parameters()} == {torch.float32}
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_a_transformer_of_wan_draws_as_its_folder(tmp_path, prefix):
    sizes = {"num_attention_heads": 1, "attention_head_dim": 128}
    write_wan(tmp_path / "wan", TRANSFORMER | sizes)
    reference = WanBackbone.from_pretrained(str(tmp_path / "wan"))
    weights = {f"{prefix}{n}": w for n, w in original.wan_weights(reference.transformer).items()}
    original.write(tmp_path / "wan2.1_t2v.safetensors", weights)
    entry = catalog.find(ModelSpec(str(tmp_path / "wan2.1_t2v.safetensors"), base=str(tmp_path / "wan")))
    assert entry.backbone is WanBackbone
    backbone = entry.backbone.from_pretrained(**entry.sources, device="cpu", dtype=torch.float32)
    video = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    level = reference.max_noise_level
    mine, theirs = (
        one.predict(video, level, one.encode_prompt("a red rocket", ""), 5.0).clean
        for one in (backbone, reference)
    )
    torch.testing.assert_close(mine, theirs, **TOLERANCE)


def test_a_transformer_of_wan_takes_the_rest_from_the_released_model(tmp_path):
    file = original.write(tmp_path / "wan.safetensors", original.wan_weights(original.wan_transformer()))
    assert catalog.find(ModelSpec(str(file))).sources == {
        "model": catalog.MODELS["wan"].sources["model"],
        "transformer": str(file),
    }
    larger = original.wan_weights(original.wan_transformer(in_channels=48, out_channels=48))
    file = original.write(tmp_path / "wan5b.safetensors", larger)
    assert catalog.find(ModelSpec(str(file))).sources["model"] == catalog.MODELS["wan-5b"].sources["model"]


def test_the_work_of_a_transformer_of_wan_grows_with_its_size(tmp_path):
    usual, larger = (
        catalog.find(
            ModelSpec(
                str(original.write(tmp_path / name, original.wan_weights(original.wan_transformer(**sizes))))
            )
        )
        for name, sizes in (
            ("wan.safetensors", {}),
            ("larger.safetensors", {"num_layers": 3, "num_attention_heads": 2, "ffn_dim": 128}),
        )
    )
    assert larger.work == pytest.approx(1.5 * 2 * 4 * usual.work)


def test_clips_vocabulary():
    tokenizer = load_tokenizer()
    assert tokenizer("a photo of a cat", add_special_tokens=False).input_ids == [320, 1125, 539, 320, 2368]
    assert tokenizer("a cat").input_ids == [49406, 320, 2368, 49407]
    assert (len(tokenizer), tokenizer.model_max_length, tokenizer.pad_token_id) == (49408, 77, 49407)


def test_the_command_line_runs_from_single_files(files, tmp_path, capsys, monkeypatch):
    """Nothing is asked of a hub: the test suite has none."""
    monkeypatch.chdir(tmp_path)
    arguments = ["a cat", "--model", str(files / "v1 5+ema.safetensors")]
    arguments += ["--motion-module", str(files / "mm_sd_v15_v2.ckpt"), "--reward", "none", "--anchor", "0"]
    sizes = ["--steps", "1", "--frames", "2", "--height", "64", "--width", "64"]
    sizes += ["--candidates", "1", "--p-re", "1", "--out", "run"]
    layers = [f"lora_unet_down_blocks_{i}_attentions_0_transformer_blocks_0_attn1_to_q" for i in (0, 9)]
    factors = {"lora_down": (2, original.WIDTHS[0]), "lora_up": (original.WIDTHS[0], 2)}
    weights = {f"{layer}.{end}.weight": torch.ones(*size) for layer in layers for end, size in factors.items()}
    lora = original.write(tmp_path / "half fits.safetensors", weights)
    vae = str(vae_file(tmp_path / "vae-ft-mse.safetensors", ""))
    assert main([*arguments, *sizes, "--lora", f"{lora}@0.5", "--vae", vae]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "i4vgen.mp4").is_file()
    spec = open_run(tmp_path / "run").spec
    assert spec.motion_module and spec.vae == vae
    assert "LoRA half fits.safetensors: 1 of its 2 layers apply" in capsys.readouterr().out
    made = json.loads((tmp_path / "run" / "run.json").read_text())
    assert made["lora_fits"] == [{"lora": "half fits.safetensors", "applied": 1, "layers": 2, "made_for": ""}]
    (line,) = strings.lora_fits(made)  # of the page's status and of the API's answer
    assert line == "LoRA half fits.safetensors: 1 of its 2 layers apply"


def message_of(call) -> str:
    """What people are told, in one line of a few words that names no module of a network."""
    with pytest.raises(I4VGenError) as caught:
        call()
    message = str(caught.value)
    assert SHORTEST < len(message) <= MOST and "\n" not in message, message
    assert not any(word in message for word in ("down_blocks", "input_blocks", "state_dict", "Error(s)"))
    return message


def cut(weights, part: str, keep: int = 0) -> dict[str, torch.Tensor]:
    """Weights of which those of a part are not there, but for so many."""
    kept = [name for name in weights if name.startswith(part)][:keep]
    return {name: weight for name, weight in weights.items() if not name.startswith(part) or name in kept}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: cut(w, original.UNET, 40), "incomplete"),
        (lambda w: cut(w, original.VAE), "without the VAE"),
        (lambda w: cut(w, original.TEXT), "without the text encoder"),
        (lambda w: cut(w, original.VAE, 2), "incomplete"),
        (lambda w: w | {f"{original.UNET}input_blocks.0.0.weight": torch.ones(32, 9, 3, 3)}, "inpainting"),
        (lambda w: w | {"conditioner.embedders.0.x": torch.ones(1)}, "SDXL"),
        (lambda w: w | {"cond_stage_model.model.ln_final.weight": torch.ones(1)}, "Stable Diffusion 2"),
        (lambda w: w | {"model.diffusion_model.a.absmax": torch.ones(1)}, "bitsandbytes"),
    ],
)
def test_checkpoints_of_another_kind_or_with_something_missing(files, tmp_path, change, words):
    file = original.write(tmp_path / "some.safetensors", change(original.checkpoint()))

    def load() -> object:
        entry = catalog.find(ModelSpec(str(file), motion_module=str(files / "v2")))
        return entry.backbone.from_pretrained(**entry.sources, device="cpu", dtype=torch.float32)

    assert words in message_of(load)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (lambda f: ModelSpec(str(f / "mm_sd_v15.ckpt")), "--motion-module"),
        (lambda f: ModelSpec("animatediff", base=str(f / "mm_sd_v15.ckpt")), "--motion-module"),
        (lambda f: ModelSpec("animatediff", motion_module=str(f / "v1-5.ckpt")), "--model"),
        (lambda f: ModelSpec(str(f / "none.safetensors")), "there is no file none.safetensors"),
        (lambda f: ModelSpec(str(f / "lora.safetensors")), "is a LoRA"),
        (lambda f: ModelSpec(str(f / "half a vae.safetensors")), "is a VAE: give it with --vae"),
        (lambda f: ModelSpec("animatediff", base=str(f / "half a vae.safetensors")), "give it with --vae"),
        (lambda f: ModelSpec("animatediff", motion_module=str(f / "half a vae.safetensors")), "with --vae"),
        (lambda f: ModelSpec("animatediff", vae=str(f / "mm_sd_v15.ckpt")), "give it with --motion-module"),
        (lambda f: ModelSpec("animatediff", vae=str(f / "v1-5.ckpt")), "give it with --model"),
        (lambda f: ModelSpec("animatediff", vae=str(f / "lora.safetensors")), "give it as a LoRA"),
        (lambda f: ModelSpec(str(f / "flux.safetensors")), "FLUX"),
        (lambda f: ModelSpec(str(f / "controlnet.safetensors")), "ControlNet"),
        (lambda f: ModelSpec(str(f / "something.safetensors")), "no model that is known here"),
    ],
)
def test_files_that_are_something_else(files, spec, words):
    one = torch.ones(1)
    half_a_vae = {"encoder.conv_in.weight": one, "decoder.conv_in.weight": one.clone()}
    save_file({"lora_unet_down_blocks_0.lora_down.weight": one}, files / "lora.safetensors")
    save_file(half_a_vae, files / "half a vae.safetensors")
    save_file({"double_blocks.0.img_attn.norm.key_norm.scale": one}, files / "flux.safetensors")
    save_file({"control_model.input_blocks.0.0.weight": one}, files / "controlnet.safetensors")
    save_file({"something": one}, files / "something.safetensors")
    assert words in message_of(lambda: catalog.find(spec(files)))


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt", "sd/model_index.json"])
def test_files_that_may_not_be_read(name):
    with shared_folder() as folder:
        file = original.write(folder / name, {"a": torch.ones(1)})
        file.chmod(0)
        model = str(folder / name.partition("/")[0])
        message = as_other_user(lambda: message_of(lambda: catalog.find(ModelSpec(model)).backbone))
    assert message == f"cannot read {file.name} (Permission denied): check its path and permissions"


@pytest.mark.parametrize(
    "spec",
    [
        lambda private: ModelSpec(f"{private}"),
        lambda private: ModelSpec("animatediff", base=f"{private}/v1-5.ckpt"),
        lambda private: ModelSpec("animatediff", vae=f"{private}/vae"),
        lambda private: ModelSpec("animatediff", loras=(f"{private}/ink.safetensors@0.8",)),
    ],
)
def test_folders_that_may_not_be_entered(spec):
    with shared_folder() as folder:
        (folder / "private").mkdir(mode=0o700)
        message = as_other_user(lambda: message_of(lambda: catalog.find(spec(folder / "private"))))
    assert "(Permission denied): check its path and permissions" in message


def test_a_motion_module_that_does_not_fit(files, tmp_path):
    weights = {original.motion_name(n): w for n, w in smaller_motion_adapter().state_dict().items()}
    file = original.write(tmp_path / "mm.ckpt", weights)
    assert "fit" in message_of(lambda: AnimateDiffBackbone.from_pretrained(str(files / "sd"), str(file)))


def test_nothing_in_a_checkpoint_is_executed(files, tmp_path):
    """Objects are refused, but for the one of Lightning's that the published checkpoints have, which stays
    unused.
    """
    torch.save(
        {"state_dict": original.checkpoint(), "callbacks": {Trap(tmp_path / "trace"): 1}}, tmp_path / "a.ckpt"
    )
    assert "program objects" in message_of(lambda: catalog.find(ModelSpec(str(tmp_path / "a.ckpt"))))
    assert not (tmp_path / "trace").exists()


class Trap:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (type(self.trace).touch, (self.trace,))


def test_plus_signs_divide_models_only_where_both_are_there(files):
    pair = f"{files / 'v1 5+ema.safetensors'}+{files / 'mm_sd_v15.ckpt'}"
    assert catalog.find(ModelSpec(pair)).sources == {
        "model": str(files / "v1 5+ema.safetensors"),
        "motion_adapter": str(files / "mm_sd_v15.ckpt"),
    }


def test_a_run_file_keeps_the_parts(files):
    spec = ModelSpec("animatediff", "base", motion_module="mm.ckpt", vae="vae.safetensors")
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


# Folders with other copies of the weights than the usual one


def with_copies(folder: Path, source: Path, name: str, dtype=torch.float32) -> Path:
    """A folder in the diffusers layout whose weights are in files of this kind alone.

    Args:
        name: As "{}.fp16.safetensors" or "{}.bin".
    """
    shutil.copytree(source, folder)
    for file in folder.rglob("*.safetensors"):
        weights = {key: weight.to(dtype) for key, weight in load_file(file).items()}
        file.unlink()
        stem = "pytorch_model" if file.stem == "model" and name.endswith(".bin") else file.stem
        target = file.with_name(name.format(stem))
        if target.suffix == ".bin":
            torch.save(weights, target)
        else:
            save_file(weights, target, {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("{}.bin", torch.float32),
        ("{}.fp16.safetensors", torch.float16),
        ("{}.fp16.bin", torch.float16),
        ("{}.bf16.safetensors", torch.bfloat16),
    ],
)
def test_folders_with_one_copy_of_the_weights(files, reference, tmp_path, name, dtype):
    folder = with_copies(tmp_path / "sd", files / "sd", name, dtype)
    adapter = with_copies(tmp_path / "mm", files / "v2", name, dtype)
    backbone = AnimateDiffBackbone.from_pretrained(str(folder), str(adapter))
    assert backbone.dtype == torch.float32
    for mine, theirs in zip(backbone.unet.parameters(), reference().unet.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.to(dtype).float())


def test_a_variant_is_read_where_it_is_asked_for(files, tmp_path):
    with_copies(tmp_path / "halves", files / "sd", "{}.fp16.safetensors", torch.float16)
    shutil.copytree(files / "sd", tmp_path / "sd")
    for file in (tmp_path / "halves").rglob("*.fp16.safetensors"):
        shutil.copy(file, tmp_path / "sd" / file.parent.name / file.name)
    load = partial(AnimateDiffBackbone.from_pretrained, str(tmp_path / "sd"), str(files / "v2"))
    whole, half = load().vae.quant_conv.weight, load(variant="fp16").vae.quant_conv.weight
    assert not torch.equal(whole, half)
    assert torch.equal(whole.half().float(), half)


def test_a_folder_without_weights(files, tmp_path):
    folder = with_copies(tmp_path / "sd", files / "sd", "{}.onnx.safetensors")
    message = message_of(lambda: AnimateDiffBackbone.from_pretrained(str(folder), str(files / "v2")))
    assert "has no weights" in message


def test_objects_in_a_bin_are_not_loaded(files, tmp_path):
    folder = with_copies(tmp_path / "sd", files / "sd", "{}.bin")
    torch.save({"quant_conv.weight": Trap(tmp_path / "trace")}, folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError):
        AnimateDiffBackbone.from_pretrained(str(folder), str(files / "v2"))
    assert not (tmp_path / "trace").exists()
