"""Makes the stored runs that the app's page opens with: `python -m benchmarks.showcase`.

Each entry of examples.json with a run is drawn, animated and written to the path of that run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from i4vgen import metrics
from i4vgen.config import GenerationConfig
from i4vgen.events import Result, Selected
from i4vgen.serving.runtime import Runtime
from i4vgen.storage.runs import RunFolder

ROOT = Path(__file__).resolve().parents[1]
COMPARE = ("vanilla",)


def make(runtime: Runtime, prompt: str, seed: int, path: Path) -> None:
    """Makes one packed run: candidates, the anchor with the highest reward, all videos and their metrics."""
    config = GenerationConfig.for_model(runtime.defaults, prompt=prompt, seed=seed)
    with tempfile.TemporaryDirectory() as repo_or_path:
        folder = RunFolder(repo_or_path)
        results: list[Result] = []
        for event in runtime.stream(lambda pipeline: pipeline.run(config, compare=COMPARE, judge=True)):
            folder.record(event)
            match event:
                case Selected():
                    anchor = event.image
                case Result():
                    results.append(event)
        measured = {r.name: metrics.measure(r.frames, anchor, r.scores, r.steadiness) for r in results}
        figures = {name: measures.to_dict() for name, measures in measured.items()}
        folder.finish(config, COMPARE, runtime.describe() | {"measures": figures})
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.pack(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    args = parser.parse_args()
    runtime = Runtime(args.model)
    for example in json.loads((ROOT / "examples.json").read_text(encoding="utf-8")):
        if "run" in example:
            path = ROOT / example["run"]
            make(runtime, example["prompt"], example["seed"], path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
