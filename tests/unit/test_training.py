"""The pocket model's world and the closed-form parts of its training."""

import itertools
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from i4vgen.config import GenerationConfig
from i4vgen.events import Result
from i4vgen.models import catalog
from i4vgen.serving.runtime import Runtime
from pocket import atlas
from pocket.judge import STILL, Judge
from pocket.presets import PRESETS
from pocket.scenes import SCENES, SceneLayer, travel
from pocket.world import (
    KIND_OF,
    KINDS,
    LOOKS,
    MOTIONS,
    SETTINGS,
    TEMPLATES,
    Shown,
    caption,
    draw_camera,
    draw_clip,
    draw_poses,
    draw_subject,
    draw_track,
    full_caption,
    with_article,
)
from training import card, draw_atlas, evaluate, export, flow, flow_backbone, reward
from training.data import LatentClips, render, to_latents, to_tensor
from training.judge import clips_of, make_judge
from training.loop import Run, read_figures, train
from training.means import MeanClips, draw_means
from training.motion import blind_loss, draw_scene
from training.patch_pca import PatchPCA
from training.text_to_image import make_scheduler, make_text_encoder, told_motions, velocity_error
from training.tokenizer import begin_reading, make_tokenizer
from training.vae import make_vae, psnr

CPU = PRESETS["cpu"]


def random_shown(rng, preset=CPU):
    kind, setting, motion = (
        str(rng.choice(names)) for names in (preset.kinds, preset.settings, preset.motions)
    )
    return Shown(kind, str(rng.choice(list(KINDS[kind]))), setting, motion)


def shown(member="car", motion="rising", setting="sea"):
    return Shown(KIND_OF[member], member, setting, motion)


def test_a_clip_is_the_same_every_time_and_differs_between_splits():
    first, again, other = (render(CPU, split, 3) for split in ("generator", "generator", "judge"))
    assert first.shown == again.shown and np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, other.frames)
    assert first.frames.shape == (12, 96, 96, 3) and first.frames.dtype == np.uint8


def test_clips_and_prompts_are_of_their_own_world():
    small = replace(PRESETS["small-world"], size=24, num_frames=2)
    drawn = [render(small, "generator", i).shown for i in range(40)]
    asked = [names for _, names in evaluate.evaluation_prompts(small)]
    for part in ("kind", "setting", "motion"):
        names = set(getattr(small, f"{part}s"))
        assert {getattr(each, part) for each in drawn} == {getattr(each, part) for each in asked} == names
    for each in drawn + asked:
        assert each.member is None or (each.member in small.members and KIND_OF[each.member] == each.kind)
    said = {word for each in drawn + asked for word in full_caption(each).split()}
    assert said <= set(small.words) and not {"bird", "parrot", "desert"} & set(small.words)


@pytest.mark.parametrize(("size", "members"), [(48, [*LOOKS]), (160, [*LOOKS][::20])])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_shows_every_member_at_any_size(setting, size, members):
    def draw(member):
        return draw_clip(np.random.default_rng(0), member, setting, "bouncing", 2, size).astype(int)

    without = draw(None)
    for member in members:
        changed = (np.abs(draw(member) - without).max(-1) > 20).mean()
        assert 0.05 < changed < 0.6, f"{member} covers {changed:.0%} of the picture"


def test_every_member_is_of_one_kind_and_has_a_drawing():
    assert all(len(members) > 1 for members in KINDS.values())
    assert sum(map(len, KINDS.values())) == len(LOOKS), "no member is of two kinds"
    assert not set(KINDS) & set(LOOKS)
    assert list(atlas.poses_by_name()) == list(LOOKS)
    assert set(atlas.poses_by_name().values()) == {1, atlas.POSES}


def test_the_animation_goes_on_and_loops():
    poses = draw_poses(np.random.default_rng(0), 60)
    assert set((np.diff(poses) % atlas.POSES).tolist()) == {0, 1} and set(poses) == set(range(atlas.POSES))
    starts = {draw_poses(np.random.default_rng(i), 1).item() for i in range(80)}
    assert starts == set(range(atlas.POSES))


@pytest.mark.parametrize("member", ["car", "red heart", "crystal ball", "apple", "tulip"])
def test_animated_drawings_differ_between_poses_and_still_ones_do_not(member):
    track = np.tile([0.5, 0.5, 0.8, 0.0], (atlas.POSES, 1))
    poses = draw_subject(member, "bouncing", track, np.arange(atlas.POSES), 48)
    changed = np.abs(poses - poses[0]).mean((1, 2, 3)).max()
    assert changed > 0.005 if atlas.poses_by_name()[member] > 1 else changed == 0


def test_nothing_drives_backwards():
    track, poses = np.array([[0.5, 0.5, 0.8, 0.0]]), np.array([0])
    for member, looks in LOOKS.items():
        left, right, up = (
            draw_subject(member, motion, track, poses, 48)[0]
            for motion in ("moving left", "moving right", "rising")
        )
        mirrored = {"left": right, "right": left}.get(looks)
        for way in (left, right):
            expected = up[:, ::-1] if way is mirrored else up
            np.testing.assert_allclose(way, expected, atol=0.02, err_msg=member)


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
    near, far = (
        travel([SceneLayer(stripes, depth)], camera - camera[0], 96)[:, 48, :, 0] for depth in (1.0, 0.25)
    )
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


def test_every_word_of_a_caption_is_one_token():
    tokenizer = make_tokenizer(CPU.words, CPU.max_tokens)
    rng = np.random.default_rng(0)
    for _ in range(300):
        text = caption(rng, random_shown(rng))
        assert set(text.split()) <= set(CPU.words)
        assert len(tokenizer(text).input_ids) == len(text.split()) + 2 <= CPU.max_tokens


def test_captions_name_the_kind_or_else_the_member():
    rng, kinds, count = np.random.default_rng(0), 0, 2_000
    for _ in range(count):
        names = random_shown(rng)
        text = caption(rng, names)
        rest = f" {text} ".replace(f" {names.member} ", " ", 1)
        by_member = rest != f" {text} "
        assert by_member or f" {names.kind} " in rest
        kinds += not by_member
    assert kinds / count == pytest.approx(0.6, abs=0.03)


def test_a_caption_that_names_the_kind_is_not_taken_for_one_that_names_a_member():
    phrases = [" ".join(phrases) for group in (SETTINGS, MOTIONS) for phrases in group.values()]
    for kind, members in KINDS.items():
        said = " ".join([kind, *TEMPLATES, *phrases])
        assert not [member for member in members if member in said]


def test_an_article_fits_its_noun():
    assert with_article("a owl at night") == "an owl at night"
    assert with_article("a picture of a orange heart") == "a picture of an orange heart"
    assert full_caption(Shown("animal", None, "sea", "rising")) == "an animal rising by the sea"
    assert full_caption(shown("ice cream")) == "an ice cream rising by the sea"


def test_captions_tell_a_motion_or_none():
    captions = ["a car rising", "a vehicle at sunset", "a vehicle going up by the sea"]
    assert told_motions(CPU, captions, [shown()] * 3).tolist() == [2, -100, 2]


def test_a_mean_is_of_the_clips_that_the_caption_fits():
    latents = torch.randn(len(CPU.members), len(CPU.settings), len(CPU.motions), 1, 1, 1, 1).half()
    means = MeanClips(CPU, latents)
    names = shown(setting="desert")
    _, member, setting, motion = CPU.numbers(names)
    single = latents[..., 0, 0, 0, 0].float()
    kinds = [torch.stack([single[CPU.members.index(name)] for name in KINDS[kind]]) for kind in CPU.kinds]
    of_car, of_vehicles = single[member], kinds[CPU.kinds.index("vehicle")]
    for text, expected in (
        ("a car rising in the desert", of_car[setting, motion]),
        ("a car going up", of_car[:, motion].mean()),
        ("a car in the desert", of_car[setting].mean()),
        ("a car", of_car.mean()),
        ("a vehicle rising in the desert", of_vehicles[:, setting, motion].mean()),
        ("a vehicle going up", of_vehicles[:, :, motion].mean()),
        ("a vehicle in the desert", of_vehicles[:, setting].mean()),
        ("a vehicle", of_vehicles.mean()),
        ("", torch.stack([each.mean() for each in kinds]).mean()),
    ):
        assert means.of(names, text).item() == pytest.approx(expected.item(), abs=1e-4), text
    assert means.of(replace(names, member="bus"), "a vehicle") == means.of(names, "a vehicle")


def test_the_mean_of_the_parts_is_the_mean_of_clips(monkeypatch):
    for name, count in (("SCENE_DRAWS", 60), ("TRACK_DRAWS", 60)):
        monkeypatch.setattr("training.means." + name, count)
    monkeypatch.setitem(KINDS, "vehicle", {"car": "left"})
    tiny = replace(CPU, size=16, num_frames=3, kinds=("vehicle",), settings=("sea",), motions=("falling",))
    pca = PatchPCA(CPU.patch, CPU.latent_channels).fit(to_tensor(render(CPU, "vae", 0).frames))
    means = draw_means(tiny, pca)[0, 0, 0].float()
    clips = [
        draw_clip(np.random.default_rng(i), "car", "sea", "falling", 3, 16).astype(np.float32)
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
    assert psnr(again.decode(latents), pca.decode(latents)) > 45


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_evaluation_prompts_use_every_kind_setting_and_motion(preset):
    prompts = evaluate.evaluation_prompts(preset)
    assert len({text for text, _ in prompts}) == 24
    for part in ("kind", "setting", "motion"):
        names = getattr(preset, f"{part}s")
        assert {getattr(asked, part) for _, asked in prompts} == set(names)
    members = [asked.member for _, asked in prompts if asked.member]
    assert len(set(members)) == len(members) == 8
    assert all(asked.subject in text for text, asked in prompts)
    assert set(preset.motions) <= set(MOTIONS)


def test_combinations_are_all_different_until_all_have_come_up():
    lists = ("abc", "defghi", "jk", "lmno")
    count = 3 * 6 * 2 * 4
    found = [tuple(evaluate.combination(i, lists)) for i in range(count + 5)]
    assert len(set(found[:count])) == count and found[count:] == found[:5]


def test_what_a_prompt_leaves_open_is_not_judged():
    said = {"kind": "bird", "member": "owl", "setting": "sea", "motion": "rising"}
    judge = SimpleNamespace(look=lambda frames: said if len(frames) > 2 else dict(list(said.items())[:3]))
    clip = np.zeros((4, 8, 8, 3), np.uint8)
    asked = Shown("bird", None, "sea", "falling")
    assert evaluate.verdicts(judge, clip, asked) == {"kind": True, "setting": True, "motion": False}
    asked = Shown("bird", "parrot", "desert", "rising")
    assert evaluate.verdicts(judge, clip[:1], asked) == {"kind": True, "member": False, "setting": False}


def test_the_judge_learns_what_clips_show():
    small = replace(PRESETS["small-world"], size=16, num_frames=3)
    names = make_judge(small).names
    assert names["motion"] == (*small.motions, STILL) and names["member"] == small.members
    frames, numbers = clips_of(small, "judge", 20)
    assert frames.shape == (20, 3, 16, 16, 3)
    for i, row in enumerate(numbers.tolist()):
        said = [options[number] for options, number in zip(names.values(), row, strict=True)]
        assert Shown(*said) == render(small, "judge", i).shown


def figures():
    """What the stages record, made up."""
    measured = [f"{head} right" for head in Judge.heads] + ["reward", "worst frame", "frame difference"]
    names = [f"{name} {what}" for name in (*card.IMAGES, *card.VIDEOS) for what in measured]
    ran = {"steps": 5, "minutes": 1.0}
    return {
        "evaluation": dict.fromkeys(names, 0.5),
        "judge": {"kind": 0.99, "member": 0.98, "setting": 1.0, "motion": 0.97} | ran,
        "reward": {"prefers right to wrong member": 0.9} | ran,
        "candidates by kind": {"bird": 0.4, "fruit": 1.0},
        "vanilla by motion": {"rising": 0.8},
        "vae": {"psnr_db": 30.0, "patch_pca_psnr_db": 28.0} | ran,
        "export": {"megabytes": 9.0},
    }


def test_the_model_card_names_all_kinds_and_where_the_drawings_are_from():
    text = card.refill(card.write_card(CPU, figures(), "a device", "today"))
    for kind, members in KINDS.items():
        assert f"  - {kind}: {', '.join(members)}\n" in text
    assert "`@lobehub/fluent-emoji-anim-1`" in text and atlas.LICENSE.read_text().split("\n")[0] in text
    assert "| vanilla | 50 % | 50 % | 50 % | 50 % | 0.50 |" in text
    assert "8 of the prompts name a member" in " ".join(text.split()) and "bird (40 %)" in text


def test_the_model_card_has_a_dash_where_no_prompt_named_a_member():
    known = figures()
    for name in [name for name in known["evaluation"] if name.endswith("member right")]:
        del known["evaluation"][name]
    text = card.write_card(CPU, known, "a device", "today")
    assert "| vanilla | 50 % | – | 50 % | 50 % | 0.50 |" in text
    assert "| all candidates | 50 % | – | 50 % | 0.50 |" in text


def test_a_picture_fits_a_caption_of_its_kind_or_of_its_member():
    pictures = [shown(), shown("bus"), shown("cat"), shown(setting="desert")]
    captions = {
        "a vehicle by the sea": [1, 1, 0, 0],
        "a car by the sea": [1, 0, 0, 0],
        "a vehicle": [1, 1, 0, 1],
        "a car rising": [1, 0, 0, 1],
    }
    table = reward.fits(pictures, list(captions), [shown()] * len(captions))
    assert table.T.tolist() == list(captions.values())


def test_the_pictures_of_a_scene_show_what_they_are_said_to_show():
    for i in range(6):
        pictures, (right, other, sibling) = reward.draw_scene(replace(CPU, size=32), i)
        assert pictures.shape == (len(reward.PICTURES), 32, 32, 3)
        assert right.kind == sibling.kind != other.kind and right.member != sibling.member
        assert {KIND_OF[each.member] == each.kind for each in (right, other, sibling)} == {True}
        assert len({(each.setting, each.motion) for each in (right, other, sibling)}) == 1
        empty = pictures[3].astype(int)
        assert all((np.abs(picture - empty).max(-1) > 20).mean() > 0.02 for picture in pictures[:3])


def test_damaged_pictures_are_flawed_and_many_are_two_members_in_one():
    scenes = torch.rand(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(600, -1, -1, -1, -1)
    subject, other, sibling, _ = scenes[0]
    pictures = reward.damage(scenes, torch.Generator().manual_seed(1))
    assert (pictures - subject).abs().amax((1, 2, 3)).min() > 0.01
    counts = {}
    for name, second in (("kind", sibling), ("stranger", other)):
        of_first, of_second = ((pictures == each).all(1) for each in (subject, second))
        chimeras = (of_first | of_second).flatten(1).all(1)
        across = of_first[chimeras].all(1).any(1)  # a whole column is the subject's: the other is beside it
        counts[name] = len(across)
        assert 0 < across.sum() < len(across), "side by side, and one above the other"
    assert sum(counts.values()) == pytest.approx(600 * 2 / 7, rel=0.2)
    assert counts["kind"] > 1.5 * counts["stranger"], "mostly two of one kind"


def test_a_wrong_member_is_wrong_only_for_the_caption_that_names_another(monkeypatch):
    """A reward that takes the members of a kind for each other, where the caption names the kind."""
    tiny = replace(PRESETS["small-world"], size=16)
    monkeypatch.setattr(reward, "tokenize", lambda tokenizer, captions: captions)

    def similarities(clip, captions, images):
        of_member, of_kind = captions
        assert len(images) == 6 and of_kind != of_member
        return torch.tensor([[1.0, 1], [0, 0], [0, 2], [0, 0], [0, 0], [0, 2]])

    monkeypatch.setattr(reward, "similarities", similarities)
    scenes, labels = reward.draw_scenes(tiny, 3)
    found = reward.preferences(tiny, None, None, scenes, labels)
    assert found["prefers right to wrong member"] == found["prefers right to wrong kind"] == 1
    assert found["prefers right to wrong setting"] == 0.5


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
        make_tokenizer(list(words), CPU.max_tokens) for words in ({"car", "sea"}, {"sea", "bus", "car"})
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
    assert read(new, after, "bus car").shape == read(new, after, "sea car").shape


def test_a_run_counts_on_from_the_weights_that_it_starts_from(tmp_path):
    begun = Run("stage", CPU, tmp_path / "a", 0.002, torch.device("cpu"))
    longer = replace(begun, folder=tmp_path / "b", start_from=begun.folder, pace=0.0)
    layer = torch.nn.Linear(2, 2)
    seen = []

    def loss(step, _generator):
        seen.append(step)
        return layer(torch.ones(1, 2)).square().sum()

    for run in (begun, longer):
        run.folder.mkdir()
    train(begun, layer, loss, learning_rate=1e-2, ema_decay=0.9)
    before = layer.weight.detach().clone()
    train(longer, layer, loss, learning_rate=1e-2, ema_decay=0.9)
    assert seen == list(range(len(seen))), "a batch came twice"
    assert read_figures(longer.folder)["stage"]["steps"] == len(seen)
    torch.testing.assert_close(layer.weight, before)


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
        CPU, size=32, num_frames=3, clips=4, kinds=("heart",), settings=("sea",), motions=("falling",),
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
        defaults, prompt="a heart falling", num_inference_steps=2, num_candidates=2
    )
    events = list(runtime.stream(lambda pipeline: pipeline.run(config, compare=("vanilla", "freeinit"))))
    videos = {event.name: event for event in events if isinstance(event, Result)}
    assert set(videos) == {"ni_vsds", "i4vgen", "vanilla", "freeinit"}
    for video in videos.values():
        assert video.frames.shape == (3, 32, 32, 3) and np.isfinite(video.latents).all()


def test_a_flow_model_learns_the_mean_where_there_is_no_signal():
    latents = torch.randn(8, 3, 2, 4, 4).half()
    clips = LatentClips(latents, [shown() for _ in latents])
    world = replace(CPU, kinds=("vehicle",), settings=("sea",), motions=("rising",))
    means = torch.randn(1, 1, 1, 3, 2, 4, 4).half()
    everywhere = means.expand(len(world.members), 1, 1, -1, -1, -1, -1)
    examples = flow.Examples(clips, MeanClips(world, everywhere))
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    for num_frames in (1, 3):
        clean, sigmas, captions = examples.draw(2 * flow.BLIND_SHARE, num_frames, rng, generator)
        assert clean.shape == (2 * flow.BLIND_SHARE, 2, num_frames, 4, 4) and len(captions) == len(clean)
        back = clean * examples.std.view(-1, 1, 1, 1) + examples.mean.view(-1, 1, 1, 1)
        mean = means[0, 0, 0].float().movedim(0, 1)
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


def test_drawings_become_one_picture(tmp_path, monkeypatch):
    emoji = tmp_path / "emoji" / "package" / "assets"
    emoji.mkdir(parents=True)
    moments = [Image.new("RGBA", (20, 20), (200, 10 * i, 0, 255)) for i in range(16)]
    moments[0].save(emoji / "1f697.webp", save_all=True, append_images=moments[1:], lossless=True)
    heart = Image.new("RGBA", (20, 20))
    heart.paste((0, 0, 200, 255), (5, 5, 15, 15))
    heart.save(emoji / "2764-fe0f.webp", lossless=True)
    moments[0].save(emoji / "1f468-200d-1f692.webp")  # of several characters, which no name stands for
    monkeypatch.setattr(draw_atlas, "LOOKS", {"car": "left", "red heart": None})
    for module in (draw_atlas, atlas):
        monkeypatch.setattr(module, "ATLAS", tmp_path / "atlas.webp")
        monkeypatch.setattr(module, "ROWS", tmp_path / "atlas.json")
    monkeypatch.setattr(sys, "argv", ["draw_atlas", str(tmp_path / "emoji")])
    draw_atlas.main()

    for cached in ("atlas", "poses_by_name", "mips"):  # these are of the drawings above
        monkeypatch.setattr(atlas, cached, getattr(atlas, cached).__wrapped__)
    assert atlas.poses_by_name() == {"car": atlas.POSES, "red heart": 1}
    assert atlas.atlas().size == (atlas.TILE * atlas.POSES, 2 * atlas.TILE)
    for pose in range(atlas.POSES):
        car, heart = (np.asarray(atlas.mips(name, pose)[0]).astype(int) for name in ("car", "red heart"))
        assert np.abs(car[32:96, 32:96] - [200, 20 * pose, 0, 255]).max() < 12, "every second moment of sixteen"
        assert np.abs(heart[64, 64] - [0, 0, 200, 255]).max() < 12 and not heart[4, 4].any()
    assert [drawing.width for drawing in atlas.mips("car", 0)] == list(atlas.SIZES)
