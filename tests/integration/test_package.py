"""That the package installs and brings along what it needs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distributions, metadata, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]

USE = """
from i4vgen import bundled
from i4vgen.models import catalog
from i4vgen.serving.runtime import Runtime
from i4vgen.studio.app import build_app

runtime = Runtime("pocket", "cpu")
assert runtime.defaults.num_frames and bundled.ROOT.name == "i4vgen", bundled.ROOT
page = str(build_app(runtime).get_config_file())
assert "opening" in page, "the first screen shows a stored run"
print(bundled.ROOT)
"""


# Of what is for environments of other people's packages, each file says at its top what it needs.
ELSEWHERE = {"benchmarks/authors.py", "benchmarks/evidence/vbench_judge.py", "tests/support/parity_hpsv2.py"}


def packages_distributions() -> dict[str, set[str]]:
    """The distributions that bring a top-level module or package, by its name.

    That of `importlib.metadata` overlooks half of them on Python 3.10.
    """
    found: dict[str, set[str]] = {}
    for distribution in distributions():
        for name in {file.parts[0].partition(".")[0] for file in distribution.files or []}:
            found.setdefault(name, set()).add(distribution.metadata["Name"])
    return found


def imported_by(files: Iterable[Path]) -> dict[str, set[str]]:
    """The distributions that Python files import, at their top or anywhere in them: the files of each."""
    ours = {path.name for path in ROOT.iterdir()} | sys.stdlib_module_names
    ours |= {"tomllib"}  # of the standard library from Python 3.11 on
    known = packages_distributions()
    found: dict[str, set[str]] = {}
    for file in files:
        modules: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module)
        for module in {name.partition(".")[0] for name in modules} - ours:
            for distribution in known.get(module, [module]):
                found.setdefault(canonicalize_name(distribution), set()).add(str(file.relative_to(ROOT)))
    return found


def read_requirements(path: Path) -> list[Requirement]:
    """What a requirements file asks for, with the files that it includes."""
    requirements = []
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            requirements += read_requirements(path.parent / line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            requirements.append(Requirement(line))
    return requirements


def names(requirements: Iterable[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def brought_by_extras(requirements: Iterable[Requirement]) -> set[str]:
    """What comes with the extras that are asked for."""
    return {
        canonicalize_name(part.name)
        for requirement in requirements
        for extra in requirement.extras
        for part in map(Requirement, requires(requirement.name) or [])
        if part.marker and part.marker.evaluate({"extra": extra}) and not part.marker.evaluate({"extra": ""})
    }


def read_project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_requirements_name_what_the_other_folders_import():
    required = read_requirements(ROOT / "requirements.txt") + read_requirements(ROOT / "tests/requirements.txt")
    folders = ("tests", "benchmarks", "pocket", "training")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    imported = imported_by(file for file in files if str(file.relative_to(ROOT)) not in ELSEWHERE)
    declared = names(required) | brought_by_extras(required)
    undeclared = {name: files for name, files in imported.items() if name not in declared}
    assert not undeclared, "imported, but in no requirements.txt"


@pytest.mark.parametrize("what", ["app", "tests"])
def test_the_pinned_versions_are_among_those_that_the_package_allows(what):
    project = read_project()
    if what == "app":
        pinned, allowed = read_requirements(ROOT / "requirements.txt"), project["dependencies"]
    else:
        pinned = read_requirements(ROOT / "tests/requirements.txt")
        allowed = project["optional-dependencies"]["test"]
    ranges = {r.name: r for r in map(Requirement, allowed)}
    assert ranges.keys() == {r.name for r in pinned}
    for requirement in pinned:
        allowed = ranges[requirement.name]
        assert (allowed.extras, allowed.marker) == (requirement.extras, requirement.marker)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        installed = version(requirement.name).partition("+")[0]
        assert requirement.specifier.contains(installed), f"{requirement} is not what is installed"
        assert allowed.specifier.contains(installed), requirement.name


def test_the_pinned_versions_install_on_the_oldest_python_that_the_package_allows():
    (oldest,) = [bound.version for bound in SpecifierSet(read_project()["requires-python"])]
    required = read_requirements(ROOT / "requirements.txt") + read_requirements(ROOT / "tests/requirements.txt")
    pins = [r for r in required if not r.marker and any(bound.operator == "==" for bound in r.specifier)]
    assert pins
    for requirement in pins:
        wanted = metadata(requirement.name)["Requires-Python"] or ""
        assert SpecifierSet(wanted).contains(oldest), f"{requirement.name} wants Python {wanted}"


@pytest.mark.slow
def test_the_wheel_runs_from_any_folder(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "GRADIO_ANALYTICS_ENABLED": "False"}

    def python(*arguments: str, folder: Path = tmp_path) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    python("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist"), folder=ROOT)
    (wheel,) = (tmp_path / "dist").glob("i4vgen-*.whl")
    python("-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    assert python("-c", USE).strip() == str(tmp_path / "site" / "i4vgen")
    assert (tmp_path / "site" / "bin" / "i4vgen").is_file() and (tmp_path / "site/i4vgen/py.typed").is_file()
