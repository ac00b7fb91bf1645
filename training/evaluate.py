"""Measures the exported model with the judge, through the very pipeline that users run.

python -m training.evaluate

24 prompts, both presets: does a candidate, a video show the kind, the member, the setting, the motion that the
prompt asks for? What does the reward say of it? Two thirds of the prompts name a kind, and any member will do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from i4vgen.backbones.animatediff import AnimateDiffBackbone
from i4vgen.config import PRESETS, GenerationConfig
from i4vgen.events import Candidate, Result, Selected
from i4vgen.metrics import frame_difference
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.rewards.pocket import PocketReward
from i4vgen.weights.hub import fastest_dtype
from pocket.judge import Judge
from pocket.presets import Preset
from pocket.world import KINDS, Shown, full_caption
from training.loop import parse_arguments

PROMPTS = 24
SEEDS = (0,)


def evaluation_prompts(preset: Preset) -> list[tuple[str, Shown]]:
    """Prompts and what they ask for: kinds, settings and motions in turn. The last third names members."""
    prompts = []
    for i in range(PROMPTS):
        kind, setting, motion = combination(i, (preset.kinds, preset.settings, preset.motions))
        members = list(KINDS[kind])
        member = None if i < 2 * PROMPTS // 3 else members[i % len(members)]
        shown = Shown(kind, member, setting, motion)
        prompts.append((full_caption(shown), shown))
    return prompts


def combination(number: int, lists: Sequence[Sequence[str]]) -> list[str]:
    """One name of each list. Numbers in a row give the names of every list in turn, and no combination twice
    before all have come up.
    """
    names, period = [], 1
    for options in lists:
        turn = number + number % (period * len(options)) // math.lcm(period, len(options))
        names.append(options[turn % len(options)])
        period *= len(options)
    return names


def verdicts(judge: Judge, frames: np.ndarray, wanted: Shown) -> dict[str, bool]:
    """Whether frames show what is wanted, by head. What a prompt leaves open is not judged."""
    said = judge.look(frames)
    return {head: said[head] == right for head, right in wanted.asks(said).items()}


def main() -> None:
    run = parse_arguments("evaluate", __doc__)
    judge = Judge.load(run.folder / "judge")
    device = str(run.device)
    backbone = AnimateDiffBackbone.from_pretrained(str(run.model), device=device, dtype=fastest_dtype(device))
    reward = PocketReward.from_pretrained(str(run.model), device=device)
    pipeline = I4VGenPipeline(backbone, [reward])
    found: dict[str, list[float]] = defaultdict(list)
    by_kind: dict[str, list[float]] = defaultdict(list)
    by_motion: dict[str, list[float]] = defaultdict(list)
    runs = [
        (way, seed, *prompt) for way in PRESETS for seed in SEEDS for prompt in evaluation_prompts(run.preset)
    ]
    for way, seed, prompt, wanted in tqdm(runs, desc="evaluating", disable=None):
        config = GenerationConfig.for_model(backbone.defaults, prompt=prompt, seed=seed, preset=way)

        def record(what: str, frames: np.ndarray, way=way, prompt=prompt, wanted=wanted) -> None:
            what = what if way == "faithful" else f"{way} {what}"
            for head, right in verdicts(judge, frames, wanted).items():
                found[f"{what} {head} right"].append(right)
            scores = reward.score(prompt, [Image.fromarray(frame) for frame in frames])
            found[f"{what} reward"] += scores
            if len(frames) > 1:
                found[f"{what} worst frame"].append(min(scores))
                found[f"{what} frame difference"].append(frame_difference(frames))

        for event in pipeline.run(config, compare=("vanilla",) if way == "faithful" else ()):
            if isinstance(event, Candidate) and not event.sketch:
                record("candidate", event.image[None])
                if way == "faithful":
                    by_kind[wanted.kind].append(found["candidate kind right"][-1])
            elif isinstance(event, Selected):
                record("anchor", event.image[None])
            elif isinstance(event, Result):
                record(event.name, event.frames)
                if event.name == "vanilla":
                    by_motion[wanted.motion].append(found["vanilla motion right"][-1])
    for section, figures in (
        ("evaluation", found),
        ("candidates by kind", by_kind),
        ("vanilla by motion", by_motion),
    ):
        run.record(section, **{name: round(float(np.mean(values)), 3) for name, values in figures.items()})


if __name__ == "__main__":
    main()
