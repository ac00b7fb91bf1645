"""The pocket model's world and the closed-form parts of its training."""

import itertools
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.evidence.prompts import make_prompts as evidence_prompts
from i4vgen.config import GenerationConfig
from i4vgen.events import Result
from i4vgen.models import catalog
from i4vgen.serving.runtime import Runtime
from training import export, flow, flow_backbone
from training.config import PRESETS
from training.data import LatentClips, render, to_latents, to_tensor
from training.evaluate import make_prompts
from training.loop import Run
from training.means import MeanClips, draw_means
from training.motion import blind_loss, draw_scene
from training.patch_pca import PatchPCA
from training.scenes import SCENES, Layer, travel
from training.text_to_image import make_scheduler, make_text_encoder, told_motions, velocity_error
from training.tokenizer import begin_reading, make_tokenizer
from training.vae import make_vae, psnr
from training.world import (
    COLOURS,
    MOTIONS,
    PLAIN,
    SETTINGS,
    SUBJECTS,
    Shown,
    caption,
    draw_camera,
    draw_clip,
    draw_track,
    full_caption,
    place_sprite,
)

CPU = PRESETS["cpu"]


def test_a_clip_is_the_same_every_time_and_differs_between_splits():
    first, again, other = (render(CPU, split, 3) for split in ("generator", "generator", "judge"))
    assert first.shown == again.shown and np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, other.frames)
    assert first.frames.shape == (12, 96, 96, 3) and first.frames.dtype == np.uint8


def test_clips_and_prompts_are_of_their_own_world():
    small = replace(PRESETS["small-world"], size=24, num_frames=2)
    drawn = [render(small, "generator", i).shown for i in range(40)] + evidence_prompts(small, 40)
    for part in ("subject", "colour", "setting", "motion"):
        names = getattr(small, f"{part}s")
        assert {getattr(shown, part) for shown in drawn[:40]} == set(names)
        assert {getattr(shown, part) for shown in drawn[40:]} == set(names)
    said = {word for shown in drawn for word in full_caption(shown).split()}
    assert said <= set(small.words) and "pink" not in small.words


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_shows_every_subject_at_any_size(setting):
    for subject in SUBJECTS:
        with_it, without = (
            draw_clip(np.random.default_rng(0), who, PLAIN, setting, "bouncing", 2, 48).astype(int)
            for who in (subject, None)
        )
        changed = (np.abs(with_it - without).max(-1) > 20).mean()
        assert 0.02 < changed < 0.6, f"{subject} covers {changed:.0%} of the picture"


@pytest.mark.parametrize(
    ("motion", "column", "sign"),
    [
        ("moving left", 0, -1),
        ("moving right", 0, 1),
        ("rising", 1, -1),
        ("falling", 1, 1),
        ("coming closer", 2, 1),
    ],
)
def test_motions_go_where_their_names_say(motion, column, sign):
    track = draw_track(np.random.default_rng(0), motion, 8)
    assert (np.diff(track[:, column]) * sign > 0).all()


def test_the_camera_follows_the_subject_and_near_things_pass_faster_than_far_ones():
    for motion in MOTIONS:
        track = draw_track(np.random.default_rng(0), motion, 12)
        assert np.abs(track[:, :2] - 0.5).max() < 0.25
    camera = draw_camera(np.random.default_rng(0), "moving right", 12)
    stripes = np.zeros((192, 192, 4), np.float32)
    stripes[:, 40:44] = 1
    near, far = (travel([Layer(stripes, depth)], camera - camera[0], 96)[:, 48, :, 0] for depth in (1.0, 0.25))
    passed = [np.argmax(row[0]) - np.argmax(row[3]) for row in (near, far)]
    assert passed[0] == pytest.approx(96 * (camera[3, 0] - camera[0, 0]), abs=2)
    assert passed[0] > 2 * passed[1] > 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_scene_goes_on_for_ever(setting):
    """A camera that has travelled along the whole layer sees the first picture again."""
    layers = SCENES[setting](np.random.default_rng(0), 32)
    there = [replace(layer, depth=1.0, wind=(0, 0), twinkle=0) for layer in layers]
    first, again = travel(there, np.array([(0.3, 0.0), (2.3, 0.0)]), 32)
    np.testing.assert_allclose(first, again, atol=1e-5)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_dyed_sprite_has_its_colour_and_keeps_its_outline(colour):
    plain, dyed = (place_sprite("penguin", c, 48, 0.5, 0.5, 0.9, 0, False) for c in (PLAIN, colour))
    np.testing.assert_allclose(plain[..., 3], dyed[..., 3], atol=0.01)
    mean = dyed[..., :3].sum((0, 1)) / dyed[..., 3].sum()
    target = np.array(COLOURS[colour]) / 255
    assert np.argmax(mean) == np.argmax(target) and np.corrcoef(mean, target)[0, 1] > 0.7


def test_every_word_of_a_caption_is_one_token():
    tokenizer = make_tokenizer(CPU.words, CPU.max_tokens)
    rng = np.random.default_rng(0)
    for _ in range(300):
        names = (str(rng.choice(names)) for names in (CPU.subjects, CPU.colours, CPU.settings, CPU.motions))
        text = caption(rng, Shown(*names))
        assert set(text.split()) <= set(CPU.words)
        assert len(tokenizer(text).input_ids) == len(text.split()) + 2 <= CPU.max_tokens


def shown(motion="rising", **names):
    return Shown(**{"subject": "car", "colour": PLAIN, "setting": "sea", "motion": motion} | names)


def test_captions_tell_a_motion_or_none():
    captions = ["a car rising", "a car at sunset", "a car going up by the sea"]
    assert told_motions(CPU, captions, [shown()] * 3).tolist() == [2, -100, 2]


def test_a_mean_is_of_the_clips_that_the_caption_fits():
    sizes = (len(CPU.subjects), len(CPU.colours), len(CPU.settings), len(CPU.motions))
    latents = torch.randn(*sizes, 1, 1, 1, 1).half()
    means = MeanClips(CPU, latents)
    names = shown(colour="red", setting="desert")
    subject, colour, setting, motion = CPU.numbers(names)
    of_car = latents[subject, colour, ..., 0, 0, 0, 0].float()
    for text, expected in (
        ("a red car rising in the desert", of_car[setting, motion]),
        ("a red car going up", of_car[:, motion].mean()),
        ("a red car in the desert", of_car[setting].mean()),
        ("a red car", of_car.mean()),
        ("", latents.float().mean()),
    ):
        assert means.of(names, text).item() == pytest.approx(expected.item(), abs=1e-4)


def test_the_mean_of_the_parts_is_the_mean_of_clips(monkeypatch):
    for name, count in (("SCENE_DRAWS", 60), ("TRACK_DRAWS", 60)):
        monkeypatch.setattr("training.means." + name, count)
    tiny = replace(CPU, size=16, num_frames=3, subjects=("car",), settings=("sea",), motions=("falling",))
    pca = PatchPCA(CPU.patch, CPU.latent_channels).fit(to_tensor(render(CPU, "vae", 0).frames))
    means = draw_means(tiny, pca)[0, 0, 0, 0].float()
    clips = [
        draw_clip(np.random.default_rng(i), "car", PLAIN, "sea", "falling", 3, 16).astype(np.float32)
        for i in range(150)
    ]
    expected, one = (to_latents(torch.from_numpy(clip), pca) for clip in (np.mean(clips, 0), clips[0]))
    assert (means - expected).abs().mean() < 0.2 * (one - expected).abs().mean()


def test_a_scene_is_told_in_captions_that_differ_in_the_motion_alone():
    rng, rests = np.random.default_rng(0), []
    for _ in range(40):
        said = []
        for names, text in draw_scene(rng, CPU, 3):
            phrase = max((phrase for phrase in MOTIONS[names.motion] if phrase in text), key=len)
            said.append(text.replace(phrase, "..."))
        assert len(said) == 3 and len(set(said)) == 1
        rests += said[:1]
    assert len(set(rests)) > 20


def test_an_answer_is_best_if_it_is_the_mean_and_a_wrong_motion_costs_most():
    scheduler, timesteps = make_scheduler(CPU), torch.tensor([960])
    alpha = scheduler.alphas_cumprod[960]
    means = torch.randn(1, 5, 3, 2, 4, 4)
    noise = torch.randn(1, 1, 3, 2, 4, 4).expand_as(means)

    def loss(drawn):
        return blind_loss(
            (noise - alpha.sqrt() * drawn) / (1 - alpha).sqrt(), noise, means, timesteps, scheduler
        ).item()

    assert loss(means) == pytest.approx(0, abs=1e-6)
    change = 0.1 * torch.randn(1, 1, 3, 2, 4, 4)
    sign = torch.tensor([1, -1, 1, -1, 0]).view(1, 5, 1, 1, 1, 1)
    assert loss(means + change * sign) > 10 * loss(means + change) > 0


def test_the_autoencoder_encodes_as_the_patch_pca_does():
    images = torch.cat([to_tensor(render(CPU, "vae", i).frames[::4]) for i in range(40)])
    pca = PatchPCA(CPU.patch, CPU.latent_channels).fit(images)
    vae = make_vae(CPU)
    pca.write_into(vae)
    latents = pca.encode(images[:8])
    with torch.no_grad():
        encoded = vae.half().float().encode(images[:8]).latent_dist.mode()
    assert (encoded - latents).abs().max() < 0.01 * latents.abs().max()
    assert psnr(pca.decode(latents), images[:8]) > 20
    again = PatchPCA(CPU.patch, CPU.latent_channels).read_from(vae)
    assert (again.encode(images) - pca.encode(images)).abs().max() < 0.01 * latents.abs().max()
    assert psnr(again.decode(latents), pca.decode(latents)) > 50


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_evaluation_prompts_use_every_subject_setting_and_motion(preset):
    prompts = make_prompts(preset)
    assert len({text for text, *_ in prompts}) == 24
    assert {names.colour for _, names in prompts} == set(preset.colours)
    assert {names.setting for _, names in prompts} == set(preset.settings)
    assert {names.motion for _, names in prompts} == set(preset.motions)
    assert set(preset.motions) <= set(MOTIONS)


def test_an_error_of_the_noise_counts_for_what_it_does_to_the_picture():
    scheduler = make_scheduler(CPU)
    noise, clean = torch.randn(2, 2, 3, 4, 4)
    timesteps = torch.tensor([100, 950])
    alpha = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    velocity = [alpha.sqrt() * (noise + extra) - (1 - alpha).sqrt() * picture for extra, picture in (
        (0.0, clean), (0.1, clean - 0.1 * ((1 - alpha) / alpha).sqrt()),
    )]  # fmt: skip
    expected = (velocity[1] - velocity[0]).square().mean((1, 2, 3))
    torch.testing.assert_close(velocity_error(noise + 0.1, noise, timesteps, scheduler), expected)


def test_a_network_that_goes_on_keeps_the_words_that_it_knows(tmp_path):
    before, after = (
        make_tokenizer(list(words), CPU.max_tokens) for words in ({"car", "sea"}, {"sea", "boat", "car"})
    )
    torch.manual_seed(0)
    tiny = replace(CPU, text_width=8, text_layers=1, attention_heads=2)
    old = make_text_encoder(tiny, before)
    old.save_pretrained(tmp_path / "text_encoder")
    before.save_pretrained(tmp_path / "tokenizer")
    run = Run("stage", tiny, tmp_path, 0, torch.device("cpu"), start_from=tmp_path)
    new = begin_reading(run, make_text_encoder(tiny, after), "text_encoder", after)

    def read(encoder, tokenizer, text):
        with torch.no_grad():
            return encoder(tokenizer(text, return_tensors="pt").input_ids).last_hidden_state

    torch.testing.assert_close(read(old, before, "car sea"), read(new, after, "car sea"))
    assert read(new, after, "boat car").shape == read(new, after, "sea car").shape


def test_exported_weights_are_shorter_but_the_same_to_a_percent():
    layer = torch.nn.Linear(64, 64)
    with torch.no_grad():
        layer.bias.zero_()
        layer.weight[0, 0] = 1e-6
    before = layer.weight.detach().clone()
    export.shorten(layer)
    assert ((layer.weight - before).abs() <= 2**-7 * before.abs()).all() and not layer.bias.any()
    assert len(set(torch.frexp(layer.weight.detach())[0].abs().flatten().tolist())) <= 2**export.BITS + 1


def test_a_flow_model_is_trained_in_two_calls_and_run(tmp_path, monkeypatch):
    tiny = replace(
        CPU, size=32, num_frames=3, clips=4, subjects=("car",), settings=("sea",), motions=("falling",),
        batch_images=2, batch_clips=2, flow_heads=1, flow_layers=1, images_first=1,
    )  # fmt: skip
    monkeypatch.setitem(PRESETS, "cpu", tiny)
    for name in ("SCENE_DRAWS", "TRACK_DRAWS"):
        monkeypatch.setattr(f"training.means.{name}", 1)
    command = ["flow", "--preset", "cpu", "--minutes", "0.05", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    # A second passes whenever the clock is looked at: enough for one step in a call.
    monkeypatch.setattr("training.loop.time", SimpleNamespace(monotonic=itertools.count().__next__))
    weights = []
    for _ in range(2):  # the first step is of images, the second of clips as well
        flow.main()
        weights.append((tmp_path / "pocket-flow/transformer/diffusion_pytorch_model.safetensors").read_bytes())
    assert json.loads((tmp_path / "figures.json").read_text())["flow"]["steps"] == 2
    assert weights[0] != weights[1]

    monkeypatch.setattr(catalog, "FAMILIES", dict(catalog.FAMILIES))
    flow_backbone.register()
    runtime = Runtime(str(tmp_path / "pocket-flow"), "cpu", dtype=torch.float32)
    defaults = runtime.defaults
    assert (defaults.height, defaults.width, defaults.num_frames, defaults.size_multiple) == (32, 32, 3, 16)
    config = GenerationConfig.for_model(
        defaults, prompt="a car falling", num_inference_steps=2, num_candidates=2
    )
    events = list(runtime.stream(lambda pipeline: pipeline.run(config, compare=("vanilla", "freeinit"))))
    videos = {event.name: event for event in events if isinstance(event, Result)}
    assert set(videos) == {"ni_vsds", "i4vgen", "vanilla", "freeinit"}
    for video in videos.values():
        assert video.frames.shape == (3, 32, 32, 3) and np.isfinite(video.latents).all()


def test_a_flow_model_learns_the_mean_where_there_is_no_signal():
    latents = torch.randn(8, 3, 2, 4, 4).half()
    clips = LatentClips(latents, [shown() for _ in latents])
    means = torch.randn(1, 1, 1, 1, 3, 2, 4, 4).half()
    world = replace(CPU, subjects=("car",), settings=("sea",), motions=("rising",))
    sizes = (1, len(CPU.colours), 1, 1, -1, -1, -1, -1)
    examples = flow.Examples(clips, MeanClips(world, means.expand(sizes)))
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    for num_frames in (1, 3):
        clean, sigmas, captions = examples.draw(2 * flow.BLIND_SHARE, num_frames, rng, generator)
        assert clean.shape == (2 * flow.BLIND_SHARE, 2, num_frames, 4, 4) and len(captions) == len(clean)
        back = clean * examples.std.view(-1, 1, 1, 1) + examples.mean.view(-1, 1, 1, 1)
        mean = means[0, 0, 0, 0].float().movedim(0, 1)
        mean = mean if num_frames == 3 else mean.mean(1, keepdim=True)
        assert (sigmas[:2] == 1).all() and (sigmas[2:] < 1).all()
        torch.testing.assert_close(back[:2], mean.expand_as(back[:2]), atol=1e-3, rtol=1e-3)
        known = latents.float().movedim(1, 2)
        for one in back[2:]:
            frames = known if num_frames == 3 else torch.cat(known.split(1, dim=2))
            assert (frames - one).abs().flatten(1).amax(1).min() < 1e-3
    few = [examples.draw(2, 3, rng, generator)[1] for _ in range(8 * flow.BLIND_SHARE)]
    assert 8 < sum((sigmas == 1).sum().item() for sigmas in few) < 24, (
        "batches too small for one each get theirs"
    )
