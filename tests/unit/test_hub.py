"""Downloads from a model hub, a small one on this machine: what is fetched, counted, taken up again, and found
without a connection.
"""

from __future__ import annotations

import socket
import threading
import time

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from i4vgen import hub
from i4vgen.catalog import ROOT_NETWORK
from i4vgen.errors import ModelError
from i4vgen.events import Loading, Result, Stage
from i4vgen.generation_config import GenerationConfig
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.runtime import Runtime
from tests.support.fake_hub import SHA, BrokenOff, FakeHub, HungUp

MODEL = "someone/adapter"
WEIGHTS = "diffusion_pytorch_model.safetensors"
FILES = {
    "config.json": b'{"motion_layers_per_block": 1}',
    WEIGHTS: bytes(range(256)) * 256,  # 64 KiB
    "diffusion_pytorch_model.fp16.safetensors": b"half" * 100,
    "diffusion_pytorch_model.bin": b"pickle" * 100,
    "README.md": b"# An adapter",
    "extra/config.json": b"{}",
}
TOTAL = len(FILES["config.json"]) + len(FILES[WEIGHTS])


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    """A hub with one model, an empty cache, and the hub's client as it is for a person without a token."""
    folder = tmp_path / "adapter"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with FakeHub() as fake:
        fake.models[MODEL] = folder
        settings = {
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": True,
            "HF_HUB_DOWNLOAD_TIMEOUT": 60,
            "DOWNLOAD_CHUNK_SIZE": 1024,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        point_client_at(fake.url, monkeypatch)
        yield fake
    huggingface_hub.close_session()


def point_client_at(url: str, monkeypatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    huggingface_hub.close_session()


@pytest.fixture
def unreachable(monkeypatch):
    """unreachable(): from then on nobody answers where the hub was."""

    def close() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        point_client_at(url, monkeypatch)

    return close


@pytest.fixture
def offline(monkeypatch):
    """offline(): from then on HF_HUB_OFFLINE is set."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def fetch(model: str = MODEL) -> list[tuple[int, int]]:
    return list(hub.download(model, ROOT_NETWORK))


def weights_are_here() -> bool:
    """Whether the weights are in the cache."""
    return isinstance(huggingface_hub.try_to_load_from_cache(MODEL, WEIGHTS), str)


def wait_until(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_only_the_files_of_the_patterns_are_fetched_and_only_once(fake_hub):
    assert fetch()[-1] == (TOTAL, TOTAL)
    assert fake_hub.sent() == ["config.json", WEIGHTS]
    for name in fake_hub.sent():
        assert hub.file(MODEL, name).read_bytes() == FILES[name]
    assert fetch() == []
    assert fake_hub.sent() == ["config.json", WEIGHTS]


def test_bytes_are_counted_as_they_come(fake_hub, capfd):
    """Each once, though the hub's client counts them twice; and it draws no bars."""
    go_on = threading.Event()
    fake_hub.half_way[WEIGHTS] = lambda: go_on.wait(30)
    half, counts = TOTAL - len(FILES[WEIGHTS]) // 2, []
    for done, total in hub.download(MODEL, ROOT_NETWORK):
        counts.append(done)
        assert total == TOTAL
        assert done <= half or go_on.is_set(), "bytes are counted that were not sent"
        if done == half:
            go_on.set()
    assert half in counts and counts[-1] == TOTAL and counts == sorted(counts)
    assert capfd.readouterr() == ("", "")


def test_a_download_that_breaks_off_goes_on_with_what_is_missing(fake_hub):
    def break_off():
        wait_until(lambda: "config.json" in fake_hub.sent())
        raise BrokenOff

    fake_hub.half_way[WEIGHTS] = break_off
    with pytest.raises(ModelError, match=f"{MODEL} broke off .* goes on from there"):
        fetch()
    fake_hub.asked.clear()
    assert fetch()[-1] == (len(FILES[WEIGHTS]),) * 2
    assert fake_hub.sent() == [WEIGHTS]
    assert hub.file(MODEL, WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_connection_that_is_lost_is_taken_up_in_the_middle_of_a_file(fake_hub):
    def hang_up():
        raise HungUp

    fake_hub.half_way[WEIGHTS] = hang_up
    counts = [done for done, _ in fetch()]
    assert counts[-1] == TOTAL and counts == sorted(counts)
    asked = [asked.range for asked in fake_hub.asked if (asked.method, asked.path) == ("GET", WEIGHTS)]
    assert asked == [None, f"bytes={len(FILES[WEIGHTS]) // 2}-"]
    assert hub.file(MODEL, WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_listener_that_goes_away_does_not_wait_for_the_download(fake_hub):
    go_on = threading.Event()
    fake_hub.half_way[WEIGHTS] = lambda: go_on.wait(30)
    loading = hub.download(MODEL, ROOT_NETWORK)
    next(loading)
    loading.close()
    assert not go_on.is_set() and not weights_are_here(), "it waited"
    go_on.set()
    wait_until(weights_are_here)
    assert hub.file(MODEL, WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_pinned_revision_is_asked_for_by_its_commit(fake_hub):
    assert hub.read_json(f"{MODEL}@{SHA}", "config.json") == {"motion_layers_per_block": 1}
    assert fetch(f"{MODEL}@{SHA}")[-1] == (len(FILES[WEIGHTS]),) * 2
    assert {asked.revision for asked in fake_hub.asked} == {SHA}
    assert fake_hub.api and all(SHA in path for path in fake_hub.api)
    before = len(fake_hub.asked), len(fake_hub.api)
    assert fetch(f"{MODEL}@{SHA}") == []
    assert (len(fake_hub.asked), len(fake_hub.api)) == before, "a commit never changes: nothing is to be asked"


def test_what_is_not_on_the_hub(fake_hub):
    assert hub.file(MODEL, "i4vgen.json") is None
    assert hub.read_json(f"{MODEL}@{SHA}", "i4vgen.json") is None
    for model in ("someone/else", f"{MODEL}@{SHA[::-1]}"):
        with pytest.raises(ModelError, match=f"{model}.* nor a model on the hub"):
            hub.file(model, "config.json")
        assert fetch(model) == []


@pytest.mark.parametrize("revision", ["", f"@{SHA}"])
@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_without_a_connection(fake_hub, how, revision, request):
    """What was downloaded is found, and nobody waits for the rest."""
    fetch(MODEL + revision)
    request.getfixturevalue(how)()
    model, start = MODEL + revision, time.monotonic()
    assert hub.file(model, WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert hub.read_json(model, "config.json") == {"motion_layers_per_block": 1}
    assert hub.file(model, "i4vgen.json") is None
    assert fetch(model) == []
    with pytest.raises(ModelError, match=r"connect to the internet or run `hf download someone/else"):
        hub.file(f"someone/else{revision}", "config.json")
    assert fetch(f"someone/else{revision}") == []
    assert time.monotonic() - start < 10, "the client asks again and again"


def test_without_a_connection_a_file_that_was_not_fetched_is_not_taken_for_none(fake_hub, offline):
    fetch()
    offline()
    with pytest.raises(ModelError, match="hf download"):
        hub.file(MODEL, "extra/config.json")


def test_a_runtime_downloads_its_model_before_it_runs(fake_hub, tiny_model_dir):
    fake_hub.models["someone/tiny"] = tiny_model_dir
    runtime = Runtime("someone/tiny", "cpu")
    config = GenerationConfig.for_model(runtime.defaults, prompt="a red rocket", num_inference_steps=1)
    events = list(runtime.stream(lambda pipeline: pipeline.comparison("vanilla", config)))
    kinds = [type(event) for event in events]
    first = kinds.index(Stage)
    assert first > 0 and set(kinds[:first]) == {Loading} and Loading not in kinds[first:]
    assert events[first - 1].repo_or_path == "someone/tiny"
    assert events[first - 1].done == events[first - 1].total > 0
    assert isinstance(events[-1], Result)
    again = list(runtime.stream(lambda pipeline: pipeline.comparison("vanilla", config)))
    assert Loading not in map(type, again)


def test_a_torch_that_cannot_describe_the_cpu_computes_in_float32(monkeypatch):
    """As on ZeroGPU, whose PyTorch may be older than the tested one."""
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # 2.8 has none
    assert hub.fastest_dtype("cpu") == torch.float32


def test_from_python_a_download_shows_a_bar(fake_hub, tiny_model_dir, capsys):
    fake_hub.models["someone/tiny"] = tiny_model_dir
    pipe = I4VGenPipeline.from_pretrained("someone/tiny", device="cpu", rewards=())
    assert "someone/tiny: 100%" in capsys.readouterr().err and pipe.rewards == ()
    I4VGenPipeline.from_pretrained("someone/tiny", device="cpu", rewards=())
    assert "someone/tiny" not in capsys.readouterr().err
