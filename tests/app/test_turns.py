"""Clicks of one tab keep their order, and nobody's click waits for somebody else's."""

from __future__ import annotations

import json
import threading
import time

import gradio as gr
import httpx
import pytest

from i4vgen.ui.app import build_app
from i4vgen.ui.limits import PUBLIC
from i4vgen.ui.queueing import IN_TURN, QUICK
from i4vgen.ui.run_queue import limit_runs
from i4vgen.ui.turns import AT_ONCE, AT_ONCE_PER_VISITOR, WAITING_PER_VISITOR, take_turns
from i4vgen.ui.visitors import host_of

PATIENCE = 30


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
    return host_of(request)


class Studio:
    """An app with the events of this test, and its visitors."""

    def __init__(self) -> None:
        self.gate = Gate()
        with gr.Blocks(analytics_enabled=False) as self.demo:
            log, number = gr.State([]), gr.Number()
            shown, button = gr.JSON(), gr.Button()
            button.click(self.note, [log, number], [log, shown], **IN_TURN)
            button.click(self.hold, [log, number], [log, shown], **IN_TURN)
            button.click(self.look, number, shown, **QUICK)
            gr.api(who, api_name="who")
        limit_runs(self.demo, PUBLIC)
        take_turns(self.demo)
        self.demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
        self.url = f"{self.demo.local_url}gradio_api"

    def note(self, log: list, number: int) -> tuple[list, list]:
        time.sleep(0.02 if number % 2 else 0.0)  # what is quicker does not overtake
        return [*log, number], [*log, number]

    def hold(self, log: list, number: int) -> tuple[list, list]:
        self.gate.wait()
        return self.note(log, number)

    def look(self, number: int) -> list:
        return [number]

    def click(self, session: str, name: str, number: int, visitor: str = "10.0.0.1") -> httpx.Response:
        """Clicks, and does not wait for an answer."""
        function = next(i for i, each in self.demo.fns.items() if each.fn.__name__ == name)
        stateful = [None] if name != "look" else []
        body = {"fn_index": function, "data": [*stateful, number], "session_hash": session}
        headers = {"x-forwarded-for": visitor}
        return httpx.post(f"{self.url}/queue/join", json=body, headers=headers, timeout=PATIENCE)

    def answers(self, session: str, number: int = 1) -> list:
        """The next answers of a session, in the order in which they come."""
        found = []
        with httpx.stream("GET", f"{self.url}/queue/data?session_hash={session}", timeout=PATIENCE) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {}
                if message.get("msg") == "process_completed":
                    assert message["success"], message
                    found.append(message["output"]["data"][-1])
                if len(found) == number:
                    break
        return found


@pytest.fixture
def studio():
    studio = Studio()
    yield studio
    studio.gate.open.set()
    studio.demo.close()


def test_a_slow_click_holds_up_its_own_tab_and_nobody_else(studio):
    studio.click("slow", "hold", 1)
    studio.gate.expect(1)
    studio.click("slow", "note", 2)
    studio.click("other", "note", 3)
    assert studio.answers("other") == [[3]]
    studio.gate.open.set()
    assert studio.answers("slow", 2) == [[1], [1, 2]]


def test_rapid_clicks_keep_their_order(studio):
    for number in range(20):
        studio.click("quick", "note", number)
    assert studio.answers("quick", 20)[-1] == list(range(20))


def test_no_visitor_takes_all_that_runs_at_once(studio):
    for number in range(AT_ONCE):
        studio.click(f"greedy{number}", "hold", number)
    studio.gate.expect(AT_ONCE_PER_VISITOR)
    studio.click("modest", "look", 7, visitor="10.0.0.2")
    assert studio.answers("modest") == [[7]]
    assert studio.gate.count == AT_ONCE_PER_VISITOR
    for number in range(2 * AT_ONCE):
        studio.click(f"many{number}", "hold", number, visitor=f"10.0.1.{number}")
    studio.gate.expect(AT_ONCE - AT_ONCE_PER_VISITOR)
    studio.click("late", "look", 8, visitor="10.0.0.2")
    assert studio.gate.count == AT_ONCE
    studio.gate.open.set()
    assert studio.answers("late") == [[8]]


def test_nobody_piles_up_clicks(studio):
    studio.click("a", "hold", 0)
    studio.gate.expect(1)
    codes = [studio.click("a", "note", number).status_code for number in range(WAITING_PER_VISITOR)]
    refused = studio.click("b", "note", 1)
    assert set(codes) == {200} and refused.status_code == 503 and "Too many clicks" in refused.text
    assert studio.click("c", "note", 5, visitor="10.0.0.2").status_code == 200
    assert studio.answers("c") == [[5]]


@pytest.mark.parametrize(("local", "seen"), [("127.0.0.1", "10.9.9.9"), ("127.0.0.2", "127.0.0.2")])
def test_whose_request_it_is_a_proxy_may_say_and_nobody_else(studio, local, seen):
    headers = {"x-forwarded-for": "10.9.9.9"}
    with httpx.Client(transport=httpx.HTTPTransport(local_address=local), headers=headers) as client:
        event = client.post(f"{studio.url}/call/who", json={"data": []}).json()["event_id"]
        answer = client.get(f"{studio.url}/call/who/{event}", timeout=PATIENCE).text
    assert f'data: ["{seen}"]' in answer


def test_nothing_of_the_app_goes_past_the_queue(runtime):
    demo = build_app(runtime, limits=PUBLIC)
    past = [each for each in demo.fns.values() if not each.queue and each.fn is not None]
    assert not past
    demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        for each in demo.fns.values():
            if each.fn is not None:
                body = {"fn_index": each._id, "data": [None] * len(each.inputs), "session_hash": "x"}
                answer = httpx.post(f"{demo.local_url}gradio_api/run/predict", json=body)
                assert answer.status_code == 404 and "join the queue" in answer.text
    finally:
        demo.close()
