"""The README and docs/: links resolve, tables match the catalogue, scripts run."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import metadata_load
from packaging.specifiers import SpecifierSet

import i4vgen
from i4vgen.models import catalog

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *ROOT.glob("*/README.md"),
    *ROOT.glob("assets/*/README.md"),
]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_tests_that_documents_name_are_there():
    tests = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    for page in PAGES:
        for cell in page.read_text(encoding="utf-8").split("|"):
            folder = ""
            for path in re.findall(r"`((?:tests/\w+/)?(?:test_[a-z_]+|parity)\.py)`", cell):
                folder = path.rpartition("/")[0] or folder  # a name alone is in the folder of the one before it
                assert f"{folder}/{Path(path).name}" in tests, (page.name, path)


def anchors(page: Path) -> set[str]:
    """What links can name in a page: its headings, as GitHub and MkDocs spell them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert README.count("\n") <= 180


def test_every_page_is_listed():
    index, nav = (ROOT / "docs/index.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name in nav, page.name
        assert page.name in index or page.name in ("index.md", "reference.md"), page.name


@pytest.mark.parametrize("page", ["README.md", "docs/models.md"])
def test_tables_have_every_model_and_every_reward_with_its_size(page):
    rows = dict(re.findall(r"^\| `([\w-]+)` \|(.+)\|$", (ROOT / page).read_text(encoding="utf-8"), re.M))
    for name, entry in {**catalog.MODELS, **catalog.REWARDS}.items():
        assert (f"{entry.download} GB" if entry.download else "| none |") in rows[name], name


CHECKS = """
assert out.frames.ndim == 4 and out.frames.dtype == "uint8" and len(out.candidates) == 4
assert out.anchor.index == max(out.candidates, key=lambda candidate: candidate.score).index
assert event.name == "i4vgen" and event.frames.shape == out.frames.shape
"""


def script_of(page: str) -> str:
    """The only block of Python in a page."""
    (script,) = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    return script


@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/http-api.md"])
def test_what_the_scripts_import_is_there(page):
    for node in ast.walk(ast.parse(script_of(page))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), {})


@pytest.mark.slow
def test_the_script_for_python_runs_as_it_stands(tmp_path):
    call = [sys.executable, "-c", script_of("docs/python.md") + CHECKS]
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


@pytest.mark.slow
def test_the_python_of_the_quick_start_runs_as_it_stands(tmp_path):
    script = script_of("README.md")
    check = 'assert out.frames.dtype == "uint8" and set(out.videos) >= {"i4vgen", "vanilla"}\n'
    done = subprocess.run(
        [sys.executable, "-c", script + check],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
