"""Measures the time and memory of I4VGen and of the vanilla model: `python -m benchmarks.speed`.

    python -m benchmarks.speed                                   # the pocket model
    python -m benchmarks.speed --model animatediff --random-weights --preset fast
    python -m benchmarks.speed --model animatediff --random-weights --authors CHECKOUT PYTHON
    python -m benchmarks.speed --model wan --flops               # only counts, without weights

Runs candidates, NI-VSDS, regeneration and the vanilla video through the pipeline of the app, with decoding but
without writing files. Loading is measured separately. FLOPs are counted in the networks' own calls, and
compared with the rate of large matrix products on the same device in the same precision.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import random_weights
from i4vgen.backbones.animatediff import SCHEDULE
from i4vgen.backbones.base import Backbone
from i4vgen.config import Defaults, GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.events import Candidate, Result, Stage
from i4vgen.method.tracking import PREVIEWS
from i4vgen.models.catalog import default_model
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.serving.runtime import Runtime, pick_device
from i4vgen.weights.hub import default_dtype

PROMPT = "a rocket rising in a starry night"
STAGES = ("candidates", "ni_vsds", "regeneration", "vanilla")


@dataclass
class Cost:
    """Cost of one stage: seconds, FLOPs of the denoiser, and peak memory of the GPU in bytes."""

    seconds: float
    flops: float
    gpu_memory: int | None


def measure(pipeline: I4VGenPipeline, config: GenerationConfig) -> dict[str, Cost]:
    """Measures one run, stage by stage."""
    flops = count_flops(pipeline.backbone, config, has_reward=bool(pipeline.rewards))
    cuda = pipeline.backbone.device.type == "cuda"
    costs, stage, start = {}, "", 0.0
    for event in pipeline.run(config, None if pipeline.rewards else 0):
        if isinstance(event, Stage):
            stage, start = event.name, time.perf_counter()
            if cuda:
                torch.cuda.reset_peak_memory_stats()
        elif isinstance(
            event, (Candidate, Result)
        ):  # its pictures are in the CPU's memory, so the stage is complete
            memory = torch.cuda.max_memory_allocated() if cuda else None
            costs[stage] = Cost(time.perf_counter() - start, flops[stage], memory)
    return costs


def preview_cost(pipeline: I4VGenPipeline, config: GenerationConfig) -> float:
    """Measures by which share the app's previews lengthen an animation: the median of three pairs of runs."""
    anchor = Anchor.from_image(Image.new("RGB", (config.width, config.height), "gray"))

    def seconds(previews: float) -> float:
        start = time.perf_counter()
        for _ in pipeline.animate(config, anchor, previews=previews):
            pass
        return time.perf_counter() - start

    return statistics.median(seconds(PREVIEWS) / seconds(0.0) - 1 for _ in range(3))


@torch.inference_mode()
def count_flops(backbone: Backbone, config: GenerationConfig, has_reward: bool) -> dict[str, float]:
    """Counts the denoiser's FLOPs per stage: those of one call times the number of calls.

    The network is counted uncompiled: torch does not compile while FLOPs are counted.
    """
    prompt = backbone.encode_prompt(config.prompt, config.negative_prompt)
    shape = backbone.latent_shape(config.height, config.width)

    def call(batch: int, latent_frames: int, prompt=prompt) -> int:
        latents = torch.randn(batch, shape[0], latent_frames, *shape[1:], device=backbone.device)
        with FlopCounterMode(display=False) as counter:
            backbone.predict(latents, backbone.max_noise_level, prompt, config.guidance_scale)
        return counter.get_total_flops()

    anchor = torch.randn(1, shape[0], 1, *shape[1:], device=backbone.device)
    video = call(1, backbone.defaults.latent_frames(config.num_frames), backbone.condition(prompt, anchor))
    at_once = min(config.candidate_batch_size, config.num_candidates)
    image = call(at_once, 1) / at_once
    return {
        "candidates": image * config.image_steps(config.num_candidates, has_reward),
        "ni_vsds": video * config.ni_vsds_steps,
        "regeneration": video * config.regeneration_steps,
        "vanilla": video * config.baseline_sampling.steps,
    }


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measures the FLOP/s of large square matrix products: the best of ten."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    best = math.inf
    for _ in range(10):
        start = time.perf_counter()
        (a @ b).sum().item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def peak_memory() -> float:
    """Returns the process's largest resident set so far, in GB. Linux counts in KiB, macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def time_authors(
    checkout: str, python: str, config: GenerationConfig, device: torch.device, dtype: torch.dtype, warm_up: int
) -> dict[str, Any]:
    """Times the authors' implementation of AnimateDiff on a request, see `authors.measure`.

    checkout: Of their repository. python: An interpreter in whose environment their code runs.
    Raises `InvalidInputError` for a request that their code would run differently, and if it cannot run.
    """
    if config.num_candidates != config.num_frames:
        raise InvalidInputError("the authors draw as many candidates as the video has frames: ask for the same")
    if config.num_frames < 16:
        raise InvalidInputError("the authors leave the motion modules out below 16 frames: ask for more")
    spec = {
        "checkout": str(Path(checkout).resolve()),
        "unet": random_weights.UNET,
        "vae": random_weights.VAE,
        "text": [random_weights.TOKENS, random_weights.TEXT_WIDTH],
        "schedule": SCHEDULE,
        "device": str(device),
        "half": dtype == torch.float16,
        "threads": torch.get_num_threads(),
        "warm_up": warm_up,
        "call": {
            "prompt": config.prompt,
            "video_length": config.num_frames,
            "height": config.height,
            "width": config.width,
            "num_inference_steps": config.num_inference_steps,
            "guidance_scale": config.guidance_scale,
            "p_ni_vsds": config.p_ni_vsds,
            "p_re": config.p_re,
        },
    }
    script = Path(__file__).with_name("authors.py")
    done = subprocess.run([python, script], input=json.dumps(spec), capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise InvalidInputError(f"the authors' implementation does not run with {python}: {reason}")
    return json.loads(done.stdout)


def report(args: argparse.Namespace) -> dict:
    """Measures everything. Returns JSON types."""
    device = torch.device(pick_device(args.device))
    runtime = None if args.random_weights else Runtime(args.model, str(device), args.compile)
    config = make_config(args, runtime.defaults if runtime else random_weights.DEFAULTS[args.model])
    authors = None
    if args.authors:  # first, while the device's memory is free
        authors = time_authors(*args.authors, config, device, default_dtype(str(device)), args.warm_up)
    start = time.perf_counter()
    if runtime:
        loaded = []
        list(runtime.stream(lambda made: iter(loaded.append(made) or ())))
        (pipeline,) = loaded
    else:
        pipeline = I4VGenPipeline(random_weights.backbone(args.model, str(device)))
        if args.compile:
            pipeline.backbone.compile()
    loading = time.perf_counter() - start
    for _ in range(args.warm_up):
        measure(pipeline, config)
    costs = measure(pipeline, config)
    seconds = {name: costs[name].seconds for name in STAGES}
    total = sum(seconds.values()) - seconds["vanilla"]
    rate = product_rate(device, pipeline.backbone.dtype)
    return {
        "model": args.model,
        "random_weights": args.random_weights,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": str(pipeline.backbone.dtype).removeprefix("torch."),
        "date": datetime.date.today().isoformat(),
        "threads": torch.get_num_threads(),
        "request": config.to_dict(),
        "loading": loading,
        "stages": {name: asdict(cost) for name, cost in costs.items()},
        "i4vgen_over_vanilla": total / seconds["vanilla"],
        "product_rate": rate,
        "share_of_product_rate": {
            "i4vgen": sum(costs[name].flops for name in STAGES[:3]) / total / rate,
            "vanilla": costs["vanilla"].flops / seconds["vanilla"] / rate,
        },
        "preview_cost": preview_cost(pipeline, config),
        "peak_memory_gb": peak_memory(),
        "authors": authors,
        "authors_over_i4vgen": authors and authors["seconds"] / total,
    }


def show_flops(model: str, config: GenerationConfig) -> None:
    """Prints the FLOPs of a full-size model, counted on the meta device."""
    flops = count_flops(random_weights.backbone(model, "meta"), config, has_reward=True)
    print(f"{model}: {describe(config.to_dict())}")
    for name, count in flops.items():
        print(f"  {name:14} {count / 1e12:10.1f} TFLOP")
    vanilla = flops.pop("vanilla")
    print(f"  I4VGen computes {sum(flops.values()) / vanilla:.2f} times as much as vanilla.")


def describe(request: dict) -> str:
    """Describes a request in words."""
    return (
        f"{request['preset']}, {request['num_candidates']} candidates, {request['num_inference_steps']} steps,"
        f" {request['num_frames']} frames of {request['width']} x {request['height']}"
    )


def make_config(args: argparse.Namespace, defaults: Defaults) -> GenerationConfig:
    """Makes the request of the options."""
    return GenerationConfig.for_model(
        defaults,
        prompt=PROMPT,
        num_candidates=args.candidates,
        num_inference_steps=args.steps,
        num_frames=args.frames,
        height=args.height,
        width=args.width,
        preset=args.preset,
    )


def show(found: dict) -> None:
    """Prints the report as a table."""
    config = found["request"]
    print(
        f"{found['model']}{' (random weights)' if found['random_weights'] else ''} on {found['device']},"
        f" {found['dtype']}, {found['date']}: {describe(config)}"
    )
    print(f"  {'':14} {'seconds':>9} {'TFLOP':>9} {'TFLOP/s':>9} {'GPU GB':>7}")
    for name, cost in found["stages"].items():
        tera = cost["flops"] / 1e12
        memory = "-" if cost["gpu_memory"] is None else f"{cost['gpu_memory'] / 1e9:.1f}"
        print(f"  {name:14} {cost['seconds']:9.2f} {tera:9.2f} {tera / cost['seconds']:9.2f} {memory:>7}")
    share = found["share_of_product_rate"]
    print(f"  I4VGen takes {found['i4vgen_over_vanilla']:.2f} times as long as vanilla.")
    print(
        f"  Matrix products run at {found['product_rate'] / 1e12:.2f} TFLOP/s here; I4VGen reaches"
        f" {share['i4vgen']:.0%} of that, vanilla {share['vanilla']:.0%}."
    )
    print(f"  Previews, as the app shows them, lengthen an animation by {found['preview_cost']:.0%}.")
    print(f"  Loading took {found['loading']:.1f} s, the process {found['peak_memory_gb']:.2f} GB.")
    if authors := found["authors"]:
        print(
            f"  The authors' implementation took {authors['seconds']:.2f} s, {found['authors_over_i4vgen']:.2f}"
            f" times as long (diffusers {authors['diffusers']}, torch {authors['torch']},"
            f" {'with' if authors['xformers'] else 'without'} xformers)."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=default_model(), help="as in python -m i4vgen")
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help=f"at full size without a download: {', '.join(random_weights.MAKERS)}",
    )
    parser.add_argument(
        "--flops", action="store_true", help="only count FLOPs at full size, without weights or timing"
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument("--preset", default="faithful", help="faithful or fast")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--warm-up", type=int, default=1, metavar="N", help="runs before the measured one")
    for name in ("candidates", "steps", "frames", "height", "width"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help="default: the model's")
    parser.add_argument(
        "--authors",
        nargs=2,
        metavar=("CHECKOUT", "PYTHON"),
        help="also time the authors' code, with the interpreter of its environment (see authors.py)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if (args.random_weights or args.flops) and args.model not in random_weights.MAKERS:
        parser.error(f"random weights are for {', '.join(random_weights.MAKERS)}")
    if args.authors and not (args.random_weights and args.model == "animatediff"):
        parser.error("--authors goes with --model animatediff --random-weights")
    try:
        if args.flops:
            return show_flops(args.model, make_config(args, random_weights.DEFAULTS[args.model]))
        found = report(args)
    except InvalidInputError as error:
        parser.error(str(error))
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
