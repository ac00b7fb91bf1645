"""Where finished runs are kept, and the link that brings one back."""

from __future__ import annotations

import os

import gradio as gr
import numpy as np
import pytest

from i4vgen.ui import shelf
from i4vgen.ui.library import Library
from i4vgen.ui.link import from_query


def write(text: str):
    return lambda path: path.write_text(text)


def test_a_run_is_found_by_its_token_and_by_nothing_else(tmp_path):
    library = Library(tmp_path / "runs")
    token = library.keep(write("one"))
    assert library.path(token).read_text() == "one" and library.path(library.keep(write("two"))) is not None
    (tmp_path / "secret.zip").write_text("not a run")
    for wrong in (None, "", "x" * 16, "../secret", token + "/", 7, ["a"]):
        assert library.path(wrong) is None
        assert library.open(wrong) is None


def test_the_oldest_runs_go(tmp_path, monkeypatch):
    monkeypatch.setattr("i4vgen.ui.library.KEEP", 2)
    library, tokens = Library(tmp_path), []
    for made_at in (10, 20, 30):
        tokens.append(library.keep(write("run")))
        os.utime(library.path(tokens[-1]), (made_at, made_at))
    assert [library.path(token) is not None for token in tokens] == [False, True, True]


def test_a_run_that_cannot_be_packed_leaves_nothing(tmp_path):
    def broken(path):
        path.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        Library(tmp_path).keep(broken)
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


def test_what_a_browser_remembers_may_be_damaged():
    with gr.Blocks():
        panel = shelf.build()
    good = shelf.entry("token", np.zeros((8, 8, 3), np.uint8), {"prompt": "a", "seed": 1, "model": "pocket"})
    for bad in (["x"], [{"run": "x"}], [good | {"picture": "?"}], [good | {"settings": None}], "text", None):
        assert shelf.show_memory(panel, bad)[panel.memory] == []
    assert shelf.show_memory(panel, ["x", good])[panel.memory] == [good]
