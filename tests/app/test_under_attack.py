"""Short runs of the fuzzer and of the load test: what nobody should send leads to no failure of ours."""

from __future__ import annotations

import gc
import json
import threading

import httpx
import psutil
import pytest
from gradio.state_holder import SessionState

from benchmarks import fuzz, load
from benchmarks.serving import running_server
from i4vgen.errors import InvalidInputError
from i4vgen.ui import guard, strings
from i4vgen.ui.app import build_app, launch_options
from i4vgen.ui.limits import PUBLIC
from i4vgen.ui.run_store import RunStore


@pytest.fixture(scope="module")
def server():
    with running_server("--public") as running:
        yield running


def visitor_of(url: str) -> load.Visitor:
    return load.Visitor(0, url, httpx.get(f"{url}/config").json(), load.Report(), threading.Event())


def test_what_nobody_should_send_is_refused_in_words(server):
    found = fuzz.run(server, requests=80, seed=7)
    assert found["alive"]
    bad = [what for what in found["problems"] if what[:1] == "5" or "without words" in what]
    assert not bad, "server errors, or errors that say nothing"
    assert found["most_frequent"] == {}, "tracebacks"


def test_streams_of_nobody_end(server):
    for route in ("queue/data?session_hash=nobody", "call/generate/nobody"):
        answer = httpx.get(f"{server.url}/gradio_api/{route}")  # raises if it was cut off
        assert answer.status_code == 200 and "404" in answer.text
    assert server.tracebacks() == {}


def answer_to(server, name: str, session: str, **given: object) -> str:
    """What the stream of a session says of one of the page's events, given "data" or "event_data"."""
    event = visitor_of(server.url).events[name]
    body = {"fn_index": event["id"], "data": [None] * len(event["inputs"]), "session_hash": session} | given
    queue, kind = f"{server.url}/gradio_api/queue", {"content-type": "application/json"}
    httpx.post(f"{queue}/join", content=json.dumps(body), headers=kind).raise_for_status()
    return httpx.get(f"{queue}/data?session_hash={session}").text


def test_half_a_character_is_refused_in_words(server):
    inputs = visitor_of(server.url).events["on_prompt"]["inputs"]
    assert "not valid Unicode" in answer_to(server, "on_prompt", "half", data=["\ud800"] * len(inputs))
    assert server.tracebacks() == {}


@pytest.mark.parametrize("index", [99, -1, "a", [1]])
def test_a_card_that_is_not_there_is_refused_in_words(server, index):
    visitor = visitor_of(server.url)
    visitor.click(load.OPENING)
    said = answer_to(server, "on_card", visitor.session, event_data={"index": index, "toggle": False})
    assert strings.OUT_OF_STEP in said and server.tracebacks() == {}


def test_visitors_get_what_they_asked_for(server):
    found = load.load(server, visitors=4, minutes=0.15)
    assert found["problems"] == {} and found["tracebacks"] == {}
    assert found["runs"] >= 1 and found["clicks"] >= 1


def test_page_loads_leave_nothing_behind(runtime, tmp_path):
    demo = build_app(runtime, run_store=RunStore(tmp_path), limits=PUBLIC)
    options = launch_options() | {"state_session_capacity": 5}
    demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, **options)
    url, this, held = demo.local_url.rstrip("/"), psutil.Process(), []
    try:
        visitor = visitor_of(url)
        for number in range(30):
            visitor.http.get(url).raise_for_status()
            visitor.session = f"tab{number}"
            visitor.click(load.OPENING)
            if number in (9, 29):
                gc.collect()
                sessions = sum(isinstance(each, SessionState) for each in gc.get_objects())
                held.append((sessions, this.num_threads(), this.num_fds()))
    finally:
        demo.close()
    assert not visitor.report.problems and len(visitor.report.clicks) == 30
    assert all(later <= earlier + 2 for earlier, later in zip(*held, strict=True)), held


def test_the_fuzzer_notices_failures_and_silence(tmp_path):
    fuzzer = fuzz.Fuzzer.__new__(fuzz.Fuzzer)
    fuzzer.problems = fuzz.Counter()
    fuzzer.judge(fuzz.httpx.Response(500), "route")
    fuzzer.judge(fuzz.httpx.Response(503), "route")
    assert fuzzer.problems == {"500: route": 1}


def test_a_handler_that_fails_on_what_the_page_would_not_send_refuses_it(monkeypatch):
    told = []
    monkeypatch.setattr(guard, "refusal", lambda words, title: told.append(words) or RuntimeError(words))

    def handler(cards, index):
        if index is None:
            raise InvalidInputError("pick a card")
        return cards[index]

    def stream(cards, index):
        yield cards[index]

    assert guard.guarded(handler)(["a"], 0) == "a" and list(guard.guarded(stream)(["a"], 0)) == ["a"]
    for index in ("0", 7):
        for call in (guard.guarded(handler), lambda *given: list(guard.guarded(stream)(*given))):
            with pytest.raises(RuntimeError, match="out of step"):
                call(["a"], index)
    with pytest.raises(RuntimeError, match="pick a card"):
        guard.guarded(handler)(["a"], None)
