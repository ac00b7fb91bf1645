"""Wan against diffusers' own pipelines, on small random networks; the method on a flow; a whole run."""

from __future__ import annotations

import json
import logging
import shutil

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from i4vgen.backbones import animatediff
from i4vgen.backbones.memory import Memory
from i4vgen.backbones.prediction import EpsilonPrediction, FlowPrediction, NoiseLevel
from i4vgen.backbones.samplers import DiffusersSampler, FlowSampler, flow_schedule
from i4vgen.backbones.wan import NEGATIVE_PROMPT, WanBackbone, WanImageToVideoBackbone
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.events import Candidate, Preview, Progress, Result
from i4vgen.method.ni_vsds import ni_vsds
from i4vgen.pipeline import Anchor, I4VGenPipeline
from tests.support.layouts_animatediff import write_image_lora
from tests.support.layouts_wan import (
    LARGER_TRANSFORMER,
    LORA_NAMES,
    TEXT,
    TRANSFORMER,
    VAE,
    write_wan,
    write_wan_5b,
    write_wan_lora,
)

PROMPT, NEGATIVE, SCALE, STEPS = "a red rocket rising", "ugly, static", 5.0, 4

# Two sizes of each family: patches, heads, layers, text and shift are read, not known.
MODELS = {
    "1.3b": lambda folder: write_wan(folder),
    "1.3b, wider": lambda folder: write_wan(
        folder,
        TRANSFORMER | {"num_attention_heads": 3, "attention_head_dim": 8, "num_layers": 1, "text_dim": 24},
        VAE | {"base_dim": 6, "num_res_blocks": 2},
        TEXT | {"d_model": 24},
        flow_shift=8.0,
        shards="20KB",
    ),
    "5b": write_wan_5b,
    "5b, wider": lambda folder: write_wan_5b(
        folder, transformer=LARGER_TRANSFORMER | {"num_attention_heads": 3, "num_layers": 1}, flow_shift=7.0
    ),
}
SIZE = {"height": 64, "width": 96}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with one model each. Copy what is to be changed."""
    folder = tmp_path_factory.mktemp("wan")
    for name, write in MODELS.items():
        write(folder / name)
    return folder


@pytest.fixture(scope="module")
def backbone(models) -> WanBackbone:
    return WanBackbone.from_pretrained(str(models / "1.3b"))


@pytest.fixture(scope="module", params=MODELS)
def pair(request, models) -> tuple[WanBackbone, diffusers.WanPipeline]:
    """A model as we load it, and as diffusers does."""
    folder = str(models / request.param)
    return WanBackbone.from_pretrained(folder), quiet_pipeline(diffusers.WanPipeline.from_pretrained(folder))


def quiet_pipeline(pipe):
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(backbone: WanBackbone, latent_frames: int, seed: int = 0) -> torch.Tensor:
    channels, height, width = backbone.latent_shape(**SIZE)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, latent_frames, height, width, generator=generator)


def make_config(backbone: WanBackbone, **given) -> GenerationConfig:
    values = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_frames": 9, "num_candidates": 2}
    values |= {"num_inference_steps": STEPS, "guidance_scale": SCALE, **SIZE}
    return GenerationConfig.for_model(backbone.defaults, **values | given)


def result(events, name: str) -> Result:
    return next(event for event in events if isinstance(event, Result) and event.name == name)


def agree(ours, theirs, tolerance: float = 1e-5) -> None:
    ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


# Against diffusers


def test_prompts_are_encoded_as_by_diffusers(pair):
    backbone, pipe = pair
    ours = backbone.encode_prompt(f" {PROMPT} &amp;  so\non", NEGATIVE)
    prompt, negative = pipe.encode_prompt(f" {PROMPT} &amp;  so\non", NEGATIVE, max_sequence_length=512)
    agree(ours.prompt, prompt)
    agree(ours.negative, negative)
    assert not torch.equal(ours.prompt, ours.negative)


@pytest.mark.parametrize("num_frames", [1, 9])
def test_images_and_vanilla_videos_are_those_of_diffusers(pair, num_frames):
    backbone, pipe = pair
    start = noise(backbone, backbone.defaults.latent_frames(num_frames))
    # For an image, the negative prompt does not forbid to stand still.
    negative = "ugly" if num_frames == 1 else NEGATIVE
    call = {"num_frames": num_frames, "num_inference_steps": STEPS, "guidance_scale": SCALE, **SIZE}
    theirs = pipe(PROMPT, negative, latents=start, output_type="latent", **call).frames
    pixels = pipe(PROMPT, negative, latents=start, output_type="np", **call).frames

    latents, embeds = start, backbone.encode_prompt(PROMPT, NEGATIVE)
    sampler = backbone.sampler("unipc", STEPS)
    for level in sampler.levels:
        latents = sampler.step(backbone.predict(latents, level, embeds, SCALE), [])
    agree(latents, theirs)
    assert (theirs - start).abs().max() > 0.5
    assert np.abs(backbone.decode(theirs) / 255 - pixels).max() < 0.51 / 255


def test_the_vanilla_video_of_a_run_is_diffusers(pair):
    backbone, pipe = pair
    pipeline, config = I4VGenPipeline(backbone), make_config(backbone)
    ours = result(pipeline.run(config, 0), "vanilla")
    theirs = pipe(
        PROMPT, NEGATIVE, latents=pipeline.initial_noise(config), num_frames=9, num_inference_steps=STEPS,
        guidance_scale=SCALE, output_type="latent", **SIZE,
    ).frames  # fmt: skip
    agree(ours.latents, theirs[0])
    assert ours.frames.shape == (9, 64, 96, 3)


class Beginning(diffusers.UniPCMultistepScheduler):
    """Divides the schedule from another level than pure noise on."""

    first_sigma = 1.0

    def set_timesteps(self, num_inference_steps, device=None):
        way = np.linspace(self.first_sigma, 1e-3, num_inference_steps + 1)[:-1]
        super().set_timesteps(device=device, sigmas=way)


@pytest.mark.parametrize("name", ["1.3b", "1.3b, wider"])
@pytest.mark.parametrize("p_re", [1.0, 0.5])
def test_the_regeneration_is_diffusers_video_to_video(models, name, p_re):
    backbone = WanBackbone.from_pretrained(str(models / name))
    pipe = quiet_pipeline(diffusers.WanVideoToVideoPipeline.from_pretrained(str(models / name)))
    pipe.scheduler = Beginning.from_config(pipe.scheduler.config)
    pipe.scheduler.first_sigma = backbone.first_sigma
    pipeline, config = I4VGenPipeline(backbone), make_config(backbone, p_re=p_re)
    inputs, video = pipeline.prepare(config), noise(backbone, 3, seed=1)
    ours = result(pipeline.regenerate(inputs, video), "i4vgen").latents

    pipe.scheduler.set_timesteps(STEPS)
    first = pipe.scheduler.timesteps[STEPS - int(STEPS * p_re)]
    noised = pipe.scheduler.add_noise(video, inputs.noise.fresh("regeneration"), first[None])
    theirs = pipe(
        prompt_embeds=inputs.prompt_embeds.prompt, negative_prompt_embeds=inputs.prompt_embeds.negative,
        latents=noised, strength=p_re, num_inference_steps=STEPS, guidance_scale=SCALE, output_type="latent",
        **SIZE,
    ).frames  # fmt: skip
    agree(ours, theirs[0])


@pytest.mark.parametrize("name", ["5b", "5b, wider"])
def test_an_anchor_is_continued_as_by_diffusers(models, name, picture):
    backbone = WanImageToVideoBackbone.from_pretrained(str(models / name))
    parts = diffusers.WanPipeline.from_pretrained(str(models / name)).components
    parts = {key: part for key, part in parts.items() if key not in ("boundary_ratio", "expand_timesteps")}
    pipe = quiet_pipeline(diffusers.WanImageToVideoPipeline(**parts, expand_timesteps=True))
    image = Image.fromarray(picture).resize((96, 64))
    embeds = backbone.encode_prompt(PROMPT, NEGATIVE)
    theirs = pipe(
        image, prompt_embeds=embeds.prompt, negative_prompt_embeds=embeds.negative, latents=noise(backbone, 3),
        num_frames=9, num_inference_steps=STEPS, guidance_scale=SCALE, output_type="latent", **SIZE,
    ).frames  # fmt: skip
    anchor = backbone.encode(np.array(image))
    latents, sampler = noise(backbone, 3), backbone.sampler("unipc", STEPS)
    embeds = backbone.condition(embeds, anchor)
    for level in sampler.levels:
        latents = sampler.step(backbone.predict(latents, level, embeds, SCALE), [])
    agree(latents, theirs)
    agree(latents[:, :, :1], anchor)


# The method on a flow


class AsFlow:
    """A model of noise as a model of flows: it sees latents as bright as it knows them, and its answer is
    turned into a velocity.
    """

    def __init__(self, backbone):
        self.backbone = backbone

    def predict(self, latents, level, prompt_embeds, guidance_scale):
        known = self.backbone.level(level.timestep)
        brightness = known.sigma / level.sigma
        seen = self.backbone.predict(latents * brightness, known, prompt_embeds, guidance_scale)
        return FlowPrediction(level, latents, seen.noise - seen.clean)


def as_flow(level: NoiseLevel) -> NoiseLevel:
    """The level of a flow with the same ratio of signal to noise."""
    return NoiseLevel.of_flow(level.timestep, level.sigma / (level.alpha + level.sigma))


def test_ni_vsds_is_the_same_for_a_model_of_noise_and_for_the_same_model_as_a_flow(pipeline):
    backbone = pipeline.backbone
    prompt = backbone.encode_prompt("a red rocket rising", "")
    still, eps = torch.randn(2, 1, 4, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    levels = backbone.sampler("ddim", 25).levels[:16]
    sizes = [backbone.ni_vsds_step_size(index) for index in range(16)]
    flow_levels = [as_flow(level) for level in levels]
    ours = list(ni_vsds(backbone, still, eps, levels, sizes, prompt, 3.0))
    flow = list(ni_vsds(AsFlow(backbone), still, eps, flow_levels, sizes, prompt, 3.0))
    for one, other in zip(ours, flow, strict=True):
        agree(other.latents, one.latents)
    assert (ours[-1].latents - still).abs().max() > 0.1


def test_ni_vsds_goes_the_share_lambda_of_the_way_to_the_clean_latents(backbone):
    embeds = backbone.encode_prompt(PROMPT, "")
    still, eps = noise(backbone, 3), noise(backbone, 3, seed=1)
    levels = backbone.ni_vsds_levels("unipc", 5)
    z = still
    sizes = [backbone.ni_vsds_step_size(index) for index in range(len(levels))]
    for step, s in zip(ni_vsds(backbone, still, eps, levels, sizes, embeds, SCALE), sizes, strict=True):
        sigma = step.level.sigma
        w = sigma**2 / ((1 - sigma) ** 2 + sigma**2)
        clean = backbone.predict((1 - sigma) * z + sigma * eps, step.level, embeds, SCALE).clean
        z = z - s * w * (1 - sigma) / sigma * (z - clean)
        agree(step.latents, z)


@pytest.mark.parametrize("name", ["1.3b", "5b"])
def test_the_noise_levels_are_animatediffs_shifted(models, name):
    backbone = WanBackbone.from_pretrained(str(models / name))
    shift = {"1.3b": 3.0, "5b": 5.0}[name]
    for level, known in zip(
        backbone.ni_vsds_levels("unipc", 25),
        DiffusersSampler("ddim", animatediff.SCHEDULE, 25).levels,
        strict=True,
    ):
        # The shift divides the ratio of signal to noise.
        assert level.alpha / level.sigma == pytest.approx(known.alpha / known.sigma / shift)
        assert level.timestep == pytest.approx(1000 * level.sigma)
    assert backbone.max_noise_level == backbone.ni_vsds_levels("unipc", 25)[0]
    assert backbone.sampler("unipc", 10).levels[0].sigma == pytest.approx(1, abs=1e-5)
    whole = backbone.sampler("unipc", 10, starts_from_video=True).levels
    assert whole[0].sigma == pytest.approx(backbone.max_noise_level.sigma, abs=1e-6)
    assert backbone.sampler("unipc", 10, 4, starts_from_video=True).levels == whole[-4:]
    assert [backbone.ni_vsds_step_size(i) for i in (0, 2, 3, 30)] == [10 * shift, 10 * shift, shift, shift]


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_denoising_with_the_true_velocity_gives_back_the_clean_latents(backbone, name):
    clean, eps = noise(backbone, 3), noise(backbone, 3, seed=1)
    for starts_from_video in (False, True):
        sampler = backbone.sampler(name, 8, starts_from_video=starts_from_video)
        latents = sampler.levels[0].add_noise(clean, eps)
        for level in sampler.levels:
            latents = sampler.step(FlowPrediction(level, latents, eps - clean), [])
        torch.testing.assert_close(latents, clean, atol=1e-4, rtol=1e-4)


def test_schedules_saved_for_other_solvers_are_read():
    euler = diffusers.FlowMatchEulerDiscreteScheduler(shift=8.0)
    levels = FlowSampler("unipc", flow_schedule(euler.config), 2).levels
    u = (1 + 1e-3) / 2
    assert levels[1].sigma == pytest.approx(8 * u / (1 + 7 * u))


# Images, videos, memory


def test_a_still_video_is_coded_from_its_pixels(backbone):
    anchor = noise(backbone, 1)
    still = backbone.still_video(anchor, 9)
    assert still.shape == (1, 4, 3, 8, 12) and torch.equal(still[:, :, :1], anchor)
    image = backbone.decode(anchor)[0, 0]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None, :, None].repeat(1, 1, 9, 1, 1) / 127.5 - 1
    mean, std = (torch.tensor(VAE[f"latents_{name}"]).view(1, -1, 1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = (backbone.vae.encode(pixels).latent_dist.mode() - mean) / std
    torch.testing.assert_close(still[:, :, 1:], expected[:, :, 1:], atol=0.02, rtol=0.02)
    assert (still - anchor).abs().max() > 0.01, "repeated latents are another video"


def test_previews_are_the_colours_that_fit_the_last_picture_best(backbone):
    latents = noise(backbone, 3)
    frames = backbone.decode(latents)
    calls = []
    hook = backbone.vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    sketch = backbone.preview(latents)
    hook.remove()
    assert sketch.shape == (9, 8, 12, 3) and sketch.dtype == np.uint8 and not calls
    small = frames[0, 0].reshape(8, 8, 12, 8, 3).mean((1, 3))
    assert np.square(sketch[0] - small).mean() < np.square(small - small.mean((0, 1))).mean()
    assert all(np.array_equal(sketch[i], sketch[1]) for i in (2, 3, 4)), "a frame of latents is four of pixels"


def test_every_memory_mode_computes_the_same(models):
    backbone = WanBackbone.from_pretrained(str(models / "5b"))
    videos = torch.cat([noise(backbone, 3), noise(backbone, 3, seed=1)])

    def compute():
        embeds = backbone.encode_prompt(PROMPT, NEGATIVE)
        predicted = backbone.predict(videos, backbone.max_noise_level, embeds, SCALE)
        return predicted.output, backbone.decode(videos).astype(int)

    output, frames = compute()
    for mode in (Memory.SLICED, Memory.OFFLOADED, Memory.FULL):
        backbone.set_memory(mode)
        again, pictures = compute()
        agree(again, output)
        assert abs(pictures - frames).max() <= 1
    assert backbone.networks == [backbone.transformer, backbone.vae]


@pytest.mark.parametrize(("name", "height", "width"), [("1.3b", 288, 64), ("5b", 64, 288)])
def test_where_memory_is_scarce_large_pictures_are_coded_in_tiles(models, name, height, width):
    whole, tiled = (
        WanBackbone.from_pretrained(str(models / name), memory=mode) for mode in (Memory.FULL, Memory.SLICED)
    )
    assert not whole.vae.use_tiling and tiled.vae.use_tiling
    channels, *sides = tiled.latent_shape(height, width)
    latents = torch.randn(1, channels, 2, *sides, generator=torch.Generator().manual_seed(0))
    frames, together = tiled.decode(latents), whole.decode(latents).astype(int)
    assert frames.shape == together.shape == (1, 5, height, width, 3)
    assert 0 < np.abs(frames - together).mean() < 0.2 * together.std(), "the seams hardly show"

    tile, own = 256, 192  # pixels: what is decoded at once, and what of that no other tile is blended into
    _, rows, columns = tiled.latent_shape(tile, tile)
    first = whole.decode(latents[..., :rows, :columns]).astype(int)[:, :, :own, :own]
    assert np.abs(frames[:, :, :own, :own] - first).max() <= 1

    image = frames[0, 0]
    tile *= whole.vae.config["patch_size"] or 1
    _, rows, columns = tiled.latent_shape(own, own)
    first = whole.encode(image[:tile, :tile])[..., :rows, :columns]
    agree(tiled.encode(image)[..., :rows, :columns], first)
    assert tiled.encode(image).shape == latents[:, :, :1].shape


def test_half_precision_leaves_the_vae_whole(models):
    backbone = WanBackbone.from_pretrained(str(models / "1.3b, wider"), dtype=torch.bfloat16)
    assert backbone.dtype == backbone.text_encoder.dtype == torch.bfloat16
    assert backbone.vae.dtype == torch.float32
    embeds = backbone.encode_prompt(PROMPT, NEGATIVE)
    predicted = backbone.predict(noise(backbone, 3), backbone.max_noise_level, embeds, SCALE)
    assert predicted.output.dtype == torch.float32 and predicted.output.isfinite().all()
    assert WanBackbone.half == torch.bfloat16


# Loading


def test_defaults_come_from_the_configurations(models, tmp_path):
    small, large = (WanBackbone.read_defaults(str(models / name)) for name in ("1.3b", "5b"))
    assert (small.width, small.height, small.num_frames, small.fps, small.size_multiple) == (
        832,
        480,
        33,
        16,
        16,
    )
    assert (large.width, large.height, large.num_frames, large.fps, large.size_multiple) == (
        1280,
        704,
        33,
        24,
        32,
    )
    for defaults in (small, large):
        assert (defaults.frames_per_latent, defaults.latent_frames(33)) == (4, 9)
        assert (defaults.sampler, defaults.guidance_scale) == ("unipc", 5.0)
        config = GenerationConfig.for_model(defaults, prompt=PROMPT)
        assert config.negative_prompt == NEGATIVE_PROMPT and "still picture" in config.negative_prompt
        with pytest.raises(InvalidInputError, match=r"a multiple of 4, plus 1, .*not 16: try 13 or 17"):
            GenerationConfig.for_model(defaults, prompt=PROMPT, num_frames=16)
    shutil.copytree(models / "1.3b", tmp_path / "own")
    (tmp_path / "own" / "i4vgen.json").write_text(json.dumps({"height": 64, "ni_vsds_step_sizes": [7, 2]}))
    backbone = WanBackbone.from_pretrained(str(tmp_path / "own"))
    assert backbone.defaults.height == 64 and [backbone.ni_vsds_step_size(i) for i in (0, 5)] == [7, 2]


def test_models_that_cannot_be_used(models, tmp_path):
    def refusal(cls=WanBackbone) -> str:
        with pytest.raises(ModelError) as caught:
            cls.from_pretrained(str(tmp_path / "other"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def change(file: str, **values) -> None:
        path = tmp_path / "other" / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    assert "other" in refusal()
    shutil.copytree(models / "1.3b", tmp_path / "other")
    assert "does not continue images" in refusal(WanImageToVideoBackbone)
    change("model_index.json", boundary_ratio=0.875)
    assert "two transformers" in refusal()
    change("model_index.json", boundary_ratio=None)
    change("transformer/config.json", in_channels=36)
    assert "takes 36 channels, its VAE makes 4" in refusal()
    change("transformer/config.json", in_channels=4)
    (tmp_path / "other" / "text_encoder" / "model.safetensors").unlink()
    assert "text_encoder has no weights" in refusal()
    shutil.rmtree(tmp_path / "other" / "scheduler")
    assert "scheduler" in refusal()


def test_released_names_of_weights_are_those_of_the_small_models(models):
    """What is written here has the names that diffusers' conversion gives the released weights."""
    names = load_file(models / "1.3b" / "transformer" / "diffusion_pytorch_model.safetensors").keys()
    assert {"condition_embedder.text_embedder.linear_1.weight", "blocks.0.attn2.norm_k.weight"} <= names
    assert "blocks.0.ffn.net.0.proj.weight" in names and "scale_shift_table" in names


# LoRAs


@pytest.mark.parametrize("names", ["diffusers", "comfyui"])
@pytest.mark.parametrize("name", ["1.3b", "5b"])
def test_a_lora_is_that_of_diffusers(models, tmp_path, name, names):
    write_wan_lora(tmp_path / "ink.safetensors", names)
    pipe = quiet_pipeline(diffusers.WanPipeline.from_pretrained(str(models / name)))
    plain = WanBackbone.from_pretrained(str(models / name))
    pipe.load_lora_weights(str(tmp_path / "ink.safetensors"))
    pipe.fuse_lora(lora_scale=0.7)
    backbone = WanBackbone.from_pretrained(str(models / name), loras=[f"{tmp_path / 'ink.safetensors'}@0.7"])
    config = make_config(backbone)
    ours, without = (result(I4VGenPipeline(one).run(config, 0), "vanilla") for one in (backbone, plain))
    theirs = pipe(
        PROMPT, NEGATIVE, latents=I4VGenPipeline(plain).initial_noise(config), num_frames=9,
        num_inference_steps=STEPS, guidance_scale=SCALE, output_type="latent", **SIZE,
    ).frames  # fmt: skip
    agree(ours.latents, theirs[0])
    assert np.abs(ours.latents - without.latents).max() > 0.1


@pytest.mark.parametrize("names", LORA_NAMES)
def test_a_lora_of_any_names_adds_its_products(models, backbone, tmp_path, names):
    added = write_wan_lora(tmp_path / "pytorch_lora_weights.safetensors", names)
    changed = WanBackbone.from_pretrained(str(models / "1.3b"), loras=[f"{tmp_path}@-0.5"]).transformer
    assert [type(module) for module in changed.modules()] == [type(m) for m in backbone.transformer.modules()]
    assert not changed.training and not any(weight.requires_grad for weight in changed.parameters())
    before, after = backbone.transformer.state_dict(), changed.state_dict()
    assert before.keys() == after.keys() > added.keys() and len(added) == 20
    for key, weight in before.items():
        torch.testing.assert_close(after[key], weight - 0.5 * added.get(key, 0), atol=1e-6, rtol=1e-5, msg=key)


def wider(folder):
    write_wan_lora(folder / "lora.safetensors", num_attention_heads=3)


def of_a_unet(folder):
    write_image_lora(folder / "lora.safetensors", kohya=True)


def dora(folder):
    save_file({"transformer.blocks.0.attn1.to_q.dora_scale": torch.ones(24)}, folder / "lora.safetensors")


def without_a_layer(folder):
    write_wan_lora(folder / "whole", "musubi")
    weights = load_file(folder / "whole")
    del weights["lora_unet_blocks_1_ffn_2.lora_up.weight"]
    save_file(weights, folder / "lora.safetensors")


def truncated(folder):
    write_wan_lora(folder / "lora.safetensors")
    whole = (folder / "lora.safetensors").read_bytes()
    (folder / "lora.safetensors").write_bytes(whole[:-100])


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (wider, r"made for layers of other sizes"),
        (of_a_unet, r"none of its 60 layers fit"),
        (dora, r"DoRA, which is not supported"),
        (without_a_layer, r"lacks some of its weights"),
        (truncated, r"incomplete"),
    ],
)
def test_a_lora_that_does_not_fit(models, tmp_path, write, why):
    write(tmp_path)
    lora = str(tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match=why) as caught:
        WanBackbone.from_pretrained(str(models / "1.3b"), loras=[lora])
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="there is no LoRA"):
        WanBackbone.from_pretrained(str(models / "1.3b"), loras=[str(tmp_path / "no-such.safetensors")])


# A whole run


@pytest.mark.parametrize("name", ["1.3b", "5b"])
def test_a_whole_run(models, name, picture):
    backbone = (WanImageToVideoBackbone if name == "5b" else WanBackbone).from_pretrained(str(models / name))
    pipeline, config = I4VGenPipeline(backbone), make_config(backbone)
    compare = ("vanilla", "freeinit")
    events = list(pipeline.run(config, 1, compare, previews=100.0))
    drawn = [event for event in events if isinstance(event, Candidate)]
    assert [candidate.image.shape for candidate in drawn] == [(64, 96, 3)] * 2
    videos = {event.name: event for event in events if isinstance(event, Result)}
    assert list(videos) == ["ni_vsds", "i4vgen", "vanilla", "freeinit"]
    for video in videos.values():
        assert video.frames.shape == (9, 64, 96, 3) and np.isfinite(video.latents).all()
        if name == "5b":
            # The steps of NI-VSDS are long: rounding shows.
            agree(video.latents[:, :1], drawn[1].latents, 1e-3 if video.name == "ni_vsds" else 1e-5)
    assert all(event.frames.shape[0] == 9 for event in events if isinstance(event, Preview))
    assert all(0 < event.timestep <= 1000 for event in events if isinstance(event, Progress))
    again = list(pipeline.run(config, 1, compare=()))
    assert np.array_equal(result(again, "i4vgen").latents, videos["i4vgen"].latents)
    own = list(pipeline.run(config, Anchor.from_image(Image.fromarray(picture)), compare=()))
    assert not np.array_equal(result(own, "i4vgen").latents, videos["i4vgen"].latents)


def test_a_prediction_of_noise_is_none_of_a_flow(backbone):
    """The same numbers mean something else."""
    level, latents = backbone.max_noise_level, noise(backbone, 1)
    one, other = (kind(level, latents, latents) for kind in (EpsilonPrediction, FlowPrediction))
    assert not torch.allclose(one.clean, other.clean)
