"""Limits of visitors, and that no visitor can block the others."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlsplit

import gradio as gr
import httpx
import pytest
from gradio_client.exceptions import AppError
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from i4vgen.cli import studio
from i4vgen.config import GenerationConfig
from i4vgen.events import Progress
from i4vgen.method.comparisons import stage_work
from i4vgen.serving.budget import Budget, RunPlan, TooLongError, TooMuchWorkError
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.limits import PUBLIC, Limits
from i4vgen.serving.middleware import OpenStreams, OwnPagesOnly, StreamWatch
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.runtime import Runtime
from i4vgen.storage.run_store import RunStore
from i4vgen.storage.runs import RunFolder
from i4vgen.studio import errors, files
from i4vgen.studio.api.calls import LEASE
from i4vgen.studio.api.endpoints import Endpoints, register
from i4vgen.studio.api.signatures import SETTINGS_OF
from i4vgen.studio.app import build_app, launch_options
from i4vgen.studio.queueing import QUICK
from i4vgen.studio.recipes import Recipes
from tests.support.gradio_protocol import TIMEOUT, Calls, open_client
from tests.support.waiting import wait_until

LIMITS = Limits(largest_run=1e6, waiting=4, waiting_per_visitor=3)
LONG = {"prompt": "a red rocket", "num_candidates": 64, "num_inference_steps": 500}


def click() -> str:
    return "here"


@pytest.fixture(scope="module")
def clock() -> list[float]:
    """The time of the queue."""
    return [0.0]


@pytest.fixture(scope="module")
def jobs(clock) -> JobQueue:
    return JobQueue(LIMITS, now=lambda: clock[0])


@pytest.fixture(scope="module")
def demo(runtime, jobs, tmp_path_factory):
    streams = OpenStreams()
    with gr.Blocks(analytics_enabled=False) as demo:
        run_store = RunStore(tmp_path_factory.mktemp("runs"))
        register(OfferedModels(runtime), run_store, Budget(LIMITS), Recipes(), jobs, streams)
        gr.api(click, api_name="click", concurrency_limit=QUICK["concurrency_limit"])
    demo.queue(status_update_rate=3600, api_open=False)
    options = launch_options(["https://friend.example"], streams=streams)
    options |= {"theme": None, "css_paths": None, "js": None}
    demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, **options)
    yield demo
    demo.close()


@pytest.fixture
def url(demo) -> str:
    return demo.local_url.rstrip("/")


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """Connections that wait longer than five seconds for an answer."""
    limits = httpx.Limits(max_keepalive_connections=0)  # an unread body ends one
    with httpx.Client(timeout=TIMEOUT, limits=limits) as http:
        yield http


def test_abandoned_runs_block_no_visitor_and_end(url, jobs, clock):
    calls = Calls(url)
    for waiting in range(1, LIMITS.waiting_per_visitor + 1):
        calls.start("generate", calls.values("generate", LONG))
        wait_until(lambda waiting=waiting: len(jobs) == waiting)
    client = open_client(url)
    with pytest.raises(AppError, match="You already have 3 runs waiting"):
        client.predict("a red rocket", api_name="/generate")
    assert client.predict(api_name="/click") == "here"
    clock[0] += LEASE + 1
    wait_until(lambda: not len(jobs))  # none of them had a listener
    drawn = client.predict("a red rocket", num_candidates=1, num_inference_steps=1, api_name="/candidates")
    assert len(drawn["candidates"]) == 1, "the device is free again"


def test_which_answers_are_listened_to(url):
    streams, heard = OpenStreams(), []
    assert streams.has_listener("any"), "where nothing watches"

    async def answer(scope, receive, send):
        heard.append(streams.has_listener("mine"))
        await PlainTextResponse("here")(scope, receive, send)

    app = TestClient(StreamWatch(answer, streams))
    asked = (
        "queue/data?session_hash=mine",
        "queue/data?session_hash=yours",
        "call/generate/mine",
        "queue/data",
    )
    for path in asked:
        app.get(f"/gradio_api/{path}")
    app.post("/gradio_api/call/mine")
    assert heard == [True, False, True, False, False] and not streams.has_listener("mine")


def test_a_run_of_too_much_work_is_refused_before_it_waits(runtime):
    usual = GenerationConfig.for_model(runtime.defaults, prompt="a red rocket")
    budget = Budget(Limits(largest_run=2.0))
    budget.check(RunPlan(runtime, usual, compare=("vanilla", "freeinit")))
    for longer in ({"num_inference_steps": 500}, {"num_candidates": 64, "num_inference_steps": 60}):
        with pytest.raises(TooMuchWorkError) as refused:
            budget.check(RunPlan.whole(runtime, replace(usual, **longer), ("vanilla",)))
        assert re.search(r"takes \d+ times as long .* at most 2 times", errors.words_of(refused.value))
        Budget().check(RunPlan.whole(runtime, replace(usual, **longer), ("vanilla",)))
    just = Budget(Limits(largest_run=1.0))
    just.check(RunPlan.whole(runtime, usual, ("vanilla",)))
    with pytest.raises(TooMuchWorkError):
        just.check(RunPlan(runtime, usual, anchors=2, compare=("vanilla",)))


def test_a_run_of_too_many_seconds_is_refused_once_such_runs_were_measured(runtime):
    usual = GenerationConfig.for_model(runtime.defaults, prompt="a red rocket")
    budget = Budget(Limits(longest_run=39))
    for _ in range(3):
        budget.check_time(RunPlan(runtime, usual, draws=16, anchors=4, compare=("vanilla",)))
        for stage, work in stage_work(usual, ("vanilla",), runtime.defaults, has_reward=True).items():
            budget.pace.record(RunPlan(runtime, usual).model, stage, work, 10)
    allowed = (
        {"draws": usual.num_candidates},
        {"anchors": 1, "compare": ["vanilla", "freeinit"]},
        {"anchors": 1},
    )
    for each in allowed:
        budget.check_time(RunPlan(runtime, usual, **each))
    budget.check_time(RunPlan(runtime, replace(usual, guidance_scale=1.0), anchors=3, compare=["vanilla"]))
    for more in ({"anchors": 2}, {"anchors": 1, "draws": usual.num_candidates}):
        with pytest.raises(TooLongError) as refused:
            budget.check_time(RunPlan(runtime, usual, **more, compare=["vanilla"]))
        words = errors.words_of(refused.value)
        assert re.search(r"at least \d+ s here, and this server limits runs to 39 s: ask for fewer", words)
    other = replace(runtime.spec, rewards=()), replace(runtime.spec, loras=("a",))
    plans = [RunPlan(each, usual) for each in (runtime, *(SimpleNamespace(spec=spec) for spec in other))]
    assert len({each.model for each in plans}) == 1


def test_without_a_reward_the_work_is_that_of_all_candidates_to_the_end(runtime, tiny_model_dir, tmp_path):
    without = shutil.copytree(tiny_model_dir, tmp_path / "model", ignore=shutil.ignore_patterns("reward"))
    given = {"preset": "fast", "num_candidates": 16, "num_inference_steps": 25, "guidance_scale": 1.0}
    config = GenerationConfig.for_model(runtime.defaults, prompt="a red rocket", **given)
    steps = [
        RunPlan.whole(each, config).stages()[0]["candidates"] / (config.height * config.width)
        for each in (runtime, Runtime(replace(runtime.spec, rewards=()), "cpu"), Runtime(str(without), "cpu"))
    ]
    assert steps == [16 * 7 + 4 * 5, 16 * 12, 16 * 12]


def test_what_runs_take_is_measured_stage_by_stage(runtime, make_config, tmp_path):
    budget, config = Budget(), make_config()
    endpoints = Endpoints(OfferedModels(runtime), RunStore(tmp_path), budget, Recipes())
    stages = stage_work(config, ("vanilla",), runtime.defaults, has_reward=True)
    settings = {name: getattr(config, name) for name in SETTINGS_OF["generate"]}
    stopped = endpoints.generate(compare=["vanilla"], visitor="a", **settings).events
    while not isinstance(next(stopped), Progress):
        pass
    stopped.close()
    model = RunPlan(runtime, config).model
    assert budget.pace.estimate(model, stages) is None, "a stage that was not finished says nothing"
    start = time.monotonic()
    for _ in endpoints.generate(compare=["vanilla"], visitor="a", **settings).events:
        pass
    measured = [budget.pace.estimate(model, {stage: work}) for stage, work in stages.items()]
    assert all(measured) and sum(measured) < time.monotonic() - start


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt": "a", "compare": 5}, "compare"),
        ({"prompt": "a \ud800"}, "not valid Unicode|surrogates"),
        ({"prompt": "a" * 5000}, "too long"),
        ({"prompt": "a", "rewards": ["own"] * 10_000, "anchor": 99}, "from 0 to 15, not 99"),
        ({"prompt": "a", "num_frames": [1]}, "num_frames"),
    ],
)
def test_clients_are_always_told_what_is_wrong(url, given, words):
    calls = Calls(url)
    end, answer = calls.call("generate", calls.values("generate", given))
    assert end == "error" and re.search(words, answer["error"])


def test_a_failure_is_told_in_words(url, monkeypatch):
    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "record", full_disk)
    with pytest.raises(AppError, match="No space left on device"):
        open_client(url).predict("a", num_candidates=1, num_inference_steps=1, api_name="/candidates")


def test_the_reason_of_a_failed_run_stays_on_the_page(runtime, tmp_path, monkeypatch):
    """What the status says at last, when the message at the edge of the page is gone."""
    demo = build_app(runtime, run_store=RunStore(tmp_path))
    work = next(each for each in demo.fns.values() if getattr(each.fn, "__name__", "") == "work")

    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_picture", full_disk)
    labels = {"Prompt": "a red rocket", "Candidates": 1, "Denoising steps": 1}
    values = {each: labels.get(getattr(each, "label", None), each.value) for each in work.inputs}
    shown = []

    async def follow():
        async for changes in work.fn(values, SimpleNamespace(session_hash="a tab", client=None)):
            shown.append(changes)

    with pytest.raises(gr.Error):
        asyncio.run(follow())
    (status,) = (each for each in shown[-1].values() if isinstance(each, dict) and "words" in each)
    assert "No space left on device" in status["words"] and "still here" in status["words"]
    assert "/" not in status["words"]  # where the server keeps its files is not a visitor's business


def test_messages_quote_no_html(monkeypatch):
    shown = []
    monkeypatch.setattr(errors.gr, "Warning", lambda message, title: shown.append(message))
    error = errors.refusal("no model '<img src=x>'", "Title")
    assert shown == ["no model &#x27;&lt;img src=x&gt;&#x27;"] and "<img" in error.message
    assert "<img" not in errors.failure(RuntimeError("<img src=x>")).message


def test_every_answer_says_who_may_frame_it(url, http):
    for path in ("/", "/config", "/gradio_api/info"):
        headers = http.get(f"{url}{path}").headers
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert http.get(f"{url}/monitoring").status_code != 200


@pytest.mark.parametrize(
    ("headers", "welcome"),
    [
        ({}, True),
        ({"origin": "{own}"}, True),
        ({"origin": "https://friend.example"}, True),
        ({"origin": "https://studio.example", "x-forwarded-host": "studio.example"}, True),
        ({"origin": "https://studio.example", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://127.0.0.1:1"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[bad"}, False),
    ],
    ids=str,
)
def test_pages_of_other_sites_get_nothing(url, http, headers, welcome):
    headers = {name: value.replace("{own}", url) for name, value in headers.items()}
    start, config = f"{url}/gradio_api/call/click", f"{url}/config"
    answers = [http.post(start, json={"data": []}, headers=headers), http.get(config, headers=headers)]
    if welcome:
        assert [answer.status_code for answer in answers] == [200, 200]
    else:
        assert all(answer.status_code == 403 and "other sites" in answer.text for answer in answers)


@pytest.mark.parametrize(
    ("host", "private", "welcome"),
    [
        ("localhost:7860", True, True),
        ("127.0.0.1:7860", True, True),
        ("[::1]:7860", True, True),
        ("workstation:7860", True, True),
        ("friend.example", True, True),
        ("evil.example:7860", True, False),
        ("127.0.0.1.evil.example", True, False),
        ("[", True, False),
        ("evil.example:7860", False, True),
    ],
)
def test_a_private_app_goes_by_no_name_that_others_can_point_at_it(host, private, welcome):
    app = OwnPagesOnly(PlainTextResponse("here"), ["https://friend.example"], private)
    answer = TestClient(app).get("/", headers={"host": host})
    assert (answer.status_code, "--allow-origin" in answer.text) == ((200, False) if welcome else (403, True))


@pytest.mark.parametrize(
    "route",
    [
        "proxy=http://127.0.0.1/",
        "proxy=https://a.hf.space/x",
        "proxy=%00",
        "file=http://127.0.0.1/",
        "file=https://a.hf.space/x.png",
        "heartbeat/a",
        "dev/reload",
        "deep_link?session_hash=a",
        "process_recording",
        "component_server",
        "api/generate",
        "run/generate",
        "run-history/buckets",
        "vibe-code",
    ],
)
def test_what_this_app_has_no_use_for_is_closed(url, http, route):
    assert {http.request(way, f"{url}/gradio_api/{route}").status_code for way in ("GET", "POST")} <= {
        404,
        405,
    }


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"a":' * 50_000,
        b'{"data": [NaN]}',
        b'{"event_data": 1, "x": 2}',
        b'{"session_hash": 1}',
    ],
)
@pytest.mark.parametrize(
    "route", ["queue/join", "call/generate", "call/v2/generate", "cancel", "reset", "upload"]
)
def test_bodies_that_cannot_be_read_are_refused(url, http, route, body):
    answer = http.post(f"{url}/gradio_api/{route}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500 and answer.json()


@pytest.mark.parametrize("told", [True, False], ids=["its length is told", "it is not"])
@pytest.mark.parametrize(
    "body",
    [b'{"data": ["' + b"x" * 2**21 + b'"]}', b'{"data": [' + b"[]," * 10_000 + b"1]}"],
    ids=["bytes", "values"],
)
def test_requests_are_bounded_before_they_are_read(url, http, body, told):
    answer = http.post(
        f"{url}/gradio_api/call/generate",
        content=body if told else iter([body]),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 413 and "at most 2 MB and 20000 values" in answer.json()["detail"]


@contextmanager
def begun_request(url: str, route: str, *headers: str) -> Iterator[socket.socket]:
    """A connection that has sent the head of a POST request, and nothing of its body."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as client:
        head = [f"POST /gradio_api/{route} HTTP/1.1", f"Host: {address.netloc}", *headers, "", ""]
        client.sendall("\r\n".join(head).encode())
        yield client


def test_a_client_that_sends_all_before_it_listens_gets_the_answer(url):
    """As nginx does: when the app closes the connection before that, nginx's client gets a 502."""
    headers = ("Connection: close", "Content-Type: application/json", f"Content-Length: {64 * 2**16}")
    with begun_request(url, "call/generate", *headers) as client:
        for _ in range(64):
            client.sendall(bytes(2**16))
            time.sleep(0.01)  # so that an early answer closes the connection before the end
        assert client.recv(2**16).startswith(b"HTTP/1.1 413 ")


def test_a_body_far_too_large_is_not_awaited(url):
    headers = ("Content-Type: multipart/form-data; boundary=x", f"Content-Length: {2**40}")
    with begun_request(url, "upload", *headers) as client:
        assert client.recv(2**16).startswith(b"HTTP/1.1 413 ")


def test_uploads_may_be_larger(url, http):
    files = [("files", (f"{number}.png", bytes(2**20))) for number in range(3)]
    assert http.post(f"{url}/gradio_api/upload", files=files).status_code == 200
    files = [("files", (f"{number}.png", bytes(2**20))) for number in range(102)]
    assert http.post(f"{url}/gradio_api/upload", files=files).status_code == 413


def test_the_owner_sets_the_limits(capsys):
    given = ["--longest-run", "90", "--waiting-per-visitor", "2", "--largest-upload", "0.5"]
    ours = replace(PUBLIC, longest_run=90.0, waiting_per_visitor=2, largest_upload=2**19)
    assert studio.read_limits(studio.parse(given), public=True) == ours
    with pytest.raises(SystemExit, match="2"):
        studio.parse(["--largest-run", "-1"])
    assert "--largest-run: invalid positive value" in capsys.readouterr().err
