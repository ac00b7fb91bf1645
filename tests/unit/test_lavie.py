"""LaVie: its network against the authors' and against Stable Diffusion's, its samplers, its checkpoint."""

import json
import os
import re
import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.models.t5.modeling_t5 import T5Attention

from i4vgen.backbones.guidance import PromptEmbeds
from i4vgen.backbones.lavie.backbone import BASE, MODEL, LaVieBackbone
from i4vgen.backbones.lavie.network import FURTHEST, LaVieUNet, distance_buckets
from i4vgen.backbones.prediction import EpsilonPrediction
from i4vgen.config import GenerationConfig
from i4vgen.errors import ModelError
from i4vgen.events import Candidate, Result
from i4vgen.models import catalog
from i4vgen.models.catalog import ModelSpec
from i4vgen.pipeline import I4VGenPipeline
from tests import parity
from tests.conftest import ROOT
from tests.support import layouts_original as original
from tests.support.layouts_lavie import CHANNELS, TEXT, lavie_weights, write_lavie
from tests.support.layouts_rewards import write_hub_cache
from tests.support.predicting import predict_noise, timesteps

REFERENCE = ROOT / "tests" / "data" / "lavie_i4vgen_reference.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a small lavie_base.pt. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("lavie")
    write_lavie(folder)
    return folder


@pytest.fixture(scope="module")
def backbone(model, tiny_model_dir) -> LaVieBackbone:
    return LaVieBackbone.from_pretrained(str(model), str(tiny_model_dir))


@pytest.fixture(scope="module")
def prompt() -> PromptEmbeds:
    random = torch.Generator().manual_seed(3)
    return PromptEmbeds(torch.randn(1, 12, TEXT, generator=random), torch.randn(1, 12, TEXT, generator=random))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def is_temporal(key: str) -> bool:
    return "attn_temp" in key or "norm_temp" in key


# The authors' run


def test_every_stage_agrees_with_the_authors(capsys):
    assert parity.main([str(REFERENCE)]) == 0
    assert capsys.readouterr().out.count(" ok") == 6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scheduler": {"name": "DDPM"}}, "DDPM"),
        ({"scheduler": {"order": 3}}, "order"),
        ({"attention_heads": 8}, "heads"),
    ],
)
def test_recordings_that_cannot_be_compared_are_said_to_be_so(tmp_path, capsys, change, reason):
    with safe_open(REFERENCE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    save_file(tensors, tmp_path / "changed.safetensors", {"config": json.dumps(config | change)})
    assert parity.main([str(tmp_path / "changed.safetensors")]) == 1
    assert reason in capsys.readouterr().out


# The network


def test_the_real_network_is_that_of_stable_diffusion_and_the_temporal_layers():
    with torch.device("meta"):
        ours = {key: tuple(w.shape) for key, w in LaVieUNet().state_dict().items()}
        theirs = UNet2DConditionModel(cross_attention_dim=768).state_dict()
    assert {k: s for k, s in ours.items() if not is_temporal(k)} == {
        k: tuple(w.shape) for k, w in theirs.items()
    }
    temporal = {key: shape for key, shape in ours.items() if is_temporal(key)}
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert {k: s for k, s in temporal.items() if k.startswith(f"{block}.")} == {
        f"{block}.attn_temp.to_q.weight": (320, 320),
        f"{block}.attn_temp.to_k.weight": (320, 320),
        f"{block}.attn_temp.to_v.weight": (320, 320),
        f"{block}.attn_temp.to_out.0.weight": (320, 320),
        f"{block}.attn_temp.to_out.0.bias": (320,),
        f"{block}.attn_temp.rotary_emb.freqs": (16,),
        f"{block}.attn_temp.time_rel_pos_bias.relative_attention_bias.weight": (32, 8),
        f"{block}.norm_temp.weight": (320,),
        f"{block}.norm_temp.bias": (320,),
    }
    assert len(temporal) == 16 * 9
    # In float32 these are the 3.64 GB of lavie_base.pt.
    assert sum(int(np.prod(shape)) for shape in ours.values()) == 909_124_356


def test_sizes_come_from_the_weights(backbone):
    config = backbone.unet.config
    assert (config.block_out_channels, config.attends) == (CHANNELS, (True, False))
    assert (config.layers_per_block, config.num_attention_heads, config.rotary_dim) == (1, 1, 32)
    assert (config.in_channels, config.out_channels, config.cross_attention_dim) == (4, 4, TEXT)


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_a_single_frame_is_an_image_of_stable_diffusion(backbone, prompt, size):
    """It does not need the temporal layers: a network without them does the same."""
    images = UNet2DConditionModel(
        block_out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT,
        attention_head_dim=1,
    )
    images.load_state_dict({k: w for k, w in lavie_weights().items() if not is_temporal(k)})
    latents = noise(3, 4, 1, *size)
    with torch.no_grad():
        expected = images(latents[:, :, 0], 500, prompt.prompt.expand(3, -1, -1)).sample
    torch.testing.assert_close(predict_noise(backbone, latents, 500, prompt, 1.0)[:, :, 0], expected)


def test_frames_differ_from_images_once_they_move_together(backbone, prompt):
    latents = noise(1, 4, 5, 8, 6)
    video = predict_noise(backbone, latents, 500, prompt, 1.0)
    images = predict_noise(backbone, latents.transpose(0, 2), 500, prompt, 1.0)
    assert not torch.allclose(video, images.transpose(0, 2), atol=1e-2)


def test_frames_know_their_order(backbone, prompt):
    latents = noise(1, 4, 5, 8, 6)
    forwards = predict_noise(backbone, latents, 500, prompt, 1.0)
    backwards = predict_noise(backbone, latents.flip(2), 500, prompt, 1.0)
    assert not torch.allclose(forwards, backwards.flip(2), atol=1e-2)


def test_videos_in_one_batch_do_not_mix(backbone, prompt):
    latents = noise(2, 4, 3, 8, 6)
    together = predict_noise(backbone, latents, 300, prompt, 4.0)
    alone = torch.cat([predict_noise(backbone, z[None], 300, prompt, 4.0) for z in latents])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_distances_between_frames_share_buckets_as_in_t5():
    frames = torch.arange(40)
    offsets = frames[None] - frames[:, None]
    expected = T5Attention._relative_position_bucket(offsets, num_buckets=32, max_distance=32)
    assert torch.equal(distance_buckets(40, torch.device("cpu")), expected)


def test_half_precision(model, tiny_model_dir, backbone, prompt):
    lean = LaVieBackbone.from_pretrained(str(model), str(tiny_model_dir), dtype=torch.bfloat16)
    assert lean.dtype == torch.bfloat16
    latents = noise(1, 4, 3, 8, 6)
    rough = predict_noise(lean, latents, 500, prompt, 1.0)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, predict_noise(backbone, latents, 500, prompt, 1.0), rtol=0.1, atol=0.1)


# Samplers and the whole chain


def test_the_samplers_are_those_of_the_authors(backbone):
    """Their diffusers (0.16) shifts the timesteps of DDIM by the base's steps_offset, those of DDPM not."""
    assert timesteps(backbone.sampler("ddpm", 50)) == list(range(980, -1, -20))
    assert timesteps(backbone.sampler("ddim", 50)) == list(range(981, 0, -20))
    assert timesteps(backbone.sampler("ddpm", 50, last=40)) == list(range(780, -1, -20))


def test_ddpm_adds_noise_at_every_step_but_the_last(backbone):
    sampler = backbone.sampler("ddpm", 5)
    latents, predicted = noise(1, 4, 2, 8, 6), noise(1, 4, 2, 8, 6, seed=1)
    for level in sampler.levels:
        prediction = EpsilonPrediction(level, latents, predicted)
        steps = [sampler.step(prediction, [torch.Generator().manual_seed(seed)]) for seed in (1, 1, 2)]
        assert torch.equal(steps[0], steps[1])
        assert torch.equal(steps[0], steps[2]) == (level.timestep == 0)


def test_defaults(model, tiny_model_dir):
    defaults = LaVieBackbone.read_defaults(str(model), str(tiny_model_dir))
    assert (defaults.height, defaults.width, defaults.num_frames, defaults.fps) == (320, 512, 16, 8)
    assert (defaults.num_inference_steps, defaults.guidance_scale) == (50, 7.0)
    assert (defaults.p_ni_vsds, defaults.p_re, defaults.max_frames) == (0.6, 0.8, FURTHEST)
    assert (defaults.sampler, defaults.samplers) == ("ddpm", ("ddpm", "ddim", "dpm++"))
    assert defaults.size_multiple == 4  # the tiny VAE's
    assert LaVieBackbone.read_vocabulary(model=str(model)) is None


def test_another_vae(model, tiny_model_dir, tmp_path):
    """A file in Stable Diffusion's names, with a multiple of its own."""
    other = original.vae()
    file = original.write(tmp_path / "vae.safetensors", original.vae_weights(other))
    entry = catalog.find(ModelSpec("lavie", vae=str(file)))
    assert entry.sources["vae"] == str(file)
    backbone = LaVieBackbone.from_pretrained(str(model), str(tiny_model_dir), vae=str(file))
    assert backbone.defaults.size_multiple == 8
    for name, weight in backbone._needed_vae().state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], atol=1e-5, rtol=1e-5)


def test_the_noise_schedule_and_the_step_sizes(backbone):
    betas = torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64)
    assert backbone.level(500).weight == pytest.approx(1 - (1 - betas)[:501].prod().item(), rel=1e-5)
    assert [backbone.ni_vsds_step_size(i) for i in (0, 1, 40)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_the_whole_chain(backbone, sampler):
    config = GenerationConfig.for_model(
        backbone.defaults,
        prompt="a red rocket rising",
        sampler=sampler,
        height=32,
        width=24,
        num_frames=3,
        num_candidates=2,
        num_inference_steps=4,
    )
    pipeline = I4VGenPipeline(backbone, [parity.Brightness()])
    events = list(pipeline.run(config))
    assert len([event for event in events if isinstance(event, Candidate)]) == 2
    results = {event.name: event for event in events if isinstance(event, Result)}
    assert list(results) == ["ni_vsds", "i4vgen", "vanilla"]
    for result in results.values():
        assert result.frames.shape == (3, 32, 24, 3)
        assert np.isfinite(result.latents).all()
    again = [event for event in pipeline.run(config, compare=()) if isinstance(event, Result)]
    np.testing.assert_array_equal(again[-1].latents, results["i4vgen"].latents)


# The checkpoint


def test_models_load_from_an_offline_hub_cache(tmp_path, monkeypatch, tiny_model_dir, backbone, prompt):
    cache = tmp_path / "cache"
    write_hub_cache(cache, MODEL, write_lavie)
    write_hub_cache(cache, BASE, lambda folder: shutil.copytree(tiny_model_dir, folder, dirs_exist_ok=True))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    loaded = LaVieBackbone.from_pretrained(dtype=torch.float32)
    latents = noise(1, 4, 3, 8, 6)
    torch.testing.assert_close(
        predict_noise(loaded, latents, 500, prompt, 1.0), predict_noise(backbone, latents, 500, prompt, 1.0)
    )


def test_a_checkpoint_may_be_the_bare_state_dict(tmp_path, tiny_model_dir, backbone, prompt):
    torch.save(lavie_weights(), tmp_path / "lavie_base.pt")
    loaded = LaVieBackbone.from_pretrained(str(tmp_path), str(tiny_model_dir))
    latents = noise(1, 4, 2, 8, 6)
    torch.testing.assert_close(
        predict_noise(loaded, latents, 500, prompt, 1.0), predict_noise(backbone, latents, 500, prompt, 1.0)
    )


def refusal(model, base) -> str:
    """The one line that says why a model cannot be loaded."""
    with pytest.raises(ModelError) as caught:
        LaVieBackbone.from_pretrained(str(model), str(base))
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Code:
    """Pickled, it would make a folder when it is read."""

    def __reduce__(self):
        return os.mkdir, (CODE_RAN,)


CODE_RAN = "code-in-the-checkpoint-ran"


@pytest.mark.parametrize("damage", ["missing", "empty", "cut off", "pointer", "code", "list", "optimizer"])
def test_damaged_checkpoints_are_refused(model, tiny_model_dir, tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    whole = (model / "lavie_base.pt").read_bytes()
    file = tmp_path / "lavie_base.pt"
    if damage == "empty":
        file.touch()
    elif damage == "cut off":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "pointer":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3636842083\n")
    elif damage == "code":
        torch.save({"ema": lavie_weights(), "args": Code()}, file)
    elif damage == "list":
        torch.save([1, 2], file)
    elif damage == "optimizer":
        torch.save({"ema": {"state": {}, "lr": 0.1}}, file)
    reason = refusal(tmp_path, tiny_model_dir)
    assert "lavie_base.pt" in reason
    assert "download it (3.64 GB) from https://huggingface.co/Vchitect/LaVie" in reason
    assert not (tmp_path / CODE_RAN).exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("conv_out.weight"), "it has no conv_out.weight"),
        (lambda w: w.pop("mid_block.resnets.1.norm1.bias"), "mid_block.resnets.1.norm1.bias"),
        (lambda w: w.update({"time_embedding.linear_1.bias": torch.zeros(7)}), r"\(7,\) instead of \(128,\)"),
        (lambda w: w.update({"class_embedding.weight": torch.zeros(7)}), "class_embedding.weight"),
        (lambda w: w.clear(), "it has no "),
        (lambda w: [w.pop(k) for k in list(w) if k.startswith("down_blocks")], "sizes"),
        (lambda w: w.update({"conv_in.weight": torch.zeros(())}), "sizes"),
        (lambda w: [w.pop(k) for k in list(w) if is_temporal(k)], "it has no mid_block"),
    ],
)
def test_other_networks_are_refused(tiny_model_dir, tmp_path, change, reason):
    weights = lavie_weights()
    change(weights)
    torch.save({"ema": weights}, tmp_path / "lavie_base.pt")
    said = refusal(tmp_path, tiny_model_dir)
    assert re.search(reason, said), said
    assert "download it" in said


def test_a_base_that_does_not_fit_is_refused(model, tiny_model_dir, tmp_path):
    base = shutil.copytree(tiny_model_dir, tmp_path / "base")
    shutil.rmtree(base / "text_encoder")
    config = CLIPTextConfig.from_pretrained(tiny_model_dir, subfolder="text_encoder")
    config.hidden_size = 2 * TEXT
    CLIPTextModel(config).save_pretrained(base / "text_encoder")
    assert "text of 16, " in refusal(model, base)
    shutil.copytree(tiny_model_dir / "text_encoder", base / "text_encoder", dirs_exist_ok=True)
    shutil.rmtree(base / "vae")
    AutoencoderKL(latent_channels=3).save_pretrained(base / "vae")
    assert "latents of 4 channels" in refusal(model, base)
    shutil.rmtree(base / "vae")
    assert "no vae/config.json" in refusal(model, base)


def test_models_that_are_nowhere(tiny_model_dir, model):
    assert "no model" in refusal("not/a/model", tiny_model_dir)
    assert "no model" in refusal(model, "not/a/model")
