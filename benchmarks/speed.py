"""How long the default command takes and how much memory: `python -m benchmarks.speed`.

Runs 16 candidates, NI-VSDS, the regeneration and the vanilla video through the pipeline that the product
runs. Loading the model is counted apart. Peak memory is the resident set of the whole process, Python and
torch included.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time

import torch

from i4vgen.media import RunFolder
from i4vgen.request import Request
from i4vgen.runtime import Runtime

PROMPT = "a rocket rising in a starry night"


def peak_memory() -> float:
    """The process's largest resident set so far, in GB. Linux counts in KiB, macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measure(model: str, device: str | None, **given) -> dict:
    """Seconds per stage, total seconds, and peak memory in GB of one run with `--compare vanilla`."""
    start = time.perf_counter()
    runtime = Runtime(model, device)
    request = Request.for_model(runtime.defaults, prompt=PROMPT, **given)
    seconds = {}
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(place)
        for event in runtime.stream(lambda pipeline: pipeline.run(request, compare=("vanilla",))):
            if not seconds:
                seconds["loading"] = time.perf_counter() - start
            folder.record(event)
        seconds |= folder.seconds
    report = {
        "request": request.to_dict(),
        **runtime.describe(),
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "total_seconds": time.perf_counter() - start,
        "peak_memory_gb": peak_memory(),
    }
    if runtime.device.startswith("cuda"):
        report["peak_gpu_memory_gb"] = torch.cuda.max_memory_allocated(runtime.device) / 1e9
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket", help="as in python -m i4vgen")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument("--candidates", type=int, metavar="N", help="default 16")
    parser.add_argument("--steps", type=int, metavar="N", help="default: the model's")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    report = measure(args.model, args.device, num_candidates=args.candidates, num_inference_steps=args.steps)
    if args.json:
        print(json.dumps(report, indent=2))
        return
    request = report["request"]
    print(f"{args.model} on {report['device']} ({report['dtype']}, {report['threads']} CPU threads):")
    print(
        f"{request['num_candidates']} candidates, {request['num_inference_steps']} steps,"
        f" {request['num_frames']} frames of {request['width']} x {request['height']}"
    )
    for stage, seconds in report["seconds"].items():
        print(f"  {stage:14} {seconds:8.2f} s")
    print(f"  {'total':14} {report['total_seconds']:8.2f} s")
    print(f"  {'peak memory':14} {report['peak_memory_gb']:8.2f} GB")
    if "peak_gpu_memory_gb" in report:
        print(f"  {'on the GPU':14} {report['peak_gpu_memory_gb']:8.2f} GB")


if __name__ == "__main__":
    main()
