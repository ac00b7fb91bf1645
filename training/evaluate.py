"""Measures the exported model with the referee, through the very pipeline that users run.

    python -m training.evaluate

24 prompts x 2 seeds, both presets: does a candidate, a video show the subject, the setting, the motion that the
prompt asks for? What does the reward say of it?
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from i4vgen.backbones.animatediff import AnimateDiffBackbone
from i4vgen.events import Candidate, Result, Selected
from i4vgen.metrics import frame_difference
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.request import PRESETS, Request
from i4vgen.rewards.pocket import PocketReward
from training.config import POCKET, Preset
from training.data import to_tensor
from training.loop import parse_arguments
from training.referee import Referee, load_referee
from training.world import MOTIONS, SETTINGS, with_article

PROMPTS = 24
SEEDS = (0, 1)


def make_prompts(preset: Preset) -> list[tuple[str, str, str, str]]:
    """(prompt, subject, setting, motion): every subject comes up, settings and motions in turn."""
    prompts = []
    for i in range(PROMPTS):
        subject = preset.subjects[i % len(preset.subjects)]
        setting = preset.settings[(i + i // len(preset.settings)) % len(preset.settings)]
        motion = preset.motions[(i + i // len(preset.subjects)) % len(preset.motions)]
        text = with_article(f"a {subject} {MOTIONS[motion][0]} {SETTINGS[setting][0]}")
        prompts.append((text, subject, setting, motion))
    return prompts


@torch.no_grad()
def judge(referee: Referee, preset: Preset, frames: np.ndarray) -> tuple[str, str, str]:
    """What the referee sees in uint8 [F, H, W, 3]."""
    subject, setting, motion = (logits[0].argmax().item() for logits in referee(to_tensor(frames)[None]))
    return preset.subjects[subject], preset.settings[setting], preset.motions[motion]


def main() -> None:
    run = parse_arguments("evaluate", __doc__)
    preset = run.preset
    referee = load_referee(run)
    backbone = AnimateDiffBackbone.from_pretrained(str(POCKET), device=str(run.device))
    reward = PocketReward.from_pretrained(str(POCKET), device=str(run.device))
    pipeline = I4VGenPipeline(backbone, [reward])
    found: dict[str, list[float]] = defaultdict(list)
    by_subject: dict[str, list[float]] = defaultdict(list)
    by_motion: dict[str, list[float]] = defaultdict(list)
    runs = [(way, seed, *prompt) for way in PRESETS for seed in SEEDS for prompt in make_prompts(preset)]
    for way, seed, prompt, subject, setting, motion in tqdm(runs, desc="evaluating", disable=None):
        request = Request.for_model(backbone.defaults, prompt=prompt, seed=seed, preset=way)
        wanted = (subject, setting, motion)

        def record(what: str, frames: np.ndarray, way=way, prompt=prompt, wanted=wanted) -> None:
            what = what if way == "faithful" else f"{way} {what}"
            seen = judge(referee, preset, frames)
            for kind, asked, shown in zip(("subject", "setting", "motion"), wanted, seen, strict=True):
                if kind != "motion" or len(frames) > 1:
                    found[f"{what} {kind} right"].append(asked == shown)
            found[f"{what} reward"] += reward.score(prompt, [Image.fromarray(frame) for frame in frames])
            if len(frames) > 1:
                found[f"{what} frame difference"].append(frame_difference(frames))

        for event in pipeline.run(request, compare=("vanilla",) if way == "faithful" else ()):
            if isinstance(event, Candidate):
                record("candidate", event.image[None])
                if way == "faithful":
                    by_subject[subject].append(found["candidate subject right"][-1])
            elif isinstance(event, Selected):
                record("anchor", event.image[None])
            elif isinstance(event, Result):
                record(event.name, event.frames)
                if event.name == "vanilla":
                    by_motion[motion].append(found["vanilla motion right"][-1])
    for section, figures in (
        ("evaluation", found),
        ("candidates by subject", by_subject),
        ("vanilla by motion", by_motion),
    ):
        run.record(section, **{name: round(float(np.mean(values)), 3) for name, values in figures.items()})


if __name__ == "__main__":
    main()
