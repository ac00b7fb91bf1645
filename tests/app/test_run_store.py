"""Where finished runs are kept, and the link that brings one back."""

from __future__ import annotations

import os

import gradio as gr
import numpy as np
import pytest

from i4vgen.ui.context import AppContext
from i4vgen.ui.form import from_query
from i4vgen.ui.panels.history import HistoryPanel, entry
from i4vgen.ui.run_store import RunStore


def write(text: str):
    return lambda path: path.write_text(text)


def test_a_run_is_found_by_its_token_and_by_nothing_else(tmp_path):
    run_store = RunStore(tmp_path / "runs")
    token = run_store.keep(write("one"))
    assert (
        run_store.path(token).read_text() == "one" and run_store.path(run_store.keep(write("two"))) is not None
    )
    (tmp_path / "secret.zip").write_text("not a run")
    for wrong in (None, "", "x" * 16, "../secret", token + "/", 7, ["a"]):
        assert run_store.path(wrong) is None
        assert run_store.open(wrong) is None


def test_the_oldest_runs_go(tmp_path, monkeypatch):
    monkeypatch.setattr("i4vgen.ui.run_store.KEEP", 2)
    run_store, tokens = RunStore(tmp_path), []
    for made_at in (10, 20, 30):
        tokens.append(run_store.keep(write("run")))
        os.utime(run_store.path(tokens[-1]), (made_at, made_at))
    assert [run_store.path(token) is not None for token in tokens] == [False, True, True]


def test_a_run_that_cannot_be_packed_leaves_nothing(tmp_path):
    def broken(path):
        path.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        RunStore(tmp_path).keep(broken)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_read_as_the_form_wants_it():
    given, bad = from_query(
        {"prompt": "a cat", "seed": "7", "p_re": "0.5", "compare": "vanilla,freeinit", "rewards": "", "x": "1"}
    )
    assert given == {
        "prompt": "a cat",
        "seed": 7,
        "p_re": 0.5,
        "compare": ["vanilla", "freeinit"],
        "rewards": [],
    }
    assert bad == []
    wrong = {"seed": "9" * 30, "num_frames": "8.5", "p_re": "nan", "preset": "x", "compare": "vanilla,x"}
    assert from_query(wrong) == ({}, ["seed", "num_frames", "p_re", "preset", "compare"])


def test_what_a_browser_remembers_may_be_damaged(runtime, tmp_path):
    with gr.Blocks():
        panel = HistoryPanel(AppContext(runtime, RunStore(tmp_path)))
    good = entry("token", np.zeros((8, 8, 3), np.uint8), {"prompt": "a", "seed": 1, "model": "pocket"})
    for bad in (["x"], [{"run": "x"}], [good | {"picture": "?"}], [good | {"settings": None}], "text", None):
        assert panel.show_memory(bad)[panel.memory] == []
    assert panel.show_memory(["x", good])[panel.memory] == [good]
