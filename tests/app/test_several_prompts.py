"""Several prompts on a real server: queued, asked after, collected, by whoever has their names."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from gradio_client import Client

from i4vgen.ui.app import build_app
from i4vgen.ui.limits import PUBLIC, Budget
from i4vgen.ui.panels import several
from i4vgen.ui.prompt_queue import PromptQueue
from i4vgen.ui.run_store import RunStore

PATIENCE = 60
SETTINGS = {"Candidates": 2, "Denoising steps": 2, "Seed": 3}


class Studio:
    """The app, and the events of its page as a browser sends them."""

    def __init__(self, runtime, folder) -> None:
        self.store = RunStore(folder)
        self.demo = build_app(runtime, run_store=self.store, limits=PUBLIC)
        self.demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
        self.url = f"{self.demo.local_url}gradio_api"

    def send(self, handler: str, visitor: str = "10.0.0.1", **given: object) -> list:
        """What an event answers, without the updates that Gradio wraps values in.

        given: the values of components, by their ids or labels; all others are as the page begins.
        """
        function = next(each for each in self.demo.fns.values() if getattr(each.fn, "__name__", "") == handler)
        values = [
            given.get(each.elem_id or "known", given.get(getattr(each, "label", None), each.value))
            for each in function.inputs
        ]
        session = f"s{time.monotonic_ns()}"
        body = {"fn_index": function._id, "data": values, "session_hash": session}
        headers = {"x-forwarded-for": visitor}
        httpx.post(f"{self.url}/queue/join", json=body, headers=headers, timeout=PATIENCE).raise_for_status()
        with httpx.stream("GET", f"{self.url}/queue/data?session_hash={session}", timeout=PATIENCE) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {}
                if message.get("msg") == "process_completed":
                    assert message["success"], message["output"]
                    return message["output"]["data"]
        raise AssertionError("no answer")

    def queue(self, lines: str, visitor: str = "10.0.0.1", **settings: object) -> tuple[list, str, str]:
        """Queues lines. Returns what the browser is to remember, what stays in the box, and what is said."""
        given = {"queue-lines": lines} | SETTINGS | settings
        changes, box, said = self.send("on_queue", visitor, **given)
        return changes["added"], box, said["value"]

    def look(self, known: list) -> tuple[str, list, list]:
        """What the heading says, the rows, and the runs for the history."""
        several, collected, rows, *_ = self.send("on_look", known=known)
        return several["label"], rows["rows"] if rows else [], collected

    def wait_for(self, known: list) -> list:
        """The finished runs, once nothing of these is in the queue any more."""
        deadline = time.monotonic() + PATIENCE
        while self.look(known)[1]:
            assert time.monotonic() < deadline
            time.sleep(0.3)
        return self.look(known)[2]


@pytest.fixture(scope="module")
def studio(runtime, tmp_path_factory):
    studio = Studio(runtime, tmp_path_factory.mktemp("runs"))
    yield studio
    studio.demo.close()


def test_lines_are_queued_with_the_settings_of_the_form_and_the_runs_come_back(studio, monkeypatch):
    added, box, said = studio.queue("a red rocket\n\n  a blue car  \n")
    assert [each["prompt"] for each in added] == ["a red rocket", "a blue car"] and box == ""
    assert "2 prompts are queued." in said
    heading, rows, _ = studio.look(added)
    assert len(rows) == 2 and heading.startswith("Several prompts: 2 queued")
    finished = studio.wait_for(added)
    assert [entry["run"] for entry in finished] == [each["run"] for each in reversed(added)], "newest first"
    first = finished[-1]["settings"]
    assert (first["prompt"], first["seed"], first["num_candidates"]) == ("a red rocket", 3, 2)
    assert first["num_inference_steps"] == 2 and first["compare"] == ["vanilla"]
    monkeypatch.setattr(several, "COLLECT_AT_ONCE", 1)
    some = [studio.look(known) for known in (added, added[1:])]
    assert [[entry["run"] for entry in each[2]] for each in some] == [[line["run"]] for line in added]
    assert [each[0] for each in some] == ["Several prompts"] * 2
    assert studio.store.open(added[0]["run"]).config.prompt == "a red rocket"


def test_a_bad_line_is_named_and_stays_and_the_good_ones_are_queued(studio):
    added, box, said = studio.queue(f"a red car\n{'a' * 2001}\na <b>zyzzyva</b>\na red car")
    assert [each["prompt"] for each in added] == ["a red car", "a <b>zyzzyva</b>"]
    assert box.splitlines() == ["a" * 2001, "a red car"]
    assert "2 lines could not be queued" in said and "prompt is too long" in said and "twice" in said
    assert "never seen" in said and "<b>zyzzyva</b>&#x27;" not in said, "what is quoted is no HTML"
    assert len(studio.wait_for(added)) == 2


def test_what_is_wrong_with_the_form_or_the_box_refuses_all_lines(studio):
    for lines, settings, words in (
        (" \n", {}, "Write a prompt on each line"),
        ("a car", {"Seed": None}, "Seed"),
        ("a car\n" * 97, {}, "96 lines"),
    ):
        with pytest.raises(AssertionError, match=words):
            studio.queue(lines, **settings)


def test_nobody_queues_more_than_their_share_and_others_still_can(studio, monkeypatch):
    most = PUBLIC.queued_per_visitor
    added, box, said = studio.queue(
        "\n".join(f"a red car {'a ' * i}" for i in range(most + 2)), **{"Denoising steps": 60}
    )
    assert len(added) == most and len(box.splitlines()) == 2 and f"{most} prompts of yours" in said
    others, _, _ = studio.queue("a blue car", visitor="10.0.0.2")
    _, rows, _ = studio.look(others)
    assert rows[0]["words"].startswith(("Next", "Position 2")), "not behind all of somebody else's"
    _, rows, _ = studio.look([{"run": "x" * 16, "prompt": "mine"}, {"run": 7}, "x"])
    assert [row["state"] for row in rows] == ["failed"] and "Lost" in rows[0]["words"]
    studio.send("on_leave_all", known=[{"run": "x" * 16, "prompt": "not mine"}])
    assert sum(row["state"] != "failed" for row in studio.look(added)[1]) == most
    (changes, _, _) = studio.send("on_leave_all", known=added)
    assert changes["over"] == [each["run"] for each in added]
    assert studio.wait_for(others), "the device is free at once"
    assert all(row["state"] == "failed" for row in studio.look(added)[1]), "this page was told to forget them"


def test_a_click_waits_for_one_queued_run_and_not_for_all(studio):
    client = Client(studio.demo.local_url, verbose=False)
    longer = {"Denoising steps": 10, "Compare with": []}
    added, _, _ = studio.queue("a red car\na blue car\na red rocket", **longer)
    drawn = client.predict("a car", num_candidates=1, num_inference_steps=1, api_name="/candidates")
    assert len(studio.wait_for(added)) == len(added)
    order = [kept.path.stem for kept in studio.store.runs()]
    assert order.index(drawn["run"]) < order.index(added[-1]["run"])


def test_after_a_restart_the_finished_runs_are_there_and_what_waited_is_said_to_be_lost(studio, runtime):
    known, _, _ = studio.queue("a red rocket")
    studio.wait_for(known)
    restarted = PromptQueue(studio.store, Budget(PUBLIC))
    known.append({"run": studio.store.new_token(), "prompt": "a car that waited"})
    assert restarted.look([each["run"] for each in known]) == {}
    _, rows, finished = studio.look(known)
    assert [row["prompt"] for row in rows] == ["a car that waited"] and "restarted" in rows[0]["words"]
    assert [entry["run"] for entry in finished] == [known[0]["run"]]
    changes, box, _ = studio.send("on_again", known=known, **{"queue-lines": "another"})
    assert changes["over"] == [known[1]["run"]] and box == "another\na car that waited"


def test_where_runs_need_their_visitor_nothing_can_be_queued(runtime, monkeypatch):
    monkeypatch.setattr(type(runtime), "unattended", False)
    demo = build_app(runtime)
    assert not any(getattr(each.fn, "__name__", "") == "on_queue" for each in demo.fns.values())
    assert "lent to whoever asks" in str(demo.get_config_file()["components"])
