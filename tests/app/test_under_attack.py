"""Short runs of the fuzzer and of the load test: malformed requests cause no failure of the app."""

from __future__ import annotations

import gc
from uuid import uuid4

import httpx
import psutil
import pytest
from gradio.state_holder import SessionState

from benchmarks import fuzz, load
from benchmarks.serving import running_server
from i4vgen.serving.limits import PUBLIC
from i4vgen.storage.run_store import RunStore
from i4vgen.studio import strings
from i4vgen.studio.app import build_app, launch_options
from tests.support.gradio_protocol import API, Tab
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture(scope="module")
def server():
    with running_server("--public") as running:
        yield running


def test_malformed_requests_get_a_clear_error(server):
    found = fuzz.run(server, requests=80, seed=7)
    assert found["alive"]
    bad = [what for what in found["problems"] if what[:1] == "5" or "without words" in what]
    assert not bad, "server errors, or errors that say nothing"
    assert found["most_frequent"] == {}, "tracebacks"


def test_streams_of_unknown_sessions_end(server):
    for route in ("queue/data?session_hash=unknown", "call/generate/unknown"):
        answer = httpx.get(f"{server.url}{API}/{route}", timeout=PATIENCE)  # raises if it was cut off
        assert answer.status_code == 200 and "404" in answer.text
    assert server.tracebacks() == {}


def test_the_queue_and_the_kept_runs_cannot_be_downloaded(server):
    (database,) = server.folder.rglob("jobs-*.sqlite")
    answer = httpx.get(f"{server.url}{API}/file={database}", timeout=PATIENCE)
    assert answer.status_code == 403 and server.tracebacks() == {}


def test_half_a_character_is_refused_in_words(server):
    tab = Tab(server.url)
    tab.join("on_prompt", ["\ud800"] * len(tab.events["on_prompt"]["inputs"]))
    (answer,) = tab.answers()
    assert "not valid Unicode" in answer.error and server.tracebacks() == {}


@pytest.mark.parametrize("index", [99, -1, "a", [1]])
def test_a_card_that_is_not_there_is_refused_in_words(server, index):
    tab = Tab(server.url)
    tab.send(load.OPENING)
    tab.join("on_card", event_data={"index": index, "ticked": None})
    (answer,) = tab.answers()
    assert strings.OUT_OF_STEP in answer.error and server.tracebacks() == {}


def test_an_event_that_names_a_foreign_file_is_refused_in_words(server):
    tab, file = Tab(server.url), {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    tab.send(load.OPENING)
    tab.join("on_card", event_data={"index": 0, "ticked": [file]})
    (answer,) = tab.answers()
    assert strings.OUT_OF_STEP in answer.error and server.tracebacks() == {}


def test_visitors_get_what_they_asked_for(server, monkeypatch):
    monkeypatch.setitem(load.RUN, "num_frames", 2)
    found = load.load(server, visitors=4, minutes=5, until=lambda seen: len(seen.runs) > 1 < len(seen.clicks))
    assert found["problems"] == {} and found["tracebacks"] == {}
    assert found["runs"] > 1 and found["clicks"] > 1


def test_page_loads_leave_nothing_behind(runtime, tmp_path):
    demo = build_app(runtime, run_store=RunStore(tmp_path), limits=PUBLIC)
    options = launch_options() | {"state_session_capacity": 5}
    demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, **options)
    this = psutil.Process()

    def held() -> tuple[int, ...]:
        """How many sessions, threads and open files there are."""
        gc.collect()
        sessions = sum(isinstance(each, SessionState) for each in gc.get_objects())
        return sessions, this.num_threads(), this.num_fds()

    def load_pages(number: int) -> None:
        for _ in range(number):
            tab.http.get(tab.url).raise_for_status()
            tab.session = uuid4().hex
            tab.send(load.OPENING)

    try:
        tab = Tab(demo.local_url)
        load_pages(10)
        earlier = held()
        load_pages(20)

        def is_as_before() -> bool:
            load_pages(1)  # idle threads end when the next one begins
            return all(now <= before + 2 for before, now in zip(earlier, held(), strict=True))

        wait_until(is_as_before)  # a connection that was closed may be held a moment longer
    finally:
        demo.close()


def test_the_fuzzer_notices_failures_and_silence(tmp_path):
    fuzzer = fuzz.Fuzzer.__new__(fuzz.Fuzzer)
    fuzzer.problems = fuzz.Counter()
    fuzzer.judge(fuzz.httpx.Response(500), "route")
    fuzzer.judge(fuzz.httpx.Response(503), "route")
    assert fuzzer.problems == {"500: route": 1}
