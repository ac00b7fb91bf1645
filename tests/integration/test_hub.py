"""Downloads from a model hub, a small one on this machine: what is fetched, counted, taken up again, and found
without a connection.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from i4vgen.backbones import lora
from i4vgen.cli.main import main
from i4vgen.config import GenerationConfig
from i4vgen.errors import I4VGenError, ModelError
from i4vgen.events import Loading, Result, Stage
from i4vgen.models import catalog
from i4vgen.models.catalog import ROOT_NETWORK, ModelSpec
from i4vgen.models.loading import load_model
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.serving.runtime import Runtime
from i4vgen.weights import hub, hub_errors
from i4vgen.weights.lora_file import read_lora
from tests.conftest import ROOT
from tests.support import layouts_original as original
from tests.support.fake_hub import SHA, Answer, BrokenOff, FakeHub, HungUp
from tests.support.machine import as_other_user, interruptible, shared_folder, small_disk
from tests.support.waiting import PATIENCE, wait_until

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
            "HF_HUB_DOWNLOAD_TIMEOUT": PATIENCE,
            "HF_HUB_ETAG_TIMEOUT": PATIENCE,
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
    """unreachable(): from then on the hub does not answer."""
    with socket.socket() as closed:  # has the port, and does not listen
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        yield lambda: point_client_at(url, monkeypatch)


@pytest.fixture
def offline(monkeypatch):
    """offline(): from then on HF_HUB_OFFLINE is set."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def fetch(model: str = MODEL) -> list[tuple[int, int]]:
    return list(hub.download(model, ROOT_NETWORK))


def weights_are_here() -> bool:
    """Whether the weights are in the cache."""
    return isinstance(huggingface_hub.try_to_load_from_cache(MODEL, WEIGHTS), str)


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
    fake_hub.half_way[WEIGHTS] = lambda: go_on.wait(PATIENCE)
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
    with pytest.raises(ModelError, match=f"{MODEL} broke off .* complete files are kept"):
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
    fake_hub.half_way[WEIGHTS] = lambda: go_on.wait(PATIENCE)
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


@pytest.mark.parametrize("place", ["", "late/"])
def test_a_lora_of_pefts_comes_with_the_configuration_beside_it(fake_hub, tmp_path, place):
    folder = tmp_path / "lora" / place
    folder.mkdir(parents=True)
    weights = {f"base_model.model.a.lora_{end}.weight": torch.ones(4, 4) for end in "AB"}
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    fake_hub.models["someone/lora"] = tmp_path / "lora"
    found = lora.find("someone/lora" + (f"/{place}adapter_model.safetensors" if place else ""))
    assert [layer.scale for layer in read_lora(found).layers] == [2]


def test_what_is_not_on_the_hub(fake_hub):
    assert hub.file(MODEL, "i4vgen.json") is None
    assert hub.read_json(f"{MODEL}@{SHA}", "i4vgen.json") is None
    for model in ("someone/else", f"{MODEL}@{SHA[::-1]}"):
        with pytest.raises(ModelError, match=f"{model}.* nor a model on the hub"):
            hub.file(model, "config.json")
        assert fetch(model) == []


GATED = {"X-Error-Code": "GatedRepo"}
ANSWERS = {
    "gated": (
        Answer(403, GATED),
        None,
        rf"accept its terms first: do so at \S+/{MODEL}, then log in with `hf auth",
    ),
    "gated, not logged in": (Answer(401, GATED), None, "accept its terms first"),
    "gated, stale token": (Answer(403, GATED), "hf_old", "accept its terms first"),
    "stale token": (
        Answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
        "hf_old",
        "does not accept your token .*: log in again .* remove the token",
    ),
    "expired token": (
        Answer(401, {"X-Error-Message": 'User Access Token "mine" is expired'}),
        "hf_old",
        "does not accept your token",
    ),
    "token that may not read": (Answer(403), "hf_narrow", r"refuses access .*: use a token that may read it"),
    "disabled": (
        Answer(403, {"X-Error-Message": "Access to this resource is disabled."}),
        None,
        "was disabled on the hub: use another model",
    ),
    "too many requests": (Answer(429, {"Retry-After": "300"}), None, "no more requests .*: wait some minutes"),
    "overloaded": (Answer(503), None, r"trouble at the moment \(error 503\): try again later"),
    "broken": (Answer(500), None, r"\(error 500\): try again later"),
    "behind a gateway": (Answer(502, {}, b"<html>"), None, r"\(error 502\)"),
    "no hub": (Answer(200, {"Content-Type": "text/html"}, b"<html>"), None, "check HF_ENDPOINT, or the proxy"),
    "teapot": (Answer(418), None, r"refuses someone/adapter \(error 418\)"),
}


@pytest.fixture(params=ANSWERS.values(), ids=ANSWERS)
def refusal(request, monkeypatch) -> tuple[Answer, str]:
    """An answer of the hub to a person with or without a token, and what is to be made of it."""
    answer, token, words = request.param
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    return answer, words


@pytest.mark.parametrize("revision", ["", f"@{SHA}"])
def test_what_the_hub_answers_is_said_in_words_at_once(fake_hub, refusal, revision):
    fake_hub.answers[MODEL], words = refusal
    for ask in (lambda: hub.file(MODEL + revision, "config.json"), lambda: fetch(MODEL + revision)):
        with pytest.raises(ModelError, match=words) as raised:
            ask()
        assert len(str(raised.value)) <= 200 and "\n" not in str(raised.value)
    assert len(fake_hub.asked) + len(fake_hub.api) < 6, "it asks again and again"


def test_what_is_here_needs_no_hub_in_order(fake_hub, refusal):
    fetch()
    fake_hub.answers[MODEL], _ = refusal
    assert hub.file(MODEL, WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert hub.file(MODEL, "i4vgen.json") is None and fetch() == []


@pytest.mark.parametrize("headers", [{"X-Error-Code": "RepoNotFound"}, {}])
def test_a_private_model_or_none_at_all(fake_hub, headers):
    fake_hub.answers[MODEL] = Answer(401, headers)
    with pytest.raises(ModelError, match=r"nor a model on the hub: check its name, or log in .* private"):
        hub.file(MODEL, "config.json")
    assert fetch() == []


CALLS = pytest.mark.parametrize("call", [hub.file, lambda model, _: fetch(model)], ids=["file", "download"])


@CALLS
def test_a_disk_that_is_full(fake_hub, tmp_path, call):
    with (
        small_disk(tmp_path / "cache", "32k"),
        pytest.raises(ModelError, match=r"no space left for someone/adapter in .*: free some, or set HF_HOME"),
    ):
        call(MODEL, WEIGHTS)


@CALLS
def test_a_cache_of_another_user(fake_hub, call, monkeypatch):
    with shared_folder() as folder:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
        fetch()
        words = "hub cannot be written to: make its files yours, or set HF_HOME"
        fake_hub.models["someone/else"] = fake_hub.models[MODEL]
        with pytest.raises(ModelError, match=words):
            as_other_user(lambda: (huggingface_hub.close_session(), call("someone/else", WEIGHTS)))
        read = as_other_user(lambda: (huggingface_hub.close_session(), call(MODEL, WEIGHTS))[1])
        assert read in ([], hub.file(MODEL, WEIGHTS)), "what is there can be used"


def test_errors_of_xet_and_quotas_are_known_too():
    """Xet is written in Rust: its errors have words, no numbers."""
    full = (
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    )
    locked = OSError(errno.EROFS, "x"), RuntimeError("Data processing error: Permission denied (os error 13)")
    for errors, words in ((full, "no space left for a/b"), (locked, "cannot be written to")):
        assert all(words in hub_errors.explain("a/b", None, error) for error in errors)
    assert hub_errors.explain("a/b", None, ValueError("x")) is None


def test_offline_mode_and_a_mirror_are_named(fake_hub, offline, unreachable, monkeypatch):
    unreachable()
    with pytest.raises(
        ModelError, match=rf"{constants.ENDPOINT} \(HF_ENDPOINT\) cannot be reached: check HF_ENDPOINT"
    ):
        hub.file(MODEL, "config.json")
    point_client_at("mirror.example", monkeypatch)  # without https://
    with pytest.raises(
        ModelError, match=r"mirror.example \(HF_ENDPOINT\) cannot be reached: check HF_ENDPOINT"
    ):
        hub.file(MODEL, "config.json")
    offline()
    with pytest.raises(ModelError, match="no downloads while HF_HUB_OFFLINE is set: unset it"):
        hub.file(MODEL, "config.json")


@pytest.mark.parametrize("revision", ["", f"@{SHA}"])
@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_without_a_connection(fake_hub, how, revision, request, monkeypatch):
    """Downloaded files are found, without waiting for the others."""
    model = MODEL + revision
    fetch(model)
    request.getfixturevalue(how)()
    ask_again = Mock(side_effect=AssertionError("the client waits to ask again"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", ask_again)
    assert hub.file(model, WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert hub.read_json(model, "config.json") == {"motion_layers_per_block": 1}
    assert hub.file(model, "i4vgen.json") is None
    assert fetch(model) == []
    with pytest.raises(ModelError, match=r"connect to the internet or run `hf download someone/else"):
        hub.file(f"someone/else{revision}", "config.json")
    assert fetch(f"someone/else{revision}") == []
    ask_again.assert_not_called()


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


@pytest.fixture
def files_on_hub(fake_hub, tmp_path) -> str:
    """A repository of single files, of which each is a kind of model."""
    folder = tmp_path / "files"
    original.write(folder / "v1.safetensors", original.checkpoint())
    original.write(folder / "motion" / "mm.ckpt", original.motion_module())
    original.write(folder / "mse.safetensors", original.vae_weights(original.vae(21)))
    original.write(folder / "other.safetensors", original.checkpoint())
    fake_hub.models["someone/files"] = folder
    return "someone/files"


def test_a_single_file_of_a_repository(files_on_hub, fake_hub, tmp_path, capsys, monkeypatch):
    """On the command line, as a model, a motion module and a VAE. Only these files are downloaded."""
    monkeypatch.chdir(tmp_path)
    chosen = {
        "model": f"{files_on_hub}/v1.safetensors",
        "motion_module": f"{files_on_hub}@{SHA}/motion/mm.ckpt",
        "vae": f"{files_on_hub}/mse.safetensors",
    }
    options = [text for name, value in chosen.items() for text in (f"--{name.replace('_', '-')}", value)]
    sizes = "--reward none --anchor 0 --steps 1 --frames 2 --height 64 --width 64 --candidates 1 --p-re 1"
    assert main(["a cat", *options, *sizes.split(), "--out", "run"]) == 0, capsys.readouterr().err
    assert fake_hub.sent() == ["motion/mm.ckpt", "mse.safetensors", "v1.safetensors"]
    made = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {name: made[name] for name in chosen} == chosen and "files" not in made
    folder = tmp_path / "files"
    here = {"model": "v1.safetensors", "motion_module": "motion/mm.ckpt", "vae": "mse.safetensors"}
    local = ModelSpec(**{name: str(folder / file) for name, file in here.items()}, rewards=())
    (mine, _), (theirs, _) = (
        load_model(catalog.find(spec)) for spec in (ModelSpec(**chosen, rewards=()), local)
    )
    for one, other in zip(mine.networks, theirs.networks, strict=True):
        for weight, wanted in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(weight, wanted)


def test_a_single_file_of_a_repository_as_a_base_and_in_a_pair(files_on_hub, fake_hub):
    model, module = f"{files_on_hub}/v1.safetensors", f"{files_on_hub}/motion/mm.ckpt"
    based = catalog.find(ModelSpec("animatediff", base=model, motion_module=module))
    assert based.sources == {"model": model, "motion_adapter": module}
    assert catalog.find(ModelSpec(f"{model}+{module}")).sources == based.sources
    assert based.backbone.read_defaults(**based.sources).max_frames == 32
    assert fake_hub.sent() == ["motion/mm.ckpt", "v1.safetensors"]


def test_a_single_file_is_downloaded_with_progress(files_on_hub, fake_hub, tmp_path):
    size = (tmp_path / "files" / "v1.safetensors").stat().st_size
    assert list(hub.download(f"{files_on_hub}/v1.safetensors", ()))[-1] == (size, size)
    assert fake_hub.sent() == ["v1.safetensors"]
    assert list(hub.download(f"{files_on_hub}/v1.safetensors", ())) == []


def test_single_files_that_a_repository_lacks_or_that_are_something_else(files_on_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints" / "sd15").mkdir(parents=True)
    for spec, words in (
        (ModelSpec(f"{files_on_hub}/v2.safetensors"), "someone/files has no file v2.safetensors on the hub"),
        (ModelSpec("someone/else/v1.safetensors"), "someone/else.* nor a model on the hub"),
        (ModelSpec("animatediff", vae=f"{files_on_hub}/motion/mm.ckpt"), "give it with --motion-module"),
        (ModelSpec("checkpoints/sd15/v1.safetensors"), "there is no file v1.safetensors in checkpoints/sd15"),
    ):
        with pytest.raises(I4VGenError, match=words) as caught:
            catalog.find(spec)
        assert len(str(caught.value)) <= 200


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


@pytest.fixture
def command(fake_hub, tiny_model_dir, tmp_path):
    """The command line in a process that Ctrl-C reaches, with the hub's model `someone/tiny`."""
    fake_hub.models["someone/tiny"] = tiny_model_dir
    environment = os.environ | {
        "HF_ENDPOINT": fake_hub.url,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": str(int(PATIENCE)),  # the hub is silent until Ctrl-C
        "HF_HUB_ETAG_TIMEOUT": str(int(PATIENCE)),
        "PYTHONPATH": str(ROOT),
    }
    call = [
        sys.executable,
        "-m",
        "i4vgen",
        "a red rocket",
        "--model",
        "someone/tiny",
        "--device",
        "cpu",
        "--json",
    ]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with interruptible(), subprocess.Popen(call, cwd=tmp_path, env=environment, text=True, **pipes) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("presses", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_ends_a_download_and_keeps_what_is_there(fake_hub, request, tmp_path, presses):
    slow, half_sent, over = "unet/diffusion_pytorch_model.safetensors", threading.Event(), threading.Event()
    fake_hub.half_way[slow] = lambda: (half_sent.set(), over.wait(PATIENCE))
    process = request.getfixturevalue("command")
    try:
        assert half_sent.wait(PATIENCE)
        wait_until(lambda: "vae/diffusion_pytorch_model.safetensors" in fake_hub.sent())
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)  # in which the hub sends nothing more
    finally:
        over.set()
    assert process.returncode == 130 and err.endswith("i4vgen: stopped\n") and "Traceback" not in err, err
    assert not list((tmp_path / "cache").rglob("*.incomplete")), "the hub's client cannot go on with them"

    earlier = fake_hub.sent()
    fake_hub.asked.clear()
    list(hub.download("someone/tiny", ["unet/*", "vae/*", "i4vgen.json"]))
    assert slow in fake_hub.sent() and set(fake_hub.sent()) < set(earlier), "what was whole is not sent again"
    assert "i4vgen.json" not in fake_hub.sent()


def test_ctrl_c_in_a_program_of_ones_own_ends_the_download(fake_hub):
    """Also where the process goes on, as a notebook does."""
    over, under_way = threading.Event(), []

    def press_once_there_is_a_file() -> None:
        if not under_way:  # the client may try again before it ends
            cache = Path(constants.HF_HUB_CACHE)
            wait_until(lambda: under_way.extend(cache.rglob("*.incomplete")) or under_way)
            os.kill(os.getpid(), signal.SIGINT)
        over.wait(PATIENCE)

    fake_hub.half_way[WEIGHTS] = press_once_there_is_a_file
    with interruptible(), pytest.raises(KeyboardInterrupt):
        fetch()
    over.set()
    wait_until(lambda: not any(path.exists() for path in under_way))
    assert not weights_are_here()
