"""Stage 4: the reward, a small CLIP trained on rendered pictures and captions with hard negatives.

It has data and a seed of its own. What the generator made only fixes the scale of its scores (export.py).

    python -m training.reward --minutes 5
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from pocket.presets import Preset
from pocket.scenes import SCENES, travel
from pocket.world import (
    KINDS,
    SETTINGS,
    Shown,
    caption,
    draw_camera,
    draw_clip,
    draw_poses,
    draw_subject,
    draw_track,
    full_caption,
    show,
    tells,
)
from training.data import SEEDS, draw_all, to_tensor
from training.loop import parse_arguments, train
from training.text_to_image import tokenize
from training.tokenizer import begin_reading, load_or_make_tokenizer

TRAIN_SCENES = 6_000
TEST_SCENES = 400


def make_reward(preset: Preset, tokenizer: CLIPTokenizer) -> CLIPModel:
    width, layers, heads = preset.reward_width, preset.reward_layers, preset.attention_heads
    common = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": heads}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {
        **common,
        **ends,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 2,
        "max_position_embeddings": preset.max_tokens,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        **common,
        "num_hidden_layers": layers,
        "image_size": preset.reward_size,
        "patch_size": preset.reward_size // 8,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


PICTURES = ("right", "wrong kind", "wrong member", "missing subject")  # of a scene


def draw_scene(preset: Preset, index: int) -> tuple[np.ndarray, tuple[Shown, ...]]:
    """One moment with the right member, one of another kind, another of the same kind, and no subject, uint8
    [4, H, W, 3]; and what the first three show.
    """
    rng = np.random.default_rng([SEEDS["reward"], index])
    kind, other_kind = (str(name) for name in rng.choice(preset.kinds, 2, replace=False))
    member, sibling = (str(name) for name in rng.choice(list(KINDS[kind]), 2, replace=False))
    other = str(rng.choice(list(KINDS[other_kind])))
    setting, motion = str(rng.choice(preset.settings)), str(rng.choice(preset.motions))
    # One frame of a clip of many, so that subjects stand where clips have them.
    moment = slice(frame := rng.integers(preset.num_frames), frame + 1)
    camera = draw_camera(rng, motion, preset.num_frames)[moment]
    track = draw_track(rng, motion, preset.num_frames)[moment]
    poses = draw_poses(rng, preset.num_frames)[moment]
    scene = travel(SCENES[setting](rng, preset.size), camera, preset.size)
    who = ((kind, member), (other_kind, other), (kind, sibling))
    subjects = [draw_subject(name, motion, track, poses, preset.size) for _, name in who]
    frames = [show(scene, subject)[0] for subject in (*subjects, None)]
    return np.stack(frames), tuple(Shown(*names, setting, motion) for names in who)


def damage(scenes: Tensor, generator: torch.Generator) -> Tensor:
    """[N, 4, 3, H, W] scenes -> [N, 3, H, W] pictures that no caption should fit: each flawed in one way."""
    subject, other, sibling, empty = scenes.unbind(1)
    height, width = scenes.shape[-2:]
    blurred = F.interpolate(subject, scale_factor=1 / 6, mode="bilinear", antialias=True)
    blurred = F.interpolate(blurred, size=(height, width), mode="bicubic")
    faded = 0.6 * empty + 0.4 * subject
    # Two in one, of one kind or of two: what a model draws that cannot decide.
    of_kind = torch.rand(len(scenes), 1, 1, 1, generator=generator) < 0.7
    second = torch.where(of_kind, sibling, other)
    double = 0.5 * subject + 0.5 * second
    left = torch.arange(width) < width * (0.4 + 0.2 * torch.rand(len(scenes), 1, 1, 1, generator=generator))
    top = (torch.arange(height) < height * 0.5)[:, None]
    chimera = torch.where(left, subject, second)
    stacked = torch.where(top, subject, second)
    # The subject's pixels in disorder: blocks exchanged with their neighbours.
    block = height // 8
    shift = torch.where(torch.rand(len(scenes), 1, 1, 1, generator=generator) < 0.5, block, -block)
    rows = (torch.arange(height) // block % 2 == 0)[:, None]
    shuffled = torch.where(rows, roll_each(subject, shift), subject)
    choices = torch.stack([blurred, faded, double, chimera, stacked, shuffled, empty])
    which = torch.randint(len(choices), (len(scenes),), generator=generator)
    return choices[which, torch.arange(len(scenes))]


def roll_each(images: Tensor, shift: Tensor) -> Tensor:
    """Rolls every image [N, 3, H, W] sideways by its own shift [N, 1, 1, 1]."""
    width = images.shape[-1]
    columns = (torch.arange(width) - shift) % width
    return images.gather(-1, columns.expand(images.shape))


def fits(shown: Sequence[Shown], captions: Sequence[str], told: Sequence[Shown]) -> Tensor:
    """[N, M]: whether picture i shows what caption j says. told: what the captions are of.

    Captions may leave the setting out. One that names the kind fits all of its members.
    """
    table = torch.zeros(len(shown), len(captions))
    for j, (text, meant) in enumerate(zip(captions, told, strict=True)):
        names_setting, names_member = tells(text, SETTINGS[meant.setting]), meant.member in text
        for i, seen in enumerate(shown):
            same = seen.member == meant.member if names_member else seen.kind == meant.kind
            table[i, j] = same and (seen.setting == meant.setting or not names_setting)
    return table


def similarities(clip: CLIPModel, tokens: Tensor, images: Tensor) -> Tensor:
    """[images, captions], as CLIPModel reports them. Images of any size."""
    size = clip.config.vision_config.image_size
    images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
    return clip(input_ids=tokens.to(clip.device), pixel_values=images.to(clip.device)).logits_per_image


def draw_scenes(preset: Preset, count: int) -> tuple[Tensor, list[tuple[Shown, ...]]]:
    scenes, shown = zip(*draw_all(partial(draw_scene, preset), count, "drawing scenes"), strict=True)
    return torch.from_numpy(np.stack(scenes)), list(shown)


def main() -> None:
    run = parse_arguments("reward", __doc__)
    preset, device = run.preset, run.device
    torch.manual_seed(0)
    tokenizer = load_or_make_tokenizer(run)
    clip = begin_reading(run, make_reward(preset, tokenizer), "reward", tokenizer)
    # A sigmoid for every pair: a caption may fit several pictures of the batch.
    bias = nn.Parameter(torch.tensor(-4.0))
    model = nn.ModuleDict({"clip": clip, "bias": nn.ParameterList([bias])}).to(device).train()
    scenes, labels = draw_scenes(preset, TRAIN_SCENES + TEST_SCENES)
    scenes, test_scenes = scenes[:TRAIN_SCENES], scenes[TRAIN_SCENES:]
    labels, test_labels = labels[:TRAIN_SCENES], labels[TRAIN_SCENES:]

    def loss(step: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(scenes), (48,), generator=generator)
        batch = to_tensor(scenes[index].numpy())
        shown, others, siblings = zip(*(labels[i] for i in index.tolist()), strict=True)
        rng = np.random.default_rng(step)
        captions = [caption(rng, names) for names in shown]
        good, of_others, of_siblings, empty = batch.unbind(1)
        # A sibling is wrong only where the caption names the member.
        named = [names.member in text for names, text in zip(shown, captions, strict=True)]
        wrong = torch.where(torch.tensor(named).view(-1, 1, 1, 1), of_siblings, of_others)
        strangers = [(other, sibling)[n] for other, sibling, n in zip(others, siblings, named, strict=True)]
        bad = [damage(batch[:20], generator), wrong[20:40], empty[40:]]
        images = torch.cat([good, *bad])
        images = images + 0.03 * torch.randn(images.shape, generator=generator)
        truth = torch.zeros(len(images), len(captions))
        truth[: len(good)] = fits(shown, captions, shown)
        # What is wrong for its own caption may be right for another of the batch.
        truth[len(good) + 20 : len(good) + 40] = fits(strangers[20:40], captions, shown)
        with run.autocast():
            logits = similarities(clip, tokenize(tokenizer, captions), images)
        losses = F.binary_cross_entropy_with_logits(logits.float() + bias, truth.to(device), reduction="none")
        # Fitting pairs are rare, so each kind of pair has the same weight: fitting ones, flawed pictures with
        # their own captions, all others.
        positive = truth.to(device)
        own = torch.zeros_like(truth)
        own[len(good) :] = torch.eye(len(captions))
        own = own.to(device)
        rest = (1 - positive) * (1 - own)
        return sum((losses * part).sum() / part.sum() for part in (positive, own, rest))

    train(run, model, loss, learning_rate=1e-3, ema_decay=0.998)
    clip.eval()
    folder = run.folder / "reward"
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    run.record("reward", **preferences(preset, clip, tokenizer, test_scenes, test_labels))


def preferences(
    preset: Preset, clip: CLIPModel, tokenizer: CLIPTokenizer, scenes: Tensor, shown: list[tuple[Shown, ...]]
) -> dict[str, float]:
    """How often the reward prefers the right picture to a wrong one: shares of unseen scenes.

    Every scene has two captions, of its member and of its kind. A wrong member is one for the first alone.
    """
    pictures = to_tensor(scenes.numpy())
    damaged = damage(pictures, torch.Generator().manual_seed(0))
    rng = np.random.default_rng([SEEDS["reward"], len(scenes), 1])
    wrong = (*PICTURES[1:], "damaged", "wrong setting")
    wins = np.zeros(len(wrong))
    for i, (names, *_) in enumerate(shown):
        elsewhere = str(rng.choice([s for s in preset.settings if s != names.setting]))
        moved = draw_clip(rng, names.member, elsewhere, names.motion, 1, preset.size)
        images = torch.cat([pictures[i], damaged[i : i + 1], to_tensor(moved)])
        texts = [full_caption(names), full_caption(replace(names, member=None))]
        with torch.no_grad():
            scores = similarities(clip, tokenize(tokenizer, texts), images).cpu()
        of_member, of_kind = (scores[0] > scores[1:]).numpy().T
        wins += np.where(np.array(wrong) == "wrong member", of_member, (of_member + 1.0 * of_kind) / 2)
    return {f"prefers right to {name}": win / len(shown) for name, win in zip(wrong, wins, strict=True)}


if __name__ == "__main__":
    main()
