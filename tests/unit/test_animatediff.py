"""The AnimateDiff backbone: image mode, motion modules, layouts, and what happens to damaged models."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel

from i4vgen.backbones.animatediff import AnimateDiffBackbone, adopt_motion_modules
from i4vgen.backbones.guidance import PromptEmbeds
from i4vgen.backbones.prediction import EpsilonPrediction, VPrediction
from i4vgen.errors import ModelError
from tests.support.predicting import predict_noise, timesteps


@pytest.fixture
def model(tiny_model_dir, tmp_path):
    """A copy of the tiny model that a test may damage."""
    return shutil.copytree(tiny_model_dir, tmp_path / "model")


@pytest.fixture(scope="module")
def backbone(pipeline):
    return pipeline.backbone


@pytest.fixture(scope="module")
def prompt():
    generator = torch.Generator().manual_seed(3)
    return PromptEmbeds(
        torch.randn(1, 12, 16, generator=generator), torch.randn(1, 12, 16, generator=generator)
    )


def test_image_mode_is_the_text_to_image_unet(backbone, tiny_model_dir, prompt):
    unet = UNet2DConditionModel.from_pretrained(tiny_model_dir, subfolder="unet", torch_dtype=torch.float32)
    latents = torch.randn(2, 4, 1, 8, 6)
    with torch.no_grad():
        expected = unet(latents[:, :, 0], 500, encoder_hidden_states=prompt.prompt.expand(2, -1, -1)).sample
    torch.testing.assert_close(predict_noise(backbone, latents, 500, prompt, 1.0)[:, :, 0], expected)


def test_frames_differ_from_images_once_they_move_together(backbone, prompt):
    latents = torch.randn(1, 4, 5, 8, 6)
    video = predict_noise(backbone, latents, 500, prompt, 1.0)
    images = predict_noise(backbone, latents.transpose(0, 2), 500, prompt, 1.0)
    assert not torch.allclose(video, images.transpose(0, 2), atol=1e-3)


def test_videos_in_one_batch_do_not_mix(backbone, prompt):
    latents = torch.randn(2, 4, 3, 8, 6)
    together = predict_noise(backbone, latents, 300, prompt, 4.0)
    alone = torch.cat([predict_noise(backbone, z[None], 300, prompt, 4.0) for z in latents])
    torch.testing.assert_close(together, alone)


def test_guidance(backbone, prompt):
    latents = torch.randn(1, 4, 2, 8, 6)
    with_prompt = predict_noise(backbone, latents, 300, prompt, 1.0)
    with_negative = predict_noise(backbone, latents, 300, PromptEmbeds(prompt.negative, prompt.negative), 1.0)
    guided = predict_noise(backbone, latents, 300, prompt, 5.0)
    torch.testing.assert_close(guided, with_negative + 5 * (with_prompt - with_negative), atol=1e-4, rtol=1e-4)


def test_a_guidance_scale_of_1_needs_half_the_work(backbone, prompt):
    batches = []
    hook = backbone.unet.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    for scale in (0, 1, 1.5):
        predict_noise(backbone, torch.randn(3, 4, 1, 8, 6), 300, prompt, scale)
    hook.remove()
    assert batches == [3, 3, 6]


def test_adopting_motion_modules_keeps_names_weights_and_memory():
    unet = UNet2DConditionModel(
        block_out_channels=(16,), down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",), layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=16, attention_head_dim=2,
    )  # fmt: skip
    adapter = MotionAdapter(
        block_out_channels=(16,), motion_layers_per_block=1, motion_num_attention_heads=2,
        motion_norm_num_groups=4,
    )  # fmt: skip
    motion = UNetMotionModel.from_unet2d(unet, adapter)
    before = {name: weight.data_ptr() for name, weight in motion.state_dict().items()}
    adopt_motion_modules(motion, 4)
    assert {name: weight.data_ptr() for name, weight in motion.state_dict().items()} == before


def test_motion_norms_have_the_adapters_groups(backbone):
    """The tiny adapter has 4 groups, its UNet 8; diffusers alone would give both 8."""
    assert backbone.unet.down_blocks[0].motion_modules[0].norm.num_groups == 4


def test_still_video_and_step_sizes(backbone):
    anchor = torch.randn(1, 4, 1, 8, 6)
    still = backbone.still_video(anchor, 5)
    assert still.shape == (1, 4, 5, 8, 6) and torch.equal(still, anchor.expand(-1, -1, 5, -1, -1))
    assert [backbone.ni_vsds_step_size(i) for i in range(5)] == [10, 10, 10, 1, 1]


def test_noise_schedule(backbone):
    whole = timesteps(backbone.sampler("ddim", 25))
    assert whole[0] == 961 and whole[-1] == 1 and len(whole) == 25
    assert timesteps(backbone.sampler("ddim", 25, last=3)) == whole[-3:]
    assert 0 < backbone.level(1).weight < backbone.level(961).weight < 1
    z, noise = torch.randn(1, 4, 2, 8, 6), torch.randn(1, 4, 2, 8, 6)
    level = backbone.level(500).weight
    noisy = backbone.level(500).add_noise(z, noise)
    torch.testing.assert_close(noisy, (1 - level) ** 0.5 * z + level**0.5 * noise)


def test_denoising_with_the_true_noise_gives_back_the_clean_latents(backbone):
    clean, noise = torch.randn(1, 4, 2, 8, 6), torch.randn(1, 4, 2, 8, 6)
    for name in ("ddim", "dpm++"):
        sampler = backbone.sampler(name, 10, last=6)
        latents = sampler.levels[0].add_noise(clean, noise)
        for level in sampler.levels:
            prediction = EpsilonPrediction(level, latents, noise)
            torch.testing.assert_close(prediction.clean, clean, atol=1e-4, rtol=1e-4)
            latents = sampler.step(prediction, [])
        torch.testing.assert_close(latents, clean, atol=0.05, rtol=0.05)  # the last step leaves t = 0


def test_vae_shift_and_scale(backbone):
    image = np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)
    latents = backbone.encode(image)
    assert latents.shape == (1, 4, 1, 8, 6) and torch.equal(latents, backbone.encode(image))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    mean = backbone.vae.encode(pixels).latent_dist.mean
    torch.testing.assert_close(latents[:, :, 0], (mean - 0.1) * 0.5, atol=1e-5, rtol=1e-4)
    video = backbone.decode(latents.repeat(1, 1, 3, 1, 1))
    assert video.shape == (1, 3, 32, 24, 3) and video.dtype == np.uint8
    pixels = backbone.vae.decode(mean).sample
    expected = ((pixels + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).byte().numpy()
    assert np.abs(video[:, 0].astype(int) - expected).max() <= 1


def test_long_prompts_are_cut_to_what_the_text_encoder_takes(backbone):
    assert backbone.encode_prompt("red rocket " * 50, "").prompt.shape == (1, 12, 16)


def test_defaults_come_from_the_configurations(model):
    (model / "i4vgen.json").unlink()
    defaults = AnimateDiffBackbone.read_defaults(str(model))
    assert (defaults.max_frames, defaults.num_frames, defaults.size_multiple) == (8, 8, 4)


def test_step_sizes_of_a_model_with_a_schedule_of_its_own(model):
    file = model / "i4vgen.json"
    own = json.loads(file.read_text())
    file.write_text(json.dumps(own | {"ni_vsds_step_sizes": [3, 2.5]}))
    backbone = AnimateDiffBackbone.from_pretrained(str(model))
    assert [backbone.ni_vsds_step_size(i) for i in range(4)] == [3, 2.5, 2.5, 2.5]
    for wrong in ([3, -1], [], 3):
        file.write_text(json.dumps(own | {"ni_vsds_step_sizes": wrong}))
        with pytest.raises(ModelError, match="list of positive numbers"):
            AnimateDiffBackbone.from_pretrained(str(model))


def test_a_motion_adapter_of_its_own_uses_animatediffs_schedule(model, tmp_path):
    shutil.move(model / "motion_adapter", tmp_path / "adapter")
    schedule = model / "scheduler" / "scheduler_config.json"
    config = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear"}
    schedule.write_text(json.dumps(config))
    own = json.loads((model / "i4vgen.json").read_text())
    (model / "i4vgen.json").write_text(json.dumps(own | {"ni_vsds_step_sizes": [3]}))
    backbone = AnimateDiffBackbone.from_pretrained(str(model), str(tmp_path / "adapter"))
    assert backbone.schedule.beta_schedule == "linear"
    assert backbone.schedule.beta_end == 0.012 and backbone.ni_vsds_step_size(0) == 10
    with pytest.raises(ModelError, match="has no motion_adapter/"):
        AnimateDiffBackbone.from_pretrained(str(model))


def test_a_saved_motion_unet_loads_as_well(backbone, model, prompt):
    """The layout that diffusers' AnimateDiffPipeline.save_pretrained writes."""
    shutil.rmtree(model / "unet")
    backbone.unet.save_pretrained(model / "unet")
    again = AnimateDiffBackbone.from_pretrained(str(model))
    latents = torch.randn(1, 4, 3, 8, 6)
    expected = predict_noise(backbone, latents, 400, prompt, 3.0)
    assert torch.equal(predict_noise(again, latents, 400, prompt, 3.0), expected)


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda m: shutil.rmtree(m / "vae"), "vae/config.json"),
        (lambda m: (m / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "unet has no weights"),
        (lambda m: truncate(m / "unet" / "diffusion_pytorch_model.safetensors"), "cannot load .*unet"),
        (lambda m: truncate(m / "text_encoder" / "model.safetensors"), "cannot load .*text_encoder"),
        (lambda m: shutil.rmtree(m / "tokenizer"), "cannot load .*tokenizer"),
        (lambda m: (m / "i4vgen.json").write_text("{"), "not valid JSON"),
        (lambda m: (m / "i4vgen.json").write_text("[]"), "i4vgen.json must be a JSON object, not .*: download"),
        (lambda m: (m / "motion_adapter" / "config.json").write_text("{}"), "is None, not a MotionAdapter"),
        (lambda m: shutil.rmtree(m / "motion_adapter"), "motion_adapter"),
    ],
)
def test_damaged_models_are_named_in_one_line(model, damage, words):
    damage(model)
    with pytest.raises(ModelError, match=words) as error:
        AnimateDiffBackbone.from_pretrained(str(model))
    assert "\n" not in str(error.value)


def test_another_network_in_place_of_the_motion_adapter_is_named(model):
    words = "^vae is 'AutoencoderKL', not a MotionAdapter: use a motion module for Stable Diffusion 1.5$"
    with pytest.raises(ModelError, match=words):
        AnimateDiffBackbone.read_defaults(str(model), str(model / "vae"))


def test_incomplete_weights_never_start_half_random(model):
    from safetensors.torch import load_file, save_file

    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["conv_out.weight"]
    save_file(weights, file)
    with pytest.raises(ModelError, match=r"conv_out\.weight"):
        AnimateDiffBackbone.from_pretrained(str(model))


def test_no_such_model():
    with pytest.raises(ModelError, match="use pocket, a folder, or a hub id"):
        AnimateDiffBackbone.from_pretrained("no such model")


def test_models_of_v_are_run_as_such(model):
    file = model / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"prediction_type": "v_prediction"}))
    backbone = AnimateDiffBackbone.from_pretrained(str(model))
    clean, noise = torch.randn(2, 1, 4, 2, 8, 6)
    for name in ("ddim", "dpm++"):
        sampler = backbone.sampler(name, 10)
        latents = sampler.levels[0].add_noise(clean, noise)
        for level in sampler.levels:
            v = level.alpha * noise - level.sigma * clean
            prediction = backbone.predict(latents, level, backbone.encode_prompt("a car", ""), 1.0)
            assert isinstance(prediction, VPrediction)
            latents = sampler.step(replace(prediction, output=v), [])
        torch.testing.assert_close(latents, clean, atol=0.05, rtol=0.05)
    apart = AnimateDiffBackbone.from_pretrained(str(model), motion_adapter=str(model / "motion_adapter"))
    prediction = apart.predict(clean, level, apart.encode_prompt("a car", ""), 1.0)
    assert isinstance(prediction, VPrediction)
    file.write_text(json.dumps(config | {"prediction_type": "sample"}))
    with pytest.raises(ModelError, match="only epsilon and v_prediction"):
        AnimateDiffBackbone.from_pretrained(str(model))
