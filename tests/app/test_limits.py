"""What visitors of a server may ask for, and that nobody can keep the others from it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from i4vgen.comparisons import stage_work
from i4vgen.errors import InvalidInputError
from i4vgen.events import Progress
from i4vgen.generation_config import GenerationConfig
from i4vgen.ui import api, errors, run_queue
from i4vgen.ui.app import launch_options
from i4vgen.ui.limits import PUBLIC, Budget, Limits, model_of
from i4vgen.ui.models import OfferedModels
from i4vgen.ui.origins import OwnPagesOnly
from i4vgen.ui.queueing import QUICK
from i4vgen.ui.run_queue import limit_runs, runs_of
from i4vgen.ui.run_store import RunStore
from tests.conftest import ROOT

LONG = {"prompt": "a red rocket", "num_candidates": 64, "num_inference_steps": 500}


def click() -> str:
    return "here"


@pytest.fixture(scope="module")
def demo(runtime, tmp_path_factory):
    limits = Limits(largest_run=1e6, waiting=4, waiting_per_visitor=3)
    with gr.Blocks(analytics_enabled=False) as demo:
        api.register(OfferedModels(runtime), RunStore(tmp_path_factory.mktemp("runs")), Budget(limits))
        gr.api(click, api_name="click", concurrency_limit=QUICK["concurrency_limit"])
    limit_runs(demo, limits)
    options = launch_options(["https://friend.example"]) | {"theme": None, "css_paths": None, "js": None}
    demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, **options)
    yield demo
    demo.close()


@pytest.fixture
def url(demo) -> str:
    return demo.local_url.rstrip("/")


def start(url: str) -> httpx.Response:
    """Asks for a run as a client does that never listens."""
    info = httpx.get(f"{url}/gradio_api/info").json()["named_endpoints"]["/generate"]["parameters"]
    values = [LONG.get(each["parameter_name"], each.get("parameter_default")) for each in info]
    return httpx.post(f"{url}/gradio_api/call/generate", json={"data": values}, timeout=30)


def test_runs_that_nobody_listens_to_lock_nobody_out_and_end(demo, url, monkeypatch):
    monkeypatch.setattr(run_queue, "UNHEARD", 4.0)
    answers = [start(url) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 503, 503]
    assert "3 runs of yours are waiting" in answers[-1].text
    client = Client(url, verbose=False)
    assert client.predict(api_name="/click") == "here"
    deadline = time.monotonic() + 60
    while list(runs_of(demo._queue)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not list(runs_of(demo._queue)), "none of them had a listener"
    drawn = client.predict("a red rocket", num_candidates=1, num_inference_steps=1, api_name="/candidates")
    assert len(drawn["candidates"]) == 1, "the device is free again"


def test_a_session_that_is_forgotten_while_it_waits_does_not_stop_the_queue(demo, url, monkeypatch):
    monkeypatch.setattr(run_queue, "UNHEARD", 1.0)
    assert [start(url).status_code for _ in range(3)] == [200, 200, 200]
    for run in list(runs_of(demo._queue)):
        del demo._queue.pending_messages_per_session[run.session_hash]
    client = Client(url, verbose=False)
    for _ in range(3):
        assert client.predict(api_name="/click") == "here"
    drawn = client.predict("a red rocket", num_candidates=1, num_inference_steps=1, api_name="/candidates")
    assert len(drawn["candidates"]) == 1 and not demo._queue.stopped


def test_sessions_that_wait_outlast_those_that_come_after_them(demo, url, monkeypatch):
    monkeypatch.setattr(run_queue, "SESSIONS", 3)
    monkeypatch.setattr(run_queue, "UNHEARD", 1.0)
    kept = demo._queue.pending_messages_per_session
    kept.clear()
    assert start(url).status_code == 200
    (run,) = runs_of(demo._queue)
    for _ in range(8):
        event = httpx.post(f"{url}/gradio_api/call/click", json={"data": []}).json()["event_id"]
        assert "here" in httpx.get(f"{url}/gradio_api/call/click/{event}").text
    oldest, *others = kept
    assert oldest == run.session_hash and others[-1] == event and len(others) == 2
    end = time.monotonic() + 30
    while list(runs_of(demo._queue)):  # nobody listens to it
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_run_of_too_much_work_is_refused_before_it_waits(runtime):
    usual = GenerationConfig.for_model(runtime.defaults, prompt="a red rocket")
    budget = Budget(Limits(largest_run=2.0))
    budget.check(runtime, usual, ("vanilla", "freeinit"))
    for longer in ({"num_inference_steps": 500}, {"num_candidates": 64, "num_inference_steps": 60}):
        with pytest.raises(InvalidInputError, match=r"takes \d+ times as long .* at most 2 times"):
            budget.check(runtime, replace(usual, **longer), ("vanilla",))
        Budget().check(runtime, replace(usual, **longer), ("vanilla",))
    just = Budget(Limits(largest_run=1.0))
    just.check(runtime, usual, ("vanilla",))
    with pytest.raises(InvalidInputError, match="times as long"):
        just.check(runtime, usual, ("vanilla",), anchors=2)


def test_a_run_of_too_many_seconds_is_refused_once_such_runs_were_measured(runtime):
    usual = GenerationConfig.for_model(runtime.defaults, prompt="a red rocket")
    budget = Budget(Limits(longest_run=39))
    for _ in range(3):
        budget.check_time(runtime, usual, draws=16, anchors=4, compare=("vanilla",))
        for stage, work in stage_work(usual, ("vanilla",), runtime.defaults).items():
            budget.pace.note(model_of(runtime), stage, work, 10)
    allowed = (
        {"draws": usual.num_candidates},
        {"anchors": 1, "compare": ["vanilla", "freeinit"]},
        {"anchors": 1},
    )
    for each in allowed:
        budget.check_time(runtime, usual, **each)
    budget.check_time(runtime, replace(usual, guidance_scale=1.0), anchors=3, compare=["vanilla"])
    for more in ({"anchors": 2}, {"anchors": 1, "draws": usual.num_candidates}):
        with pytest.raises(
            InvalidInputError, match=r"at least \d+ s here, and .* may take 39 s: ask for fewer"
        ):
            budget.check_time(runtime, usual, **more, compare=["vanilla"])
    other = replace(runtime.spec, rewards=()), replace(runtime.spec, loras=("a",))
    assert {model_of(SimpleNamespace(spec=spec)) for spec in other} == {model_of(runtime)}


def test_what_runs_take_is_measured_stage_by_stage(runtime, make_config, tmp_path):
    budget, config = Budget(), make_config()
    endpoints = api.Endpoints(OfferedModels(runtime), RunStore(tmp_path), budget)
    stages = stage_work(config, ("vanilla",), runtime.defaults)
    settings = {name: getattr(config, name) for name in api.SETTINGS_OF["generate"]}
    stopped = endpoints.generate(compare=["vanilla"], **settings)
    while not isinstance(next(stopped), Progress):
        pass
    stopped.close()
    assert budget.pace.usual(model_of(runtime), stages) is None, "a stage that was not finished says nothing"
    start = time.monotonic()
    for _ in endpoints.generate(compare=["vanilla"], **settings):
        pass
    measured = [budget.pace.usual(model_of(runtime), {stage: work}) for stage, work in stages.items()]
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
    info = httpx.get(f"{url}/gradio_api/info").json()["named_endpoints"]["/generate"]["parameters"]
    values = [given.get(each["parameter_name"], each.get("parameter_default")) for each in info]
    content = str({"data": values}).replace("None", "null").replace("'", '"').encode("utf-8", "surrogatepass")
    body = content.decode("utf-8", "backslashreplace").replace("\\xed\\xa0\\x80", "\\ud800").encode()
    joined = httpx.post(
        f"{url}/gradio_api/call/generate", content=body, headers={"content-type": "application/json"}
    )
    answer = httpx.get(f"{url}/gradio_api/call/generate/{joined.json()['event_id']}", timeout=60).text
    assert "event: error" in answer and "null" not in answer.split("event: error")[1]


def test_a_failure_is_told_in_words(url, monkeypatch):
    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(api.RunFolder, "record", full_disk)
    with pytest.raises(AppError, match="No space left on device"):
        Client(url, verbose=False).predict("a", num_candidates=1, num_inference_steps=1, api_name="/candidates")


def test_messages_quote_no_html(monkeypatch):
    shown = []
    monkeypatch.setattr(errors.gr, "Warning", lambda message, title: shown.append(message))
    error = errors.refusal("no model '<img src=x>'", "Title")
    assert shown == ["no model &#x27;&lt;img src=x&gt;&#x27;"] and "<img" in error.message
    assert "<img" not in errors.failure(RuntimeError("<img src=x>")).message


def test_every_answer_says_who_may_frame_it(url):
    for path in ("/", "/config", "/gradio_api/info"):
        headers = httpx.get(f"{url}{path}").headers
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{url}/monitoring").status_code != 200


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
def test_pages_of_other_sites_get_nothing(url, headers, welcome):
    headers = {name: value.replace("{own}", url) for name, value in headers.items()}
    start, config = f"{url}/gradio_api/call/click", f"{url}/config"
    answers = [httpx.post(start, json={"data": []}, headers=headers), httpx.get(config, headers=headers)]
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
def test_what_this_app_has_no_use_for_is_closed(url, route):
    assert {httpx.request(way, f"{url}/gradio_api/{route}").status_code for way in ("GET", "POST")} <= {
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
def test_bodies_that_cannot_be_read_are_refused(url, route, body):
    answer = httpx.post(f"{url}/gradio_api/{route}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500 and answer.json()


@pytest.mark.parametrize("told", [True, False], ids=["its length is told", "it is not"])
@pytest.mark.parametrize(
    "body",
    [b'{"data": ["' + b"x" * 2**21 + b'"]}', b'{"data": [' + b"[]," * 10_000 + b"1]}"],
    ids=["bytes", "values"],
)
def test_requests_are_bounded_before_they_are_read(url, body, told):
    answer = httpx.post(
        f"{url}/gradio_api/call/generate",
        content=body if told else iter([body]),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 413 and "at most 2 MB and 20000 values" in answer.json()["detail"]


def test_uploads_may_be_larger(url):
    files = [("files", (f"{number}.png", bytes(2**20))) for number in range(3)]
    assert httpx.post(f"{url}/gradio_api/upload", files=files).status_code == 200
    files = [("files", (f"{number}.png", bytes(2**20))) for number in range(102)]
    assert httpx.post(f"{url}/gradio_api/upload", files=files).status_code == 413


def test_the_owner_sets_the_limits():
    given = ["--longest-run", "90", "--waiting-per-visitor", "2", "--largest-upload", "0.5"]
    use = (
        f"import app; print(app.read_limits(app.parse_arguments({given}), public=True));"
        " app.parse_arguments(['--largest-run', '-1'])"
    )
    done = subprocess.run([sys.executable, "-c", use], cwd=ROOT, capture_output=True, text=True)
    ours = replace(PUBLIC, longest_run=90.0, waiting_per_visitor=2, largest_upload=2**19)
    assert done.stdout.splitlines()[-1] == str(ours) and done.returncode == 2
    assert "--largest-run: invalid positive value" in done.stderr
