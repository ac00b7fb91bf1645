"""Two things never share a name."""

from __future__ import annotations

import ast

from tests.conftest import ROOT

PACKAGES = ("i4vgen", "pocket", "training", "benchmarks", "deploy")


def test_no_two_classes_share_a_name():
    places: dict[str, list[str]] = {}
    for path in (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert len(places) > 200
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
