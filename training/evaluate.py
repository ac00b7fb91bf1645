"""Measures the exported model with the judge, through the very pipeline that users run.

python -m training.evaluate

24 prompts, both presets: does a candidate, a video show the subject, the colour, the setting, the motion that
the prompt asks for? What does the reward say of it?
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.evidence.judge import Judge
from i4vgen.backbones.animatediff import AnimateDiffBackbone
from i4vgen.config import PRESETS, GenerationConfig
from i4vgen.events import Candidate, Result, Selected
from i4vgen.metrics import frame_difference
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.rewards.pocket import PocketReward
from i4vgen.weights.hub import fastest_dtype
from training.config import POCKET, Preset
from training.loop import parse_arguments
from training.world import Shown, full_caption

PROMPTS = 24
SEEDS = (0,)


def make_prompts(preset: Preset) -> list[tuple[str, Shown]]:
    """Prompts and what they ask for: every subject comes up, colours, settings and motions in turn."""
    prompts, pairs = [], len(preset.subjects) * len(preset.colours)
    for i in range(PROMPTS):
        shown = Shown(
            subject=preset.subjects[i % len(preset.subjects)],
            colour=preset.colours[(i + i // len(preset.subjects)) % len(preset.colours)],
            setting=preset.settings[(3 * i + i // len(preset.settings)) % len(preset.settings)],
            motion=preset.motions[(i + i // len(preset.subjects) + i // pairs) % len(preset.motions)],
        )
        prompts.append((full_caption(shown), shown))
    return prompts


def main() -> None:
    run = parse_arguments("evaluate", __doc__)
    judge = Judge.load(run.folder / "judge")
    device = str(run.device)
    backbone = AnimateDiffBackbone.from_pretrained(str(POCKET), device=device, dtype=fastest_dtype(device))
    reward = PocketReward.from_pretrained(str(POCKET), device=device)
    pipeline = I4VGenPipeline(backbone, [reward])
    found: dict[str, list[float]] = defaultdict(list)
    by_subject: dict[str, list[float]] = defaultdict(list)
    by_motion: dict[str, list[float]] = defaultdict(list)
    runs = [(way, seed, *prompt) for way in PRESETS for seed in SEEDS for prompt in make_prompts(run.preset)]
    for way, seed, prompt, wanted in tqdm(runs, desc="evaluating", disable=None):
        config = GenerationConfig.for_model(backbone.defaults, prompt=prompt, seed=seed, preset=way)

        def record(what: str, frames: np.ndarray, way=way, prompt=prompt, wanted=wanted) -> None:
            what = what if way == "faithful" else f"{way} {what}"
            for head, answer in judge.look(frames).items():
                found[f"{what} {head} right"].append(answer == getattr(wanted, head))
            scores = reward.score(prompt, [Image.fromarray(frame) for frame in frames])
            found[f"{what} reward"] += scores
            if len(frames) > 1:
                found[f"{what} worst frame"].append(min(scores))
                found[f"{what} frame difference"].append(frame_difference(frames))

        for event in pipeline.run(config, compare=("vanilla",) if way == "faithful" else ()):
            if isinstance(event, Candidate) and not event.sketch:
                record("candidate", event.image[None])
                if way == "faithful":
                    by_subject[wanted.subject].append(found["candidate subject right"][-1])
            elif isinstance(event, Selected):
                record("anchor", event.image[None])
            elif isinstance(event, Result):
                record(event.name, event.frames)
                if event.name == "vanilla":
                    by_motion[wanted.motion].append(found["vanilla motion right"][-1])
    for section, figures in (
        ("evaluation", found),
        ("candidates by subject", by_subject),
        ("vanilla by motion", by_motion),
    ):
        run.record(section, **{name: round(float(np.mean(values)), 3) for name, values in figures.items()})


if __name__ == "__main__":
    main()
