"""The pocket model's world and the closed-form parts of its training."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from training.config import PRESETS
from training.data import LatentClips, render, to_tensor
from training.evaluate import make_prompts
from training.motion import Scenes, blind_loss
from training.motion_words import told_motions
from training.patch_pca import PatchPCA
from training.text_to_image import make_scheduler, velocity_error
from training.tokenizer import make_tokenizer
from training.vae import make_vae, psnr
from training.world import MOTIONS, SETTINGS, SUBJECTS, caption, draw_clip, draw_track, tells

CPU = PRESETS["cpu"]


def test_a_clip_is_the_same_every_time_and_differs_between_splits():
    first, again, other = (render(CPU, split, 3) for split in ("generator", "generator", "referee"))
    assert first.caption == again.caption and np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, other.frames)
    assert first.frames.shape == (8, 64, 64, 3) and first.frames.dtype == np.uint8


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_shows_every_subject_at_any_size(setting):
    for subject in SUBJECTS:
        with_it, without = (
            draw_clip(np.random.default_rng(0), who, setting, "rising", 2, 48).astype(int)
            for who in (subject, None)
        )
        changed = (np.abs(with_it - without).max(-1) > 20).mean()
        assert 0.02 < changed < 0.6, f"{subject} covers {changed:.0%} of the picture"


@pytest.mark.parametrize(
    ("motion", "column", "sign"),
    [("moving left", 0, -1), ("moving right", 0, 1), ("rising", 1, -1), ("falling", 1, 1), ("growing", 2, 1)],
)
def test_motions_go_where_their_names_say(motion, column, sign):
    track = draw_track(np.random.default_rng(0), motion, 8)
    assert (np.diff(track[:, column]) * sign > 0).all()


def test_every_word_of_a_caption_is_one_token():
    tokenizer = make_tokenizer(CPU.words, CPU.max_tokens)
    rng = np.random.default_rng(0)
    for _ in range(300):
        text = caption(rng, *(str(rng.choice(names)) for names in (CPU.subjects, CPU.settings, CPU.motions)))
        assert set(text.split()) <= set(CPU.words)
        assert len(tokenizer(text).input_ids) == len(text.split()) + 2 <= CPU.max_tokens


def test_captions_tell_a_motion_or_none():
    captions = ["a car rising", "a car at sunset", "a car going up by the sea"]
    assert told_motions(CPU, captions, ["rising"] * 3).tolist() == [2, -100, 2]


def test_means_of_clips_by_what_they_show():
    preset = replace(CPU, subjects=("car",), settings=("sea",), motions=("rising", "falling"))
    labels = [("car", "sea", "rising"), ("car", "sea", "falling"), ("car", "sea", "rising")]
    latents = torch.randn(3, 8, 24, 8, 8)
    means = LatentClips(latents, labels).means(preset)
    torch.testing.assert_close(means, torch.stack([(latents[0] + latents[2]) / 2, latents[1]])[None, None])
    with pytest.raises(ValueError, match="draw more"):
        LatentClips(latents[:1], labels[:1]).means(preset)


def test_a_scene_is_told_in_captions_that_differ_in_the_motion_alone():
    labels = list(product(CPU.subjects, CPU.settings, CPU.motions))
    latents = torch.arange(len(labels)).view(-1, 1, 1, 1, 1)
    scenes, rng, rests = Scenes(CPU, LatentClips(latents, labels)), np.random.default_rng(0), []
    for _ in range(40):
        captions, means = scenes.draw(rng)
        said = []
        for text, motion, mean in zip(captions, CPU.motions, means, strict=True):
            phrase = max((phrase for phrase in MOTIONS[motion] if phrase in text), key=len)
            said.append(text.replace(phrase, "..."))
            settings = [name for name in CPU.settings if tells(text, SETTINGS[name])] or CPU.settings
            fitting = [
                number
                for number, (subject, setting, moved) in enumerate(labels)
                if subject in text.split() and setting in settings and moved == motion
            ]
            assert mean.item() == pytest.approx(np.mean(fitting))
        assert len(set(said)) == 1
        rests += said[:1]
    assert len(set(rests)) > 20


def test_an_answer_is_best_if_it_is_the_mean_and_a_wrong_motion_costs_most():
    scheduler, timesteps = make_scheduler(), torch.tensor([960])
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


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_evaluation_prompts_use_every_subject_setting_and_motion(preset):
    prompts = make_prompts(preset)
    assert len({text for text, *_ in prompts}) == 24
    assert {setting for _, _, setting, _ in prompts} == set(preset.settings)
    assert {motion for *_, motion in prompts} == set(preset.motions)
    assert set(preset.motions) <= set(MOTIONS)


def test_an_error_of_the_noise_counts_for_what_it_does_to_the_picture():
    scheduler = make_scheduler()
    noise, clean = torch.randn(2, 2, 3, 4, 4)
    timesteps = torch.tensor([100, 950])
    alpha = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    velocity = [alpha.sqrt() * (noise + extra) - (1 - alpha).sqrt() * picture for extra, picture in (
        (0.0, clean), (0.1, clean - 0.1 * ((1 - alpha) / alpha).sqrt()),
    )]  # fmt: skip
    expected = (velocity[1] - velocity[0]).square().mean((1, 2, 3))
    torch.testing.assert_close(velocity_error(noise + 0.1, noise, timesteps, scheduler), expected)
