"""Stage 4: the reward, a small CLIP trained on rendered pictures and captions with hard negatives.

It has data and a seed of its own. What the generator made only fixes the scale of its scores (export.py).

    python -m training.reward --minutes 5
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from training.config import Preset
from training.data import SEEDS, draw_all, to_tensor
from training.loop import parse_arguments, train
from training.scenes import SCENES, travel
from training.text_to_image import tokenize
from training.tokenizer import begin_reading, load_or_make_tokenizer
from training.world import (
    SETTINGS,
    Shown,
    caption,
    draw_camera,
    draw_clip,
    draw_sprite,
    draw_track,
    full_caption,
    show,
    tells,
)

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


KINDS = ("right", "wrong subject", "wrong colour", "missing subject")


def draw_scene(preset: Preset, index: int) -> tuple[np.ndarray, Shown]:
    """One moment with the right subject, another, another colour, and no subject, uint8 [4, H, W, 3]; and
    what it shows.
    """
    rng = np.random.default_rng([SEEDS["reward"], index])
    subject, other = (str(s) for s in rng.choice(preset.subjects, 2, replace=False))
    colour, dye = (str(c) for c in rng.choice(preset.colours, 2, replace=False))
    setting, motion = str(rng.choice(preset.settings)), str(rng.choice(preset.motions))
    # One frame of a clip of many, so that sprites stand where clips have them.
    moment = slice(frame := rng.integers(preset.num_frames), frame + 1)
    camera = draw_camera(rng, motion, preset.num_frames)[moment]
    track = draw_track(rng, motion, preset.num_frames)[moment]
    scene = travel(SCENES[setting](rng, preset.size), camera, preset.size)
    pairs = ((subject, colour), (other, colour), (subject, dye))
    sprites = [draw_sprite(*who, motion, track, preset.size) for who in pairs]
    frames = [show(scene, sprite)[0] for sprite in (*sprites, None)]
    return np.stack(frames), Shown(subject, colour, setting, motion)


def damage(scenes: Tensor, generator: torch.Generator) -> Tensor:
    """[N, 4, 3, H, W] scenes -> [N, 3, H, W] pictures that no caption should fit: each flawed in one way."""
    subject, other, _, empty = scenes.unbind(1)
    height, width = scenes.shape[-2:]
    blurred = F.interpolate(subject, scale_factor=1 / 6, mode="bilinear", antialias=True)
    blurred = F.interpolate(blurred, size=(height, width), mode="bicubic")
    faded = 0.6 * empty + 0.4 * subject
    double = 0.5 * subject + 0.5 * other
    left = torch.arange(width) < width * (0.4 + 0.2 * torch.rand(len(scenes), 1, 1, 1, generator=generator))
    chimera = torch.where(left, subject, other)
    # The sprite's pixels in disorder: blocks exchanged with their neighbours.
    block = height // 8
    shift = torch.where(torch.rand(len(scenes), 1, 1, 1, generator=generator) < 0.5, block, -block)
    rows = (torch.arange(height) // block % 2 == 0)[:, None]
    shuffled = torch.where(rows, roll_each(subject, shift), subject)
    choices = torch.stack([blurred, faded, double, chimera, shuffled, empty])
    which = torch.randint(len(choices), (len(scenes),), generator=generator)
    return choices[which, torch.arange(len(scenes))]


def roll_each(images: Tensor, shift: Tensor) -> Tensor:
    """Rolls every image [N, 3, H, W] sideways by its own shift [N, 1, 1, 1]."""
    width = images.shape[-1]
    columns = (torch.arange(width) - shift) % width
    return images.gather(-1, columns.expand(images.shape))


def fits(shown: list[Shown], captions: list[str], told: list[Shown]) -> Tensor:
    """[N, M]: whether picture i shows what caption j says. Captions may leave the setting out."""
    table = torch.zeros(len(shown), len(captions))
    for j, (text, meant) in enumerate(zip(captions, told, strict=True)):
        names_setting = tells(text, SETTINGS[meant.setting])
        for i, seen in enumerate(shown):
            same = (seen.subject, seen.colour) == (meant.subject, meant.colour)
            table[i, j] = same and (seen.setting == meant.setting or not names_setting)
    return table


def similarities(clip: CLIPModel, tokens: Tensor, images: Tensor) -> Tensor:
    """[images, captions], as CLIPModel reports them. Images of any size."""
    size = clip.config.vision_config.image_size
    images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
    return clip(input_ids=tokens.to(clip.device), pixel_values=images.to(clip.device)).logits_per_image


def draw_scenes(preset: Preset, count: int) -> tuple[Tensor, list[Shown]]:
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
        shown = [labels[i] for i in index.tolist()]
        rng = np.random.default_rng(step)
        captions = [caption(rng, names) for names in shown]
        good, others, dyed, empty = batch.unbind(1)
        bad = [damage(batch[:16], generator), others[16:24], dyed[24:40], empty[40:]]
        images = torch.cat([good, *bad])
        images = images + 0.03 * torch.randn(images.shape, generator=generator)
        truth = torch.zeros(len(images), len(captions))
        truth[: len(good)] = fits(shown, captions, shown)
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
    preset: Preset, clip: CLIPModel, tokenizer: CLIPTokenizer, scenes: Tensor, shown: list[Shown]
) -> dict[str, float]:
    """How often the reward prefers the right picture to a wrong one: shares of unseen scenes."""
    pictures = to_tensor(scenes.numpy())
    damaged = damage(pictures, torch.Generator().manual_seed(0))
    rng = np.random.default_rng([SEEDS["reward"], len(scenes), 1])
    kinds = (*KINDS[1:], "damaged", "wrong setting")
    wins = np.zeros(len(kinds))
    for i, names in enumerate(shown):
        elsewhere = str(rng.choice([s for s in preset.settings if s != names.setting]))
        moved = draw_clip(rng, names.subject, names.colour, elsewhere, names.motion, 1, preset.size)
        images = torch.cat([pictures[i], damaged[i : i + 1], to_tensor(moved)])
        text = full_caption(names)
        with torch.no_grad():
            scores = similarities(clip, tokenize(tokenizer, [text]), images)[:, 0]
        wins += (scores[0] > scores[1:]).numpy()
    return {f"prefers right to {kind}": win / len(shown) for kind, win in zip(kinds, wins, strict=True)}


if __name__ == "__main__":
    main()
