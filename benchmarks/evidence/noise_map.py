"""The paper's figure 2 for a model: real clips, noised to the last timestep, beside the pure noise that a
sampler begins with. `python -m benchmarks.evidence.noise_map --out docs/noise_map.svg`

Where the two are apart, a sampler begins with something that the model has never seen, and what is left of an
anchor there is a better beginning, which is what I4VGen builds on. Where they are one cloud, an anchor drowns.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from benchmarks.evidence.report import save
from i4vgen.backbones.animatediff import SCHEDULE, AnimateDiffBackbone
from i4vgen.models.catalog import POCKET
from pocket.presets import PRESETS, Preset
from training.data import draw_all, render

COMPONENTS = 50  # before t-SNE, as is usual
COLOURS = {"noise": "#8a8f94", "real": "#2f9e6e", "noised": "#3b6fd4"}
STEPS = 25


def real_latents(backbone: AnimateDiffBackbone, preset: Preset, count: int) -> torch.Tensor:
    """Held-out clips as the model sees them, [count, C, F, h, w]."""
    clips = draw_all(partial(render, preset, "judge-test"), count, "drawing real clips")
    return torch.stack(
        [torch.cat([backbone.encode(frame) for frame in clip.frames], dim=2)[0] for clip in clips]
    )


def noised(latents: torch.Tensor, noise: torch.Tensor, schedule: DDIMScheduler) -> torch.Tensor:
    """Latents at the first timestep that a sampler takes."""
    schedule.set_timesteps(STEPS)
    first = schedule.timesteps[:1].expand(len(latents))
    return schedule.add_noise(latents, noise, first)


def embed(*groups: torch.Tensor) -> list[np.ndarray]:
    """Each group [N, ...] as points in the plane, [N, 2]."""
    flat = torch.cat([group.flatten(1) for group in groups]).numpy()
    points = TSNE(random_state=0, perplexity=30).fit_transform(
        PCA(COMPONENTS, random_state=0).fit_transform(flat)
    )
    return np.split(points, np.cumsum([len(group) for group in groups])[:-1])


def draw(path: Path, backbone: AnimateDiffBackbone, preset: Preset, count: int) -> None:
    latents = real_latents(backbone, preset, count)
    generator = torch.Generator().manual_seed(0)
    pure, added = torch.randn(2, *latents.shape, generator=generator)
    schedules = {
        "AnimateDiff's schedule": DDIMScheduler.from_config(SCHEDULE),
        "this model's schedule": DDIMScheduler.from_config(backbone.schedule),
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.4))
    for axis, (title, schedule) in zip(axes, schedules.items(), strict=True):
        groups = embed(pure, latents, noised(latents, added, schedule))
        for points, (name, colour) in zip(groups, COLOURS.items(), strict=True):
            label = {"noise": "pure noise", "real": "real clips", "noised": "real clips, noised"}[name]
            axis.scatter(*points.T, s=9, color=colour, label=label, linewidths=0)
        trace = schedule.alphas_cumprod[schedule.timesteps[0]].item()
        axis.set_title(f"{title}: {100 * trace:.2g} % of a clip's variance left", fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color("#cccccc")
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.noise_map", description=__doc__)
    parser.add_argument("--model", default=POCKET.repo_or_path)
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="the world of the model")
    parser.add_argument("--clips", type=int, default=200, help="more than 50 (default 200)")
    parser.add_argument("--out", type=Path, default=Path("docs/noise_map.svg"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(args.out, AnimateDiffBackbone.from_pretrained(args.model), PRESETS[args.preset], args.clips)
    print(args.out)


if __name__ == "__main__":
    main()
