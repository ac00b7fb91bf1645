"""VBench's own networks as the judge, for models of the real world. In an environment that has `vbench`:

    python -m benchmarks.evidence.vbench_judge runs/evidence

`vbench` pins transformers and NumPy to versions that this project cannot run on, so it gets an environment of
its own, and this file imports nothing of the project. The videos lie on the disk between the two: what the
evidence command has written, `OUT/videos/METHOD/*.mp4` and `OUT/videos/prompts.json`, is judged here into
`OUT/vbench/METHOD_eval_results.json`, which the evidence command reads.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path

# Of VBench's dimensions, those that it measures on any prompt.
DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "temporal_flickering",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
    "overall_consistency",
)


def results_file(out: Path, method: str) -> Path:
    return out / "vbench" / f"{method}_eval_results.json"


def evaluate(out: Path, dimensions: list[str], device: str) -> None:
    """Judges the videos of every method. Networks that are missing are downloaded by `vbench`."""
    import vbench

    prompts = json.loads((out / "videos" / "prompts.json").read_text())
    details = Path(vbench.__file__).parent / "VBench_full_info.json"
    judge = vbench.VBench(device, str(details), str(out / "vbench"))
    for folder in sorted(path for path in (out / "videos").iterdir() if path.is_dir()):
        judge.evaluate(
            videos_path=str(folder),
            name=folder.name,
            prompt_list={file.name: prompts[file.name] for file in folder.glob("*.mp4")},
            dimension_list=dimensions,
            mode="custom_input",
        )


def read_results(out: Path, method: str) -> dict[str, dict[str, float]]:
    """By video file: its figures, of VBench's dimensions."""
    figures: dict[str, dict[str, float]] = {}
    for dimension, (_, videos) in json.loads(results_file(out, method).read_text()).items():
        for video in videos:
            value = float(video["video_results"])
            name = os.path.basename(video["video_path"])
            figures.setdefault(name, {})[dimension] = value if math.isfinite(value) else 0.0
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.vbench_judge", description=__doc__)
    parser.add_argument("out", type=Path, help="the --out of the evidence command")
    parser.add_argument("--dimensions", default=",".join(DIMENSIONS), help="comma-separated (default all)")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    evaluate(args.out, args.dimensions.split(","), args.device)


if __name__ == "__main__":
    main()
