"""Where NI-VSDS and the regeneration work best on a pocket model: every pair of a step size and a p_re.

    python -m benchmarks.evidence.sweep --prompts 12

The prompts and seeds are not those of the evidence. Vanilla is tried as well, with guidance scales and numbers
of steps of its own. Writes sweep.jsonl, a line for each video, and goes on from those of the same model and
settings; prints the means.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.evidence.drawing import weights_of
from benchmarks.evidence.identity import identity_figures
from benchmarks.evidence.measured import title_of
from benchmarks.evidence.methods import Contest, finish
from benchmarks.evidence.metrics import mean_flow
from benchmarks.evidence.prompts import make_prompts
from i4vgen.config import GenerationConfig
from i4vgen.media import whole_file
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.serving.runtime import Runtime
from pocket.judge import Judge
from pocket.presets import PRESETS
from pocket.world import Shown, full_caption
from training.flow_backbone import register
from training.markdown import table

SKIPPED = 200  # prompts: the evidence has the ones before
FIRST_SEED = 7_000
ABOUT = ("prompt", "seed", "setting", "options")
"""What a line of sweep.jsonl says besides figures."""

VANILLA = tuple({"guidance_scale": g} for g in (3.0, 4.0, 5.5)) + ({"num_inference_steps": 50},)


def videos(
    pipeline: I4VGenPipeline, config: GenerationConfig, step_sizes: Sequence[float], shares: Sequence[float]
) -> Iterator[tuple[str, np.ndarray]]:
    """Every setting's video of one prompt and seed: what it is called, uint8 frames.

    Args:
        pipeline: The model.
        config: Of all of them.
        step_sizes: Of all steps of NI-VSDS.
        shares: Values of p_re.
    """
    for setting in VANILLA:
        name = "vanilla, " + ", ".join(f"{key} {value:g}" for key, value in setting.items())
        yield name, finish(pipeline.comparison("vanilla", replace(config, **setting)))[0]
    anchor = Contest(pipeline, config).anchor
    own, inputs = pipeline.backbone.step_sizes, pipeline.prepare(config)
    for size in step_sizes:
        pipeline.backbone.step_sizes = (size,)
        moving, latents, _ = finish(pipeline.distill(inputs, anchor))
        yield f"step size {size:g}, no regeneration", moving
        for p_re in shares:
            frames, _, _ = finish(
                pipeline.regenerate(replace(inputs, config=replace(config, p_re=p_re)), latents)
            )
            yield f"step size {size:g}, p_re {p_re:g}", frames
    pipeline.backbone.step_sizes = own


def measure(judge: Judge, frames: np.ndarray, shown: Shown) -> dict[str, float]:
    figures = judge.measure(frames, shown.asks(judge.heads))
    figures.setdefault("member_right", float("nan"))
    members = judge.look_at_each(frames)["member"]
    return figures | identity_figures(members, of_anchor=None) | {"mean_flow": mean_flow(frames)}


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="the world of a pocket model")
    parser.add_argument("--step-sizes", type=numbers, default="0.15,0.3,0.5,1", help="of NI-VSDS")
    parser.add_argument("--p-re", type=numbers, default="0.7,0.85,1")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
    args = parser.parse_args()
    register()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "sweep.jsonl"
    runtime, judge = Runtime(args.model, args.device), Judge.load()
    options = {
        "model": args.model,
        "weights": weights_of(runtime),
        "step_sizes": args.step_sizes,
        "p_re": args.p_re,
    }
    stored = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    lines = [line for line in stored if line["options"] == options]
    done = {line["seed"] for line in lines}
    prompts = make_prompts(PRESETS[args.preset], SKIPPED + args.prompts)[SKIPPED:]
    for number, shown in enumerate(tqdm(prompts, desc="sweeping", disable=None)):
        prompt, seed = full_caption(shown), FIRST_SEED + number
        if seed in done:
            continue
        config = GenerationConfig.for_model(runtime.defaults, prompt=prompt, seed=seed)
        made = [
            dict(zip(ABOUT, (prompt, seed, name, options), strict=True)) | measure(judge, frames, shown)
            for name, frames in runtime.stream(lambda p, r=config: videos(p, r, args.step_sizes, args.p_re))
        ]
        stored += made
        lines += made
        with whole_file(path) as draft:  # a prompt is there as a whole or not at all
            draft.write_text("".join(json.dumps(line) + "\n" for line in stored))
    print(means(lines))


def means(lines: list[dict]) -> str:
    """A table of every setting's means."""
    by_setting = defaultdict(list)
    for line in lines:
        by_setting[line["setting"]].append(line)
    names = [name for name in lines[0] if name not in (*ABOUT, "anchor_member")]
    rows = [
        [setting, *(f"{np.nanmean([line[name] for line in found]):.3f}" for name in names)]
        for setting, found in by_setting.items()
    ]
    return table(["", *(title_of(name) for name in names)], rows)


if __name__ == "__main__":
    main()
