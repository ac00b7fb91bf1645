"""That the README tells Hugging Face Spaces what is true of this repository."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from i4vgen import catalog

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADER = yaml.safe_load(README.split("---")[1])


def test_the_space_installs_the_gradio_that_is_tested():
    pinned = re.search(r"^gradio\S*==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M)[1]
    assert (HEADER["sdk"], HEADER["sdk_version"]) == ("gradio", pinned)
    assert (ROOT / HEADER["app_file"]).is_file()
    assert len(HEADER["short_description"]) <= 60


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
