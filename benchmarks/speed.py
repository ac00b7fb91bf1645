"""How long I4VGen takes beside the model that it builds on, and how much memory: `python -m benchmarks.speed`.

    python -m benchmarks.speed                                   # the pocket model
    python -m benchmarks.speed --model animatediff --random-weights --preset fast

Runs candidates, NI-VSDS, regeneration and the vanilla video through the pipeline that the product runs,
decoding included, files not. Loading is counted apart. FLOPs are counted in the networks' own calls; the rate
beside which they are put is that of large matrix products, measured on the same device in the same precision.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import resource
import sys
import time
from dataclasses import asdict, dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import random_weights
from i4vgen.catalog import default_model
from i4vgen.events import Candidate, Result, Stage
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.request import Request
from i4vgen.runtime import Runtime, pick_device

PROMPT = "a rocket rising in a starry night"
STAGES = ("candidates", "ni_vsds", "regeneration", "vanilla")


@dataclass
class Cost:
    """What one stage took: seconds, FLOPs of the denoiser, and the most memory on the GPU, in bytes."""

    seconds: float
    flops: float
    gpu_memory: int | None


def measure(pipeline: I4VGenPipeline, request: Request) -> dict[str, Cost]:
    """One run, stage by stage."""
    flops = count_flops(pipeline, request)
    cuda = pipeline.backbone.device.type == "cuda"
    costs, stage, start = {}, "", 0.0
    for event in pipeline.run(request, None if pipeline.rewards else 0):
        if isinstance(event, Stage):
            stage, start = event.name, time.perf_counter()
            if cuda:
                torch.cuda.reset_peak_memory_stats()
        elif isinstance(event, (Candidate, Result)):  # its pictures are in the computer's memory: all is done
            memory = torch.cuda.max_memory_allocated() if cuda else None
            costs[stage] = Cost(time.perf_counter() - start, flops[stage], memory)
    return costs


@torch.inference_mode()
def count_flops(pipeline: I4VGenPipeline, request: Request) -> dict[str, float]:
    """FLOPs of the denoiser per stage: those of one call times the number of calls. Also warms up."""
    backbone = pipeline.backbone
    prompt = backbone.encode_prompt(request.prompt, request.negative_prompt)
    shape = backbone.latent_shape(request.height, request.width)

    def call(batch: int, num_frames: int, prompt=prompt) -> int:
        latents = torch.randn(batch, shape[0], num_frames, *shape[1:], device=backbone.device)
        with FlopCounterMode(display=False) as counter:
            backbone.predict_noise(latents, 500, prompt, request.guidance_scale)
        return counter.get_total_flops()

    anchor = torch.randn(1, shape[0], 1, *shape[1:], device=backbone.device)
    video = call(1, request.num_frames, backbone.condition(prompt, anchor))
    image = call(min(request.candidate_batch_size, request.num_candidates), 1)
    chunks = request.num_candidates / min(request.candidate_batch_size, request.num_candidates)
    return {
        "candidates": image * chunks * request.sampling.steps,
        "ni_vsds": video * request.ni_vsds_steps,
        "regeneration": video * request.regeneration_steps,
        "vanilla": video * request.baseline_sampling.steps,
    }


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of large square matrix products: the best of some."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    best = math.inf
    for _ in range(10):
        start = time.perf_counter()
        (a @ b).sum().item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def peak_memory() -> float:
    """The process's largest resident set so far, in GB. Linux counts in KiB, macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def report(args: argparse.Namespace) -> dict:
    """Everything that is measured, as JSON types."""
    device = torch.device(pick_device(args.device))
    start = time.perf_counter()
    if args.random_weights:
        pipeline = I4VGenPipeline(random_weights.backbone(args.model, str(device)))
        if args.compile:
            pipeline.backbone.compile()
    else:
        runtime, loaded = Runtime(args.model, str(device), args.compile), []
        list(runtime.stream(lambda made: iter(loaded.append(made) or ())))
        (pipeline,) = loaded
    loading = time.perf_counter() - start
    defaults = pipeline.backbone.defaults
    request = Request.for_model(
        defaults,
        prompt=PROMPT,
        num_candidates=args.candidates,
        num_inference_steps=args.steps,
        num_frames=args.frames,
        height=args.height,
        width=args.width,
        preset=args.preset,
    )
    for _ in range(args.warm_up):
        measure(pipeline, request)
    costs = measure(pipeline, request)
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
        "request": request.to_dict(),
        "loading": loading,
        "stages": {name: asdict(cost) for name, cost in costs.items()},
        "i4vgen_over_vanilla": total / seconds["vanilla"],
        "product_rate": rate,
        "share_of_product_rate": {
            "i4vgen": sum(costs[name].flops for name in STAGES[:3]) / total / rate,
            "vanilla": costs["vanilla"].flops / seconds["vanilla"] / rate,
        },
        "peak_memory_gb": peak_memory(),
    }


def show(found: dict) -> None:
    """The report as a table."""
    request = found["request"]
    print(
        f"{found['model']}{' (random weights)' if found['random_weights'] else ''} on {found['device']},"
        f" {found['dtype']}, {found['date']}: {request['preset']}, {request['num_candidates']} candidates,"
        f" {request['num_inference_steps']} steps, {request['num_frames']} frames of {request['width']} x"
        f" {request['height']}"
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
    print(f"  Loading took {found['loading']:.1f} s, the process {found['peak_memory_gb']:.2f} GB.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=default_model(), help="as in python -m i4vgen")
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help=f"at full size without a download: {', '.join(random_weights.MAKERS)}",
    )
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument("--preset", default="faithful", help="faithful or fast")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--warm-up", type=int, default=1, metavar="N", help="runs before the one that counts")
    for name in ("candidates", "steps", "frames", "height", "width"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help="default: the model's")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.random_weights and args.model not in random_weights.MAKERS:
        parser.error(f"random weights are for {', '.join(random_weights.MAKERS)}")
    found = report(args)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
