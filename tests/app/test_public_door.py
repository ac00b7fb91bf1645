"""Gradio is used through its public API: nothing of it is replaced, and nothing private is touched."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

EXCEPTIONS = ROOT / "i4vgen" / "studio" / "upstream.py"
"""What has no public way, in at most 60 lines."""

DOCUMENTED = {"gradio", "gradio.components", "gradio.events", "gradio.themes.utils"}
"""Modules that Gradio's documentation imports from."""

LOOK = """
import json, sys
import gradio, gradio.queueing, gradio.block_function, gradio.routes, gradio.state_holder, gradio_client

def classes():
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0].startswith("gradio")]
    return {each for module in modules for each in vars(module).values() if isinstance(each, type)
            and each.__module__.split(".")[0].startswith("gradio")}

def state(kinds):
    return {f"{kind.__module__}.{kind.__qualname__}.{name}": id(value)
            for kind in kinds for name, value in vars(kind).items()
            if not name.startswith(("__", "_abc_")) and callable(value)}

known = classes()
before = state(known)
with gradio.Blocks(analytics_enabled=False) as plain:
    gradio.Textbox()
plain.queue()

import i4vgen.studio.app
from i4vgen.serving.runtime import Runtime

demo = i4vgen.studio.app.build_app(Runtime("pocket"))
after = state(known)

def added(ours, others):
    return sorted(vars(ours).keys() - vars(others).keys()) + sorted(
        name for name, value in vars(ours).items()
        if callable(value) and name in vars(others) and type(value) is not type(vars(others)[name]))

def heirs(kind):
    return [f"{each.__module__}.{each.__name__}" for each in kind.__subclasses__()
            if each.__module__.startswith("i4vgen")]

print(json.dumps({
    "classes": sorted(name for name in before if before[name] != after.get(name)),
    "blocks": added(demo, plain),
    "queue": added(demo._queue, plain._queue),
    "functions": sorted({name for each in demo.fns.values() for name in vars(each)}
                        - {name for each in plain.fns.values() for name in vars(each)}) if plain.fns else [],
    "heirs": [heir for kind in (gradio.Blocks, gradio.queueing.Queue, gradio.routes.App,
              gradio.block_function.BlockFunction, gradio.state_holder.SessionState) for heir in heirs(kind)],
    "kind of messages": type(demo._queue.pending_messages_per_session).__module__,
    "heartbeat": demo.get_config_file()["connect_heartbeat"],
}))
"""


def test_building_the_app_replaces_nothing_of_gradios():
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["classes"] == found["queue"] == found["functions"] == found["heirs"] == []
    assert found["blocks"] == ["call_function", "preprocess_data"], "see studio/upstream.py"
    assert found["kind of messages"].startswith("gradio") and found["heartbeat"] is False


def gradio_files() -> list[Path]:
    return [path for path in (ROOT / "i4vgen").rglob("*.py") if path != EXCEPTIONS]


@pytest.mark.parametrize("path", gradio_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_what_gradio_documents_is_imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            assert not (node.module.startswith("gradio") and private)
        for name in names:
            assert not name.startswith("gradio") or name in DOCUMENTED, f"{name} is not documented"


@pytest.mark.parametrize("path", gradio_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_private_of_the_page_is_touched(path):
    if "studio" not in path.parts:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = ast.unparse(node.value)
            assert owner in ("self", "cls"), f"{owner}.{node.attr}"


def test_the_exceptions_are_few_and_say_why():
    text = EXCEPTIONS.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60 and "Checked with Gradio" in text and "issue" in text
