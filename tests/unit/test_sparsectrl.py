"""SparseCtrl: what the controlnet is shown, what diffusers' pipeline computes from it, and a whole run."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffSparseControlNetPipeline, DDIMScheduler, SparseControlNetModel
from PIL import Image
from safetensors.torch import load_file, save_file

from i4vgen.backbones.animatediff import SCHEDULE, AnimateDiffBackbone, MotionModule
from i4vgen.backbones.memory import Memory
from i4vgen.backbones.sparsectrl import SparseCtrlBackbone
from i4vgen.config import GenerationConfig
from i4vgen.errors import ModelError
from i4vgen.events import Candidate, Result, Selected
from i4vgen.pipeline import Anchor, I4VGenPipeline
from tests.support.layouts_animatediff import (
    as_hub_cache,
    write_image_lora,
    write_motion_adapter,
    write_motion_lora,
    write_sparse_controlnet,
    write_stable_diffusion,
)
from tests.support.predicting import predict_noise

BASE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
ADAPTER = "guoyww/animatediff-motion-adapter-v1-5-3"
CONTROLNET = "guoyww/animatediff-sparsectrl-rgb"
FRAMES, TIMESTEP, SCALE = 3, 601, 5.0


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with one model each. Copy what is to be changed."""
    folder = tmp_path_factory.mktemp("sparsectrl")
    write_stable_diffusion(folder / "sd")
    write_motion_adapter(folder / "v3", middle=False)
    write_sparse_controlnet(folder / "rgb")
    return folder


def load(models, **given) -> SparseCtrlBackbone:
    return SparseCtrlBackbone.from_pretrained(
        str(models / "sd"), str(models / "v3"), str(models / "rgb"), **given
    )


@pytest.fixture(scope="module")
def backbone(models) -> SparseCtrlBackbone:
    return load(models)


@pytest.fixture(scope="module")
def text_to_video(backbone) -> AnimateDiffBackbone:
    """The same networks without the controlnet."""
    return AnimateDiffBackbone(
        backbone.unet,
        DDIMScheduler(**SCHEDULE),
        backbone.defaults,
        backbone.vae,
        backbone.text_encoder,
        backbone.tokenizer,
    )


@pytest.fixture(scope="module")
def prompt(backbone):
    return backbone.encode_prompt("a rocket", "dull")


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(1, 4, FRAMES, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def anchor() -> torch.Tensor:
    return torch.randn(1, 4, 1, 4, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def photo() -> Image.Image:
    """One's own picture, of another shape than the video."""
    y, x = np.mgrid[0:60, 0:90]
    return Image.fromarray(np.stack([x * 2, y * 4, x + y], axis=-1).astype(np.uint8))


def calls_of(network) -> tuple[list, torch.utils.hooks.RemovableHandle]:
    """What a network is called with from now on: (positional, by name, result)."""
    calls = []

    def note(_, args, kwargs, result):
        calls.append((args, kwargs, result))

    return calls, network.register_forward_hook(note, with_kwargs=True)


@pytest.mark.parametrize("norms", ["per frame", "over frames"])
def test_agrees_with_diffusers_pipeline(models, prompt, noise, photo, norms, monkeypatch):
    """Every input and output of both networks, and the latents after two steps, with either kind of norm."""
    if norms == "over frames":
        for backbone in ("animatediff", "sparsectrl"):
            name = f"i4vgen.backbones.{backbone}.adopt_motion_modules"
            monkeypatch.setattr(name, lambda network, *_: network)
    backbone = load(models)
    pipe = AnimateDiffSparseControlNetPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        tokenizer=backbone.tokenizer,
        unet=backbone.unet,
        motion_adapter=None,
        controlnet=backbone.controlnet,
        scheduler=DDIMScheduler(**SCHEDULE),
    )
    pipe.set_progress_bar_config(disable=True)
    recorders = [calls_of(network) for network in (backbone.controlnet, backbone.unet)]
    theirs = pipe(
        prompt_embeds=prompt.prompt,
        negative_prompt_embeds=prompt.negative,
        conditioning_frames=[photo],
        num_frames=FRAMES,
        num_inference_steps=2,
        guidance_scale=SCALE,
        height=32,
        width=40,
        latents=noise,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).frames
    (control, _), (unet, _) = recorders
    conditioned = backbone.condition(prompt, control[0][1]["controlnet_cond"][:, :, :1])
    latents, sampler = noise, backbone.sampler("ddim", 2)
    for level in sampler.levels:
        latents = sampler.step(backbone.predict(latents, level, conditioned, SCALE), [])
    torch.testing.assert_close(latents, theirs)
    assert (theirs - noise).abs().max() > 0.1

    for name in ("encoder_hidden_states", "controlnet_cond", "conditioning_mask"):
        wanted, ours = control[0][1][name], control[2][1][name]
        torch.testing.assert_close(ours, wanted.expand_as(ours))
    (down, mid), (our_down, our_mid) = (control[0][2], control[2][2])
    assert len(down) == len(our_down) == 4
    torch.testing.assert_close([*our_down, our_mid], [*down, mid])
    torch.testing.assert_close(unet[2][2].sample, unet[0][2].sample)


def test_both_networks_normalise_each_frame_by_itself(backbone):
    for network, count in ((backbone.unet, 6), (backbone.controlnet, 2)):
        modules = [
            type(m) for name, m in network.named_modules() if name.split(".")[-2:-1] == ["motion_modules"]
        ]
        assert modules == [MotionModule] * count


def test_only_the_first_frame_is_shown(backbone, prompt, noise, anchor):
    """The controlnet's first features come before its motion modules."""
    features = []
    for picture in (anchor, anchor + 1):
        calls, hook = calls_of(backbone.unet)
        predict_noise(backbone, noise, TIMESTEP, backbone.condition(prompt, picture), 1.0)
        hook.remove()
        features.append(calls[0][1]["down_block_additional_residuals"])
    differ = [(a - b).flatten(1).any(1).tolist() for a, b in zip(*features, strict=True)]
    assert differ[0] == [True, False, False] and differ[-1] == [True, True, True]


def test_the_anchor_reaches_every_frame(backbone, text_to_video, prompt, noise, anchor):
    free = predict_noise(text_to_video, noise, TIMESTEP, prompt, SCALE)
    assert torch.equal(predict_noise(backbone, noise, TIMESTEP, prompt, SCALE), free)
    for picture in (anchor, -anchor):
        bound = predict_noise(backbone, noise, TIMESTEP, backbone.condition(prompt, picture), SCALE)
        moved = (bound - free).abs().amax(dim=(0, 1, 3, 4))
        assert moved.min() > 1e-3
        free = bound


def test_images_are_drawn_without_the_anchor(backbone, text_to_video, prompt, noise, anchor):
    image = noise[:, :, :1]
    calls, hook = calls_of(backbone.controlnet)
    drawn = predict_noise(backbone, image, TIMESTEP, backbone.condition(prompt, anchor), SCALE)
    hook.remove()
    assert not calls and torch.equal(drawn, predict_noise(text_to_video, image, TIMESTEP, prompt, SCALE))


def test_conditioning_leaves_the_prompt_as_it_was(backbone, prompt, anchor):
    conditioned = backbone.condition(prompt, anchor)
    assert prompt.anchor is None and conditioned.anchor is anchor and conditioned.prompt is prompt.prompt


def test_lean_memory_gives_the_same_video(models, backbone, prompt, noise, anchor):
    conditioned = backbone.condition(prompt, anchor)
    videos = torch.cat([noise, -noise])
    expected = predict_noise(backbone, videos, TIMESTEP, conditioned, SCALE)
    sliced = load(models, memory=Memory.SLICED)
    calls, _ = calls_of(sliced.controlnet)
    torch.testing.assert_close(predict_noise(sliced, videos, TIMESTEP, conditioned, SCALE), expected)
    assert [len(call[0][0]) for call in calls] == [1] * 4


def test_networks_are_listed_as_a_run_needs_them(backbone):
    assert backbone.networks == [backbone.text_encoder, backbone.controlnet, backbone.unet, backbone.vae]


def test_half_precision(models, prompt, noise, anchor):
    backbone = load(models, dtype=torch.float16)
    assert backbone.controlnet.dtype == torch.float16
    predicted = predict_noise(backbone, noise, TIMESTEP, backbone.condition(prompt, anchor), SCALE)
    expected = predict_noise(load(models), noise, TIMESTEP, backbone.condition(prompt, anchor), SCALE)
    assert predicted.dtype == torch.float32
    assert (predicted - expected).abs().max() < 0.05 * expected.abs().max()


def test_tables_of_sinusoids_may_be_missing(models, backbone, tmp_path):
    shutil.copytree(models / "rgb", tmp_path / "rgb")
    file = tmp_path / "rgb" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file({name: w for name, w in weights.items() if not name.endswith("pos_embed.pe")}, file)
    again = SparseCtrlBackbone.from_pretrained(str(models / "sd"), str(models / "v3"), str(tmp_path / "rgb"))
    before, after = backbone.controlnet.state_dict(), again.controlnet.state_dict()
    assert before.keys() == after.keys() == weights.keys()
    assert all(torch.allclose(before[name], after[name]) for name in before)


def test_defaults(backbone, models, tmp_path):
    defaults = backbone.defaults
    assert (defaults.height, defaults.width, defaults.num_frames, defaults.max_frames) == (512, 512, 16, 32)
    assert (defaults.sampler, defaults.num_inference_steps, defaults.guidance_scale) == ("ddim", 25, 7.5)
    shutil.copytree(models / "rgb", tmp_path / "rgb")
    change_config(tmp_path / "rgb", motion_max_seq_length=12)
    shorter = SparseCtrlBackbone.read_defaults(str(models / "sd"), str(models / "v3"), str(tmp_path / "rgb"))
    assert (shorter.num_frames, shorter.max_frames) == (12, 12)


def change_config(folder, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_controlnets_that_cannot_be_used(models, tmp_path):
    def refusal() -> str:
        with pytest.raises(ModelError) as caught:
            SparseCtrlBackbone.from_pretrained(str(models / "sd"), str(models / "v3"), str(tmp_path / "other"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "other" in refusal()
    (tmp_path / "other").mkdir()
    assert "has no config.json" in refusal()
    write_sparse_controlnet(tmp_path / "other", latents=False)
    assert "only SparseCtrl RGB" in refusal()
    shutil.rmtree(tmp_path / "other")
    SparseControlNetModel(block_out_channels=(32, 32, 32, 32)).save_pretrained(tmp_path / "other")
    assert "does not fit the UNet" in refusal()
    shutil.copytree(models / "rgb", tmp_path / "other", dirs_exist_ok=True)
    for file in (tmp_path / "other").glob("*.safetensors"):
        file.unlink()
    assert "has no weights" in refusal()


@pytest.fixture
def request_(backbone) -> GenerationConfig:
    return GenerationConfig.for_model(
        backbone.defaults,
        prompt="a rocket rising",
        num_candidates=2,
        num_frames=FRAMES,
        height=32,
        width=40,
        num_inference_steps=3,
    )


def results(events) -> dict[str, np.ndarray]:
    return {event.name: event.latents for event in events if isinstance(event, Result)}


def test_a_whole_run_with_ones_own_picture(backbone, text_to_video, request_, photo):
    calls, hook = calls_of(backbone.controlnet)
    events = list(
        I4VGenPipeline(backbone).run(request_, Anchor.from_image(photo), compare=("vanilla", "freeinit"))
    )
    hook.remove()
    picture = next(event.image for event in events if isinstance(event, Selected))
    assert picture.shape == (32, 40, 3) and not any(isinstance(event, Candidate) for event in events)
    wanted = backbone.encode(picture)
    assert calls and all(torch.equal(call[1]["controlnet_cond"][:, :, :1], wanted.expand(2, -1, -1, -1, -1))
                         for call in calls)  # fmt: skip

    made = results(events)
    assert list(made) == ["ni_vsds", "i4vgen", "vanilla", "freeinit"]
    free = results(
        I4VGenPipeline(text_to_video).run(request_, Anchor.from_image(photo), compare=("vanilla", "freeinit"))
    )
    for name, latents in made.items():
        assert latents.shape == (4, FRAMES, 4, 5) and np.isfinite(latents).all()
        assert np.abs(latents - free[name]).max() > 1e-3, name


def test_candidates_are_those_of_the_text_to_image_model(backbone, text_to_video, request_):
    ours, theirs = (
        [event for event in I4VGenPipeline(b).candidates(request_) if isinstance(event, Candidate)]
        for b in (backbone, text_to_video)
    )
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.latents, other.latents)


def test_a_picked_candidate_is_shown_as_it_was_drawn(backbone, request_):
    """Its own latents: nothing is decoded and encoded again."""
    calls, hook = calls_of(backbone.controlnet)
    events = list(I4VGenPipeline(backbone).run(request_, anchor=1, compare=()))
    hook.remove()
    drawn = [event for event in events if isinstance(event, Candidate)][1]
    assert np.array_equal(calls[0][1]["controlnet_cond"][0, :, :1].numpy(), drawn.latents)


def test_everything_comes_from_the_cache_when_offline(models, offline, tmp_path, noise, anchor):
    write_motion_lora(tmp_path / "zoom-in")
    write_image_lora(tmp_path / "styles" / "ink" / "v2.safetensors", kohya=True)
    as_hub_cache(offline, BASE, models / "sd")
    as_hub_cache(offline, ADAPTER, models / "v3")
    as_hub_cache(offline, CONTROLNET, models / "rgb")
    as_hub_cache(offline, "guoyww/animatediff-motion-lora-zoom-in", tmp_path / "zoom-in")
    as_hub_cache(offline, "someone/styles", tmp_path / "styles")
    here = (str(tmp_path / "zoom-in") + "@0.8", str(tmp_path / "styles" / "ink" / "v2.safetensors"))
    there = ("guoyww/animatediff-motion-lora-zoom-in@0.8", "someone/styles/ink/v2.safetensors")
    expected = load(models, loras=here)
    backbone = SparseCtrlBackbone.from_pretrained(BASE, ADAPTER, CONTROLNET, loras=there)
    assert backbone.defaults == expected.defaults
    prompt = backbone.condition(backbone.encode_prompt("a rocket", "dull"), anchor)
    assert torch.equal(
        predict_noise(backbone, noise, TIMESTEP, prompt, SCALE),
        predict_noise(expected, noise, TIMESTEP, prompt, SCALE),
    )


def test_what_is_not_in_the_cache_is_named(models, offline, tmp_path):
    as_hub_cache(offline, BASE, models / "sd")
    as_hub_cache(offline, ADAPTER, models / "v3")
    with pytest.raises(ModelError, match=CONTROLNET):
        SparseCtrlBackbone.from_pretrained(BASE, ADAPTER, CONTROLNET)
    as_hub_cache(offline, CONTROLNET, models / "rgb")
    for lora in ("guoyww/animatediff-motion-lora-pan-left@0.8", "someone/styles/ink.safetensors"):
        with pytest.raises(ModelError, match=lora.split("/")[1].split("@")[0]):
            SparseCtrlBackbone.from_pretrained(BASE, ADAPTER, CONTROLNET, loras=[lora])
    as_hub_cache(offline, "someone/styles", models / "v3")
    with pytest.raises(ModelError, match=r"has no ink\.safetensors"):
        SparseCtrlBackbone.from_pretrained(BASE, ADAPTER, CONTROLNET, loras=["someone/styles/ink.safetensors"])
