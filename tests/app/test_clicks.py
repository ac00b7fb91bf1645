"""Clicks of one tab lose no changes of each other, and no click waits for another visitor's."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest

from i4vgen.errors import InvalidInputError
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.limits import PUBLIC
from i4vgen.serving.middleware import OpenStreams
from i4vgen.serving.slots import RUNNING, RUNNING_PER_VISITOR, WAITING_PER_VISITOR, Slots
from i4vgen.studio import handlers
from i4vgen.studio import session as session_store
from i4vgen.studio.api.calls import follow_call
from i4vgen.studio.app import build_app
from i4vgen.studio.handlers import Handlers, guarded
from i4vgen.studio.queueing import MAX_EVENTS, QUICK
from i4vgen.studio.session import SESSIONS, Session, Sessions, SubmittedRun, visitor_of
from i4vgen.studio.state import Baselines, CandidateSet, Clip
from tests.support.gradio_protocol import API, Calls, Tab
from tests.support.waiting import PATIENCE, wait_until


class Gate:
    """Clicks wait here until they are let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.count = 0

    def wait(self) -> None:
        self.count += 1
        self.waiting.release()
        assert self.open.wait(PATIENCE)

    def expect(self, clicks: int) -> None:
        """Returns when so many more wait."""
        for _ in range(clicks):
            assert self.waiting.acquire(timeout=PATIENCE)


def who(request: gr.Request) -> str:
    return request.client.host


class Studio:
    """An app with the events of this test, and its visitors."""

    def __init__(self) -> None:
        self.gate, self.sessions = Gate(), Sessions()
        made = self.handlers = Handlers(self.sessions)
        with gr.Blocks(analytics_enabled=False) as self.demo:
            number, shown, button = gr.Number(), gr.JSON(), gr.Button()
            button.click(made.for_tab(self.note), number, shown, **QUICK)
            button.click(made.for_tab(self.hold), number, shown, **QUICK)
            button.click(made.for_visitor(self.look), number, shown, **QUICK)
            gr.api(who, api_name="who")
        self.demo.queue()
        self.demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, max_threads=MAX_EVENTS)
        self.url = self.demo.local_url
        self.config = Tab(self.url).config
        self.tabs: dict[str, Tab] = {}

    def note(self, session: Session, number: int) -> list:
        seen = session.candidate_set.stars
        session.candidate_set = CandidateSet(stars=seen | {number})
        return sorted(session.candidate_set.stars)

    def hold(self, session: Session, number: int) -> list:
        self.gate.wait()
        return self.note(session, number)

    def look(self, _request: gr.Request, number: int) -> list:
        return [number]

    def click(self, tab: str, event: str, number: int, visitor: str = "10.0.0.1") -> None:
        """Clicks in a tab, and does not wait for an answer. visitor: who opens the tab, at its first click."""
        if tab not in self.tabs:
            self.tabs[tab] = Tab(self.url, tab, visitor, self.config)
        self.tabs[tab].join(event, [number])

    def answers(self, tab: str, number: int = 1) -> list:
        """The next answers to a tab, in the order in which they come; what was refused as its words."""
        return [answer.error or answer.data[-1] for answer in self.tabs[tab].answers(number)]


@pytest.fixture
def studio():
    studio = Studio()
    yield studio
    studio.gate.open.set()
    studio.demo.close()


def test_a_slow_click_holds_up_only_its_own_tab(studio):
    studio.click("slow", "hold", 1)
    studio.gate.expect(1)
    studio.click("slow", "note", 2)
    studio.click("other", "note", 3)
    assert studio.answers("other") == [[3]]
    studio.gate.open.set()
    # Gradio may send the second answer before the first, which it is still preparing.
    assert sorted(studio.answers("slow", 2)) == [[1], [1, 2]]


def test_rapid_clicks_lose_nothing_of_each_other(studio):
    for number in range(20):
        studio.click("quick", "note", number)
    assert sorted(max(studio.answers("quick", 20), key=len)) == list(range(20))


def test_no_visitor_takes_all_that_runs_at_once(studio):
    for number in range(RUNNING):
        studio.click(f"greedy{number}", "hold", number)
    studio.gate.expect(RUNNING_PER_VISITOR)
    studio.click("modest", "look", 7, visitor="10.0.0.2")
    assert studio.answers("modest") == [[7]]
    assert studio.gate.count == RUNNING_PER_VISITOR
    for number in range(2 * RUNNING):
        studio.click(f"many{number}", "hold", number, visitor=f"10.0.1.{number}")
    studio.gate.expect(RUNNING - RUNNING_PER_VISITOR)
    studio.click("late", "look", 8, visitor="10.0.0.2")
    assert studio.gate.count == RUNNING
    studio.gate.open.set()
    assert studio.answers("late") == [[8]]


def test_clicks_of_a_visitor_are_limited(studio):
    studio.click("a", "hold", 0)
    studio.gate.expect(1)
    for number in range(1, WAITING_PER_VISITOR):
        studio.click("a", "note", number)
    wait_until(lambda: studio.handlers.slots._present.total() == WAITING_PER_VISITOR)
    studio.click("b", "note", 1)
    assert "Too many clicks" in studio.answers("b")[0]
    studio.click("c", "note", 5, visitor="10.0.0.2")
    assert studio.answers("c") == [[5]]


@pytest.mark.parametrize(("local", "seen"), [("127.0.0.1", "10.9.9.9"), ("127.0.0.2", "127.0.0.2")])
def test_only_a_trusted_proxy_says_whose_request_it_is(studio, local, seen):
    headers = {"x-forwarded-for": "10.9.9.9"}
    transport = httpx.HTTPTransport(local_address=local)
    with httpx.Client(transport=transport, headers=headers, timeout=PATIENCE) as client:
        assert Calls(studio.url, client).call("who", []) == ("complete", [seen])


def test_nothing_of_the_app_goes_past_the_queue(runtime):
    demo = build_app(runtime, limits=PUBLIC)
    past = [each for each in demo.fns.values() if not each.queue and each.fn is not None]
    assert not past
    demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        tab = Tab(demo.local_url)
        for each in demo.fns.values():
            if each.fn is not None:
                body = {"fn_index": each._id, "data": [None] * len(each.inputs), "session_hash": tab.session}
                answer = tab.http.post(f"{tab.url}{API}/run/predict", json=body)
                assert answer.status_code == 404 and "join the queue" in answer.text
    finally:
        demo.close()


def test_a_handler_that_fails_on_what_the_page_would_not_send_refuses_it(monkeypatch):
    told = []
    monkeypatch.setattr(handlers, "refusal", lambda words: told.append(words) or RuntimeError(words))

    def handler(cards, index):
        if index is None:
            raise InvalidInputError("pick a card")
        return cards[index]

    assert guarded(handler)(["a"], 0) == "a"
    for index in ("0", 7):
        with pytest.raises(RuntimeError, match="out of step"):
            guarded(handler)(["a"], index)
    with pytest.raises(RuntimeError, match="pick a card"):
        guarded(handler)(["a"], None)


def test_files_that_are_gone_are_told_without_their_folder(caplog):
    def handler(path):
        Path(path).read_bytes()

    with pytest.raises(gr.Error, match=r"the server cannot use its files \(No such file") as told:
        guarded(handler)("/srv/gone.mp4")
    assert "/srv" not in told.value.message and "/srv/gone.mp4" in caplog.text


def test_calls_of_the_api_count_as_clicks_until_they_are_queued():
    slots, request = Slots(), SimpleNamespace(session_hash="a", client=None)

    async def call() -> None:
        async with AsyncExitStack() as clicks:
            for _ in range(RUNNING_PER_VISITOR):
                await clicks.enter_async_context(slots.hold(visitor_of(request), asyncio.Lock()))
            answers = follow_call(JobQueue(), OpenStreams(), slots, started.append, request, {})
            assert await anext(answers) is None
            waiting = asyncio.ensure_future(anext(answers))
            await asyncio.sleep(0.1)
            assert not waiting.done() and not started
            waiting.cancel()

    started: list = []
    asyncio.run(call())


def test_a_click_that_is_cancelled_before_its_turn_frees_its_slot():
    slots = Slots()

    async def cancel() -> None:
        turn = asyncio.Lock()
        await turn.acquire()

        async def click() -> None:
            async with slots.hold("a visitor", turn):
                pass

        waiting = asyncio.create_task(click())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cancel())
    assert not slots._present and not slots._own


def test_a_run_that_was_started_before_the_page_had_loaded_stays_with_its_tab():
    sessions, tab = Sessions(), "0" * 32
    early = sessions.of("page")
    assert sessions.attach("page", tab) is early
    assert sessions.of("page") is sessions.attach("reloaded page", tab) is early
    sessions.of("another page")
    assert sessions.attach("another page", tab) is early, "what the tab has goes before"


def test_a_tab_with_a_run_stays_however_many_pages_are_loaded():
    sessions, tab = Sessions(), "f" * 32
    busy = sessions.attach("busy", tab)
    busy.run = SubmittedRun(Running(), "choose")
    seen, token = sessions.attach("seen", "e" * 32), "{:032x}"
    for number in range(3 * SESSIONS):
        sessions.attach(str(number), token.format(number))
        assert sessions.of("seen") is seen
    assert sessions.of("busy") is busy is sessions.attach("reloaded", tab)


class Running:
    """A run that does not end."""

    is_over = False


def test_the_oldest_tabs_are_forgotten_but_not_one_with_a_run(monkeypatch):
    now = [0.0]
    sessions = Sessions(now=lambda: now[0])
    busy, idle = sessions.of("busy"), sessions.of("idle")
    busy.run = SubmittedRun(Running(), "choose")
    assert sessions.of("idle") is idle
    for number in range(SESSIONS):
        sessions.of(str(number))
    assert sessions.of("busy") is busy and sessions.of("idle") is not idle
    kept = sessions.of("0")
    clip = Clip("vanilla", "", 1, 8, 0.0, np.zeros((1, 8, 8, 3), np.uint8))
    for name in ("1", "2"):
        sessions.of(name).baselines = Baselines(clips={"vanilla": replace(clip, frames=clip.frames.copy())})
    monkeypatch.setattr(session_store, "MAX_BYTES", sessions.of("2").num_bytes)
    video = sessions.of("2").baselines
    sessions.of("a new page")
    assert not sessions.of("1").baselines.clips and sessions.of("2").baselines is video
    assert sessions.of("0") is kept
    now[0] += 25 * 3600
    sessions.of("another")
    assert sessions.of("0") is not kept and sessions.of("busy") is busy
