"""What a new parameter costs: one field. Everything that people set a run with follows from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FIELD = """    sharpness: float = parameter(
        0.5, label="Sharpness", help="How crisp edges are.", low=0, high=1, slider=(0, 1, 0.1)
    )
    candidate_batch_size: int"""

LOOK = """
import contextlib, io, json
from i4vgen.cli.main import main
from i4vgen.config import GenerationConfig
from i4vgen.serving.runtime import Runtime
from i4vgen.studio.app import build_app
from i4vgen.studio.form import from_query

with contextlib.redirect_stdout(io.StringIO()) as usage, contextlib.suppress(SystemExit):
    main(["--help"])
runtime = Runtime("pocket")
demo = build_app(runtime)
endpoints = demo.get_api_info()["named_endpoints"]
print(json.dumps({
    "usage": usage.getvalue(),
    "page": [block["props"].get("label") for block in demo.get_config_file()["components"]],
    "endpoints": {name: [p["parameter_name"] for p in e["parameters"]] for name, e in endpoints.items()},
    "run": GenerationConfig.for_model(runtime.defaults, prompt="a car", sharpness=0.25).to_dict(),
    "link": from_query({"sharpness": "0.7"}),
}))
"""


def test_a_new_parameter_is_one_field(tmp_path):
    shutil.copytree(ROOT / "i4vgen", tmp_path / "i4vgen", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("assets", "examples.json"):
        os.symlink(ROOT / name, tmp_path / name)
    file = tmp_path / "i4vgen" / "config.py"
    source = file.read_text(encoding="utf-8")
    assert source.count("    candidate_batch_size: int = parameter") == 1
    file.write_text(source.replace("    candidate_batch_size: int = parameter", f"{FIELD} = parameter"))

    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    assert "--sharpness" in seen["usage"] and "How crisp edges are." in seen["usage"]
    assert "Sharpness" in seen["page"] and seen["run"]["sharpness"] == 0.25
    assert seen["link"] == [{"sharpness": 0.7}, []]
    assert all("sharpness" in seen["endpoints"][name] for name in ("/candidates", "/generate"))
