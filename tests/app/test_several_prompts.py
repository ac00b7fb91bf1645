"""Several prompts on a real server: queued, asked after, collected, by any client with their names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from i4vgen.errors import StorageError
from i4vgen.serving.jobs.store import JobStore
from i4vgen.serving.limits import PUBLIC
from i4vgen.storage.run_store import RunStore
from i4vgen.studio.app import build_app
from i4vgen.studio.panels import several
from tests.support.gradio_protocol import EventFailedError, Tab, open_client
from tests.support.waiting import PATIENCE, wait_until

SETTINGS = {"Candidates": 2, "Denoising steps": 2, "Seed": 3}


class Studio:
    """The app, and a tab with its page."""

    def __init__(self, runtime, folder) -> None:
        self.store = RunStore(folder)
        self.demo = build_app(runtime, run_store=self.store, limits=PUBLIC)
        self.demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
        self.tab = Tab(self.demo.local_url, visitor="10.0.0.1")

    def send(self, event: str, *data: object) -> list:
        """What an event answers, without the updates that Gradio wraps values in."""
        return self.tab.send(event, list(data))

    def queue(self, lines: str, tab: Tab | None = None, **settings: object) -> tuple[list, str, str]:
        """Queues lines. Returns what the browser is to remember, what stays in the box, and what is said."""
        tab = tab or self.tab
        fields = {"queue-lines": lines} | SETTINGS | settings
        changes, box, said = tab.send("on_queue", tab.values("on_queue", fields))
        return changes["added"], box, said["value"]

    def look(self, known: list) -> tuple[str, list, list]:
        """What the heading says, the rows, and the runs for the history."""
        several, collected, rows, *_ = self.send("on_look", known)
        return several["label"], rows["rows"] if rows else [], collected

    def look_until(self, known: list, condition: Callable[[list], bool]) -> list:
        """The runs for the history, once the rows are as they should be."""
        wait_until(lambda: condition(self.look(known)[1]))
        return self.look(known)[2]

    def wait_for(self, known: list) -> list:
        """The finished runs, once nothing of these is in the queue any more."""
        return self.look_until(known, lambda rows: not rows)


@pytest.fixture(scope="module")
def studio(runtime, tmp_path_factory):
    studio = Studio(runtime, tmp_path_factory.mktemp("runs"))
    yield studio
    studio.demo.close()


@pytest.fixture
def release(runtime):
    """release(): frees the device, which another run has until then. What is queued before it waits."""
    other = runtime.stream(lambda _pipeline: iter(["begun", "over"]))
    next(other)
    yield other.close
    other.close()


def test_lines_are_queued_with_the_settings_of_the_form_and_the_runs_come_back(studio, release, monkeypatch):
    added, box, said = studio.queue("a red rocket\n\n  a blue car  \n")
    assert [each["prompt"] for each in added] == ["a red rocket", "a blue car"] and box == ""
    assert "2 prompts are queued." in said
    heading, rows, _ = studio.look(added)
    assert len(rows) == 2 and heading.startswith("Several prompts: 2 queued")
    release()
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


def test_a_disk_that_fills_up_keeps_the_lines_that_are_queued(studio, monkeypatch, caplog):
    add = JobStore.add

    def full(self, name, owner, request):
        if request["config"]["prompt"] == "a blue car":
            raise StorageError("cannot write to /srv/runs: the disk is full", "the disk is full")
        add(self, name, owner, request)

    monkeypatch.setattr(JobStore, "add", full)
    added, box, said = studio.queue("a red rocket\na blue car\na red car")
    assert [each["prompt"] for each in added] == ["a red rocket"]
    assert box.splitlines() == ["a blue car", "a red car"]
    assert "(the disk is full)" in said and "/srv" not in said and "/srv/runs" in caplog.text
    assert len(studio.wait_for(added)) == 1


def test_what_is_wrong_with_the_form_or_the_box_refuses_all_lines(studio):
    for lines, settings, words in (
        (" \n", {}, "Write a prompt on each line"),
        ("a car", {"Seed": None}, "Seed"),
        ("a car\n" * 97, {}, "96 lines"),
    ):
        with pytest.raises(EventFailedError, match=words):
            studio.queue(lines, **settings)


def test_a_visitor_queues_at_most_a_share_and_others_still_can(studio, release):
    most = PUBLIC.queued_per_visitor
    added, box, said = studio.queue("\n".join(f"a red car {'a ' * i}" for i in range(most + 2)))
    assert len(added) == most and len(box.splitlines()) == 2 and f"You already have {most} prompts" in said
    other = Tab(studio.tab.url, visitor="10.0.0.2", config=studio.tab.config)
    others, _, _ = studio.queue("a blue car", other)
    _, rows, _ = studio.look(others)
    assert rows[0]["words"].startswith(("Next", "Position 2")), "not behind all of another visitor's"
    _, rows, _ = studio.look([{"run": "x" * 16, "prompt": "mine"}, {"run": 7}, "x"])
    assert [row["state"] for row in rows] == ["failed"] and "Lost" in rows[0]["words"]
    studio.send("on_leave_all", [{"run": "x" * 16, "prompt": "not mine"}])
    assert sum(row["state"] != "failed" for row in studio.look(added)[1]) == most
    (changes, _, _) = studio.send("on_leave_all", added)
    assert changes["over"] == [each["run"] for each in added]
    release()
    assert studio.wait_for(others), "the device is free at once"
    assert all(row["state"] == "failed" for row in studio.look(added)[1]), "this page was told to forget them"


def test_a_click_waits_for_one_queued_run_and_not_for_all(studio, release):
    added, _, _ = studio.queue("a red car\na blue car", **{"Compare with": []})
    client = open_client(studio.demo.local_url)
    click = client.submit("a car", num_candidates=1, num_inference_steps=1, api_name="/candidates")
    studio.look_until(added, lambda rows: rows[1]["words"].startswith("Position 2"))
    release()
    assert len(studio.wait_for(added)) == len(added)
    order = [kept.path.stem for kept in studio.store.runs()]
    assert order.index(click.result(PATIENCE)["run"]) < order.index(added[-1]["run"])


def test_a_prompt_that_the_server_does_not_know_is_said_to_be_lost_and_can_be_queued_again(studio):
    known, _, _ = studio.queue("a red rocket")
    studio.wait_for(known)
    known.append({"run": studio.store.new_token(), "prompt": "a car that waited"})
    _, rows, finished = studio.look(known)
    assert [row["prompt"] for row in rows] == ["a car that waited"] and "reset before this run" in rows[0][
        "words"
    ]
    assert [entry["run"] for entry in finished] == [known[0]["run"]]
    changes, box, _ = studio.send("on_again", known, "another")
    assert changes["over"] == [known[1]["run"]] and box == "another\na car that waited"


def test_where_runs_need_their_visitor_nothing_can_be_queued(runtime, monkeypatch):
    monkeypatch.setattr(type(runtime), "unattended", False)
    demo = build_app(runtime)
    assert not any(getattr(each.fn, "__name__", "") == "on_queue" for each in demo.fns.values())
    assert "only while your page is open" in str(demo.get_config_file()["components"])
