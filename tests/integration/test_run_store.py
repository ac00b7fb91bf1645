"""Where finished runs are kept, and the link that brings one back."""

from __future__ import annotations

import base64
import errno
import multiprocessing
import os
import subprocess
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NoReturn

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError, StorageError
from i4vgen.events import Candidate, Selected
from i4vgen.models.catalog import ModelSpec
from i4vgen.serving.budget import Budget
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.storage.run_store import SAFE_FOR, RunStore, StoreFullError
from i4vgen.storage.runs import RunFolder, open_run
from i4vgen.studio import files, pictures
from i4vgen.studio.context import AppContext
from i4vgen.studio.form import FIELDS, OWN, Form, from_query
from i4vgen.studio.panels.history import HistoryPanel
from i4vgen.studio.remembering import REMEMBER, remembered_run
from i4vgen.studio.session import Session
from i4vgen.studio.state import Animation, AnimationSet, CandidateSet, Clip
from tests.conftest import ROOT
from tests.support.waiting import PATIENCE, wait_until


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


@pytest.mark.parametrize("folder", ["", "unowned"])
def test_runs_of_earlier_versions_open(tmp_path, folder):
    """Version 0.1 kept runs in the root; later ones kept those without an owner in a folder of their own."""
    token = RunStore.new_token()
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / f"{token}.zip").write_text("earlier")
    run_store = RunStore(tmp_path)
    assert run_store.path(token).read_text() == "earlier"
    later = run_store.keep(write("later"))
    assert run_store.path(later).parent == tmp_path and len(run_store.runs()) == 2


def test_the_oldest_runs_go(tmp_path, monkeypatch):
    monkeypatch.setattr("i4vgen.storage.run_store.KEEP", 2)
    run_store, tokens = RunStore(tmp_path), []
    for made_at in (10, 20, 30):
        tokens.append(run_store.keep(write("run")))
        os.utime(run_store.path(tokens[-1]), (made_at, made_at))
    assert [run_store.path(token) is not None for token in tokens] == [False, True, True]


def test_the_visitor_with_most_runs_makes_room_first(tmp_path, monkeypatch):
    monkeypatch.setattr("i4vgen.storage.run_store.KEEP_BYTES", 1000)
    run_store, long_ago = RunStore(tmp_path), time.time() - SAFE_FOR - 1

    def keep(owner: str, size: int, old: bool = False) -> str:
        token = run_store.keep(lambda path: path.write_bytes(bytes(size)), owner)
        if old:
            os.utime(run_store.path(token), (long_ago, long_ago))
        return token

    modest, *hog = keep("modest", 200, old=True), keep("hog", 300, old=True), keep("hog", 300)
    keep("new", 400)
    assert [run_store.path(token) is not None for token in (modest, *hog)] == [True, False, True]
    keep("new", 100)
    assert run_store.path(modest), "it fits"
    with pytest.raises(StoreFullError):
        keep("other", 700)  # for which the hog's young run would have to go
    assert run_store.path(hog[1]) and run_store.path(modest), "nothing goes in vain"
    keep("hog", 500)
    assert not run_store.path(hog[1]), "one's own may go at any age"


def test_a_server_that_was_killed_leaves_nothing_behind(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from i4vgen.storage.run_store import RunStore\n"
        "store = RunStore(Path(sys.argv[1])); store.keep(lambda path: path.write_text('whole'))\n"
        "store.keep(lambda path: (path.write_text('half'), os.kill(os.getpid(), 9)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -9 and len(list(tmp_path.glob("draft-*/*"))) == 1
    with RunStore(tmp_path).workspace() as folder:
        assert folder.is_dir() and len(list(tmp_path.glob("draft-*"))) == 1, "the one under way"
    store = RunStore(tmp_path)
    assert [run.path.read_text() for run in store.runs()] == ["whole"]


def full_disk(path: Path) -> NoReturn:
    path.write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_run_that_cannot_be_packed_leaves_nothing(tmp_path):
    with pytest.raises(StorageError, match="make room on the disk"):
        RunStore(tmp_path).keep(full_disk)
    assert list(tmp_path.iterdir()) == []


def keep_for_ever(root: Path, told: Path, config: GenerationConfig, begun: Event) -> None:
    """Keeps one run after the other and writes down which are finished."""
    begun.set()
    store, image = RunStore(root), np.zeros((config.height, config.width, 3), np.uint8)
    with told.open("a") as file:
        while True:
            with store.workspace() as path:
                folder = RunFolder(path)
                for index in range(3):
                    folder.record(Candidate(index, image, {"own": 0.5}, np.zeros((4, 1, 8, 8), np.float32)))
                folder.finish(config, [], {"model": "pocket"})
                print(store.keep(folder.pack), file=file, flush=True)


@pytest.mark.slow
def test_after_kills_at_any_moment_every_finished_run_is_there_and_no_broken_one(
    tmp_path, make_config, monkeypatch
):
    monkeypatch.setattr("i4vgen.storage.run_store.KEEP", 100_000)
    root, told = tmp_path / "runs", tmp_path / "told"
    told.touch()
    rng, fork = np.random.default_rng(0), multiprocessing.get_context("fork")

    def finished() -> list[str]:
        return [line for line in told.read_text().splitlines() if len(line) == 16]

    for kill in range(50):
        begun, before = fork.Event(), len(finished())
        process = fork.Process(target=keep_for_ever, args=(root, told, make_config(), begun))
        process.start()
        assert begun.wait(PATIENCE)
        if kill % 5 == 0:  # on a slow machine, none is finished by itself before a kill
            wait_until(lambda before=before: len(finished()) > before)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
    store = RunStore(root)
    assert not list(root.glob("draft-*"))
    assert len(finished()) >= 10
    for token in finished():
        assert len(store.open(token).candidates()) == 3
    for run in store.runs():
        assert len(open_run(run.path).candidates()) == 3


def test_files_of_pages_go_by_age_and_by_size_and_runs_stay(tmp_path):
    store = RunStore(tmp_path / "runs")
    kept = store.path(store.keep(write("run")))

    def file(name: str, size: int) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))
        return path

    first, second, third = (file(f"{name}/video.mp4", 100) for name in "abc")
    files.sweep(tmp_path, store.root, age=3600, most=300)
    assert first.exists() and second.exists() and third.exists()
    files.sweep(tmp_path, store.root, age=3600, most=250)
    assert not first.exists() and third.exists()
    (tmp_path / "link").symlink_to(kept)
    files.sweep(tmp_path, store.root, age=0, most=300)
    assert not any(path.is_file() for path in tmp_path.rglob("*") if store.root not in path.parents)
    assert kept.read_text() == "run"


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


def test_a_visitor_is_told_that_a_run_cannot_be_kept(runtime, tmp_path, make_config, monkeypatch):
    with gr.Blocks():
        context = AppContext(OfferedModels(runtime), RunStore(tmp_path), Budget())
        panel = HistoryPanel(context, None, [], None, None)
    picture, told = np.zeros((8, 8, 3), np.uint8), []
    clip = Clip("i4vgen", "a.mp4", 4, 8, 1.0, np.zeros((4, 8, 8, 3), np.uint8))
    anchor = Selected(0, picture, "picked")
    animation = Animation(CandidateSet(), make_config(), runtime.spec, {}, anchor, (), (clip,))
    session = Session(animations=AnimationSet((animation,)), made_here=True)
    monkeypatch.setattr("i4vgen.studio.run_io.pack_animation", lambda *given: full_disk(given[-1]))
    monkeypatch.setattr("i4vgen.studio.panels.history.warn", told.append)
    assert panel.remember(session)[panel.newest] == []
    assert len(told) == 1 and "No space left on device" in told[0] and str(tmp_path) not in told[0]


def webp_of_size(width: int, height: int) -> str:
    """A small WebP in base64 that declares this size."""
    data = bytearray(base64.b64decode(pictures.webp(Image.new("RGB", (8, 8)), lossless=True)))
    start = data.index(b"VP8L") + 9
    size = int.from_bytes(data[start : start + 4], "little") >> 28 << 28 | (height - 1) << 14 | (width - 1)
    data[start : start + 4] = size.to_bytes(4, "little")
    return base64.b64encode(data).decode()


def test_what_a_browser_remembers_may_be_damaged(runtime, tmp_path):
    with gr.Blocks():
        context = AppContext(OfferedModels(runtime), RunStore(tmp_path), Budget())
        panel = HistoryPanel(context, None, [], None, None)
    good = remembered_run("token", np.zeros((8, 8, 3), np.uint8), {"prompt": "a", "seed": 1, "model": "pocket"})
    no_pictures = ("?", "A" * 10**6, good["picture"][:40])
    huge = (webp_of_size(13300, 13300), webp_of_size(16000, 12000))
    long = good["settings"] | {"prompt": "long " * 1000}
    for bad in (
        *(["x"], [{"run": "x"}], "text", None),
        *([good | {"picture": picture}] for picture in (*no_pictures, *huge)),
        *([good | {"settings": None}], [good | {"settings": long}], [good | {"settings": {"prompt": "a"}}]),
    ):
        assert panel.show_memory(bad)[panel.memory] == []
    assert panel.show_memory(["x", good])[panel.memory] == [good]
    assert len(panel.show_memory([good] * 1000)[panel.memory]) == REMEMBER


def test_a_form_from_anywhere_is_made_to_fit_its_components(runtime):
    given = Form.of(dict.fromkeys(FIELDS, "") | {"prompt": "a cat", "model": "pocket", "rewards": ["own"]})
    far = {"num_inference_steps": 200, "guidance_scale": 0.5, "sampler": "euler", "num_frames": 100}
    wrong = {"p_re": [1], "compare": "vanilla", "rewards": ["own", "god"], "seed": "seven", "height": None}
    form, changed = given.with_values(far | wrong | {"p_ni_vsds": 0.5, "preset": "fast"}).fitted(
        runtime.defaults
    )
    assert form.settings["num_inference_steps"] == 100 and form.settings["guidance_scale"] == 1
    assert form.settings["num_frames"] == runtime.defaults.max_frames and form.settings["sampler"] == OWN
    assert form.settings["p_re"] == runtime.defaults.p_re and form.settings["seed"] == 0
    assert (form.compare, form.rewards, form.settings["height"]) == ([], ["own"], None)
    assert (form.prompt, form.settings["p_ni_vsds"], form.settings["preset"]) == ("a cat", 0.5, "fast")
    assert {"Denoising steps", "Guidance scale", "Sampler", "Frames", "Seed"} <= set(changed)
    assert form.fitted(runtime.defaults) == (form, [])


def test_the_settings_of_a_run_are_shown_without_its_model(runtime, make_config, monkeypatch):
    asked = []
    monkeypatch.setattr("i4vgen.weights.hub._reach", lambda *names: asked.append(names))
    for models, name in (
        (OfferedModels(runtime), "missing.safetensors"),
        (OfferedModels(runtime, allowed=()), "someone/files/model.safetensors"),
        (OfferedModels(runtime), runtime.spec.model),
    ):
        form = Form.of_run(make_config(seed=9), ModelSpec(name), ["vanilla"], models)
        assert (form.model, form.settings["seed"], form.compare) == (name, 9, ["vanilla"])
    assert (form.rewards, form.settings["sampler"]) == (["own"], OWN)
    assert asked == [], "no hub is asked for a model that is not offered"


def test_visitors_of_a_public_app_name_no_files_and_no_models_of_their_own(runtime, tmp_path):
    (tmp_path / "lora.safetensors").touch()
    public = OfferedModels(runtime, ("someone/toonyou",))
    for spec in (
        ModelSpec("animatediff", base=str(tmp_path)),
        ModelSpec("animatediff", base="someone/else"),
        ModelSpec("animatediff", loras=(f"{tmp_path / 'lora.safetensors'}@0.5",)),
    ):
        with pytest.raises(InvalidInputError, match=r"is not offered here. Use one of: someone/toonyou"):
            public.runtime_for(spec)
    allowed = ModelSpec("animatediff", base="someone/toonyou", loras=("someone/toonyou@0.5",))
    assert public.runtime_for(allowed).spec.base == "someone/toonyou"
    assert public.runtime_for(runtime.spec) is runtime
    with pytest.raises(InvalidInputError, match="there is no model '/etc'"):
        public.runtime_for(ModelSpec("/etc"))
    assert OfferedModels(runtime).runtime_for(ModelSpec("animatediff", base=str(tmp_path))).spec.base
