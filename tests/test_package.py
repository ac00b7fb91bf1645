"""That the package installs and brings along what it needs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]

USE = """
from i4vgen import bundled, catalog
from i4vgen.runtime import Runtime
from i4vgen.ui import build_app

runtime = Runtime("pocket", "cpu")
assert runtime.defaults.num_frames and bundled.ROOT.name == "i4vgen", bundled.ROOT
page = str(build_app(runtime).get_config_file())
assert "opening" in page, "the first screen shows a stored run"
print(bundled.ROOT)
"""


def test_the_pinned_versions_are_among_those_that_the_package_allows():
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    ranges = {r.name: r for r in map(Requirement, allowed)}
    assert ranges.keys() == {r.name for r in pinned}
    for requirement in pinned:
        installed = version(requirement.name).partition("+")[0]
        assert requirement.specifier.contains(installed), f"{requirement} is not what is installed"
        assert ranges[requirement.name].specifier.contains(installed), requirement.name
        assert ranges[requirement.name].extras == requirement.extras


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


def imports_of(file: Path) -> set[str]:
    """The modules that a file imports, and what it takes from them: `i4vgen.ui.strings`, `gradio`."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_module_imports_against_the_arrows():
    below = [file for file in (ROOT / "i4vgen").rglob("*.py") if "ui" not in file.relative_to(ROOT).parts]
    plain = [ROOT / "i4vgen" / "ui" / name for name in ("state.py", "form.py", "captions.py", "models.py")]
    for file in below + plain:
        assert not any(name.split(".")[0] == "gradio" for name in imports_of(file)), file
    for file in (ROOT / "i4vgen" / "ui").rglob("*.py"):
        if file.name != "app.py":
            assert not any(name.startswith("i4vgen.ui.panels") for name in imports_of(file)), file
