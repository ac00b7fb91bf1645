"""The notebook runs from its first to its last cell, with the pocket model and few steps."""

from __future__ import annotations

import os
import re
from tempfile import TemporaryDirectory

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOK = ROOT / "notebooks" / "i4vgen.ipynb"
SMALL = """
MODEL = "pocket"
SETTINGS |= {"num_candidates": 3, "num_inference_steps": 2}
"""
LARGEST_OUTPUT = 200_000  # bytes


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_its_committed_outputs_are_small(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert len(nbformat.v4.writes(nbformat.v4.new_notebook()) + str(outputs)) <= LARGEST_OUTPUT


@pytest.mark.slow
def test_it_runs_with_the_pocket_model(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # in place of the installation
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    (place,) = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(SMALL))
    resources = {"metadata": {"path": str(tmp_path)}}
    patience = dict.fromkeys(("timeout", "startup_timeout", "iopub_timeout"), 600)
    with TemporaryDirectory(dir="/tmp") as sockets:  # whose paths have to be short
        client = NotebookClient(notebook, kernel_name="python3", resources=resources, **patience)
        manager = client.create_kernel_manager()
        manager.connection_file = f"{sockets}/kernel.json"
        manager.transport = "ipc"  # a free port may be taken before the kernel has it
        client.execute()

    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert re.search(r"pocket on \w+, memory mode full", printed)
    assert "(the anchor)" in printed and "after: subject consistency" in printed
    assert "picked" in printed
    assert (tmp_path / "before_after.webp").stat().st_size > 0
