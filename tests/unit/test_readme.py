"""That what the README says is true of this repository, and that its script for Python runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from huggingface_hub import metadata_load
from packaging.specifiers import SpecifierSet

import i4vgen
from i4vgen import catalog

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADER = metadata_load(ROOT / "README.md")


def test_the_space_installs_the_gradio_that_is_tested():
    pinned = re.search(r"^gradio\S*==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M)[1]
    assert (HEADER["sdk"], HEADER["sdk_version"]) == ("gradio", pinned)
    assert (ROOT / HEADER["app_file"]).is_file()
    assert len(HEADER["short_description"]) <= 60


def test_zero_gpu_can_run_the_space():
    """The versions of August 2026, from Hugging Face's documentation."""
    assert HEADER["python_version"] in ("3.10", "3.12")
    (torch,) = re.findall(r"^torch(\S+)$", (ROOT / "requirements.txt").read_text(), re.M)
    assert all(SpecifierSet(torch).contains(f"2.{minor}.0") for minor in range(8, 12))


def test_the_space_loads_beforehand_what_its_default_model_needs():
    preloaded = {}
    for line in HEADER["preload_from_hub"]:
        repo_or_path, files, revision = line.split()
        preloaded[f"{repo_or_path}@{revision}"] = files.split(",")
    wanted = {
        part.repo_or_path: part.files for part in catalog.find(catalog.ModelSpec("animatediff")).downloads
    }
    assert preloaded.keys() == wanted.keys()
    for repo_or_path, files in preloaded.items():
        assert all(any(Path(file).match(pattern) for pattern in wanted[repo_or_path]) for file in files), (
            repo_or_path
        )


def test_every_picture_and_file_that_is_linked_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_its_tables_have_every_model_and_every_reward_with_its_size():
    rows = dict(re.findall(r"^\| `([\w-]+)` \|(.+)\|$", README, re.M))
    for name, entry in {**catalog.MODELS, **catalog.REWARDS}.items():
        assert (f"{entry.download} GB" if entry.download else "| none |") in rows[name], name


CHECKS = """
assert out.frames.ndim == 4 and out.frames.dtype == "uint8" and len(out.candidates) == 4
assert out.anchor.index == max(out.candidates, key=lambda candidate: candidate.score).index
assert event.name == "i4vgen" and event.frames.shape == out.frames.shape
"""


def test_the_script_for_python_runs_as_it_stands(tmp_path):
    scripts = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    (script,) = [script for script in scripts if "from_pretrained" in script]
    call = [sys.executable, "-c", script + CHECKS]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ni_vsds 1 \d+ \d+$", done.stdout, re.M)
    assert (tmp_path / "rocket.gif").is_file()


def test_the_citation_is_that_of_the_readme_and_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.M)[1] == i4vgen.__version__
    entry = dict(re.findall(r"^  (\w+) += \{(.+)\},?$", README, re.M))
    assert f'title: "{entry["title"]}"' in citation
    assert f"journal: {entry['journal']}" in citation
    names = re.findall(r"family-names: (.+)\n +given-names: (.+)", citation)
    assert " and ".join(f"{family}, {given}" for family, given in names) == entry["author"]
