"""A run that is refused, fails or is stopped hides no earlier videos, and leaves their link in the address. A
run whose page was closed ends.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gradio_client.utils import apply_diff

from i4vgen.serving.jobs.job import PAGE_LEASE, QueueFullError
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.middleware import OpenStreams
from i4vgen.storage.run_store import RunStore
from i4vgen.studio import animating, app, drawing, files
from i4vgen.studio.app import build_app, launch_options
from i4vgen.studio.components.live import live_value
from tests.support.gradio_protocol import API, Tab, json_body, read_stream
from tests.support.waiting import wait_until

SETTINGS = {"prompt": "a red rocket", "Candidates": 2, "Denoising steps": 2}
SAVES = ("save-side", "save-gif", "save-all")


class Page(Tab):
    """A tab that shows what it receives, and fires the events that follow an event, as a browser does.

    Attributes:
        link: The run in the address bar; empty without one.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.link = ""
        self.shown = {each["id"]: {"value": None} | each["props"] for each in self.config["components"]}
        self.names = {
            props[kind]: id
            for kind in ("label", "elem_id")
            for id, props in self.shown.items()
            if kind in props
        }
        self.token, self.newest = self.events["remember"]["outputs"]
        for name, value in SETTINGS.items():
            self[name]["value"] = value
        self.fire(self.events["on_load"])

    def __getitem__(self, name: str) -> dict:
        """What a component shows, by its id or label."""
        return self.shown[self.names[name]]

    @property
    def results(self) -> tuple:
        """What the page shows of the finished videos."""
        saves = tuple(self[save]["visible"] for save in SAVES)
        return self["player"]["value"], self["report"]["value"], saves

    def click(self, button: str) -> bool:
        """Clicks a button. Returns whether all went well."""
        done = [self.fire(each) for each in self.events_of(button)]
        return all(done)

    def begin_run(self, button: str) -> None:
        """Clicks a button that starts a run, and does not wait for the run's end."""
        (checked,) = self.events_of(button)
        assert self.ask(checked)
        (followed,) = [each for each in self.followers_of(checked) if each["backend_fn"]]
        self.begin(followed)

    def events_of(self, button: str) -> list[dict]:
        """The events that a click fires itself."""
        target = [self.names[button], "click"]
        return [each for each in self.events.values() if target in each["targets"]]

    def followers_of(self, event: dict) -> list[dict]:
        """The events that follow an event."""
        return [each for each in self.events.values() if each["trigger_after"] == event["id"]]

    def reload(self) -> None:
        self.fire(self.events["on_load"])

    def fire(self, event: dict, **more: object) -> bool:
        """Fires an event and those that follow it. Returns whether all went well."""
        is_done = self.ask(event, **more) if event["backend_fn"] else self.run_script(event)
        follows = "trigger_only_on_success" if is_done else "trigger_only_on_failure"
        followers = self.followers_of(event)
        followers.sort(key=lambda each: each["backend_fn"])  # scripts do not wait for the server
        return all([is_done, *[self.fire(each) for each in followers if each[follows]]])

    def run_script(self, event: dict) -> bool:
        """Does what the page's scripts do to the link."""
        ((name, first),) = re.findall(r"studio\.(\w+)\((.*)\.\.\.values\)$", event["js"])
        values = json.loads(f"[{first.rstrip(', ')}]") + [self.shown[each]["value"] for each in event["inputs"]]
        if name == "writeLink":
            self.link = values[1]
        elif name == "writeNewLink" and values[1]:
            self.link = values[2]
        return True

    def begin(self, event: dict, **more: object) -> None:
        """Sends an event to the server."""
        data = [self.shown[each]["value"] for each in event["inputs"]]
        body = {"fn_index": event["id"], "data": data, "session_hash": self.session}
        self.http.post(f"{self.url}{API}/queue/join", **json_body(body | more)).raise_for_status()

    def ask(self, event: dict, **more: object) -> bool:
        """Sends an event to the server and shows its answers. Returns whether it was answered without error."""
        self.begin(event, **more)
        latest: list = []
        with self.http.stream("GET", f"{self.url}{API}/queue/data?session_hash={self.session}") as stream:
            for _, message in read_stream(stream.iter_lines()):
                if message["msg"] == "process_generating":
                    given = message["output"]["data"]
                    pairs = zip(latest, given, strict=True)
                    latest = [apply_diff(*pair) for pair in pairs] if latest else given
                elif message["msg"] == "process_completed":
                    latest = message["output"]["data"] if message["success"] else latest
                    break
        for component, value in zip(event["outputs"], latest, strict=bool(latest)):
            is_update = isinstance(value, dict) and value.get("__type__") == "update"
            self.shown[component] |= value if is_update else {"value": value}
        return message["success"]


@contextmanager
def running_studio(runtime, folder: Path, streams: OpenStreams | None = None) -> Iterator[str]:
    (folder / "examples.json").write_text(json.dumps([{"prompt": "a red rocket", "seed": 7}]))
    demo = build_app(runtime, folder / "examples.json", RunStore(folder / "runs"), streams=streams)
    demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, **launch_options(streams=streams))
    try:
        yield demo.local_url.rstrip("/")
    finally:
        demo.close()


@pytest.fixture(scope="module")
def url(runtime, tmp_path_factory) -> Iterator[str]:
    with running_studio(runtime, tmp_path_factory.mktemp("studio")) as address:
        yield address


@pytest.fixture(scope="module")
def finished(url) -> Page:
    """A page with finished videos. Tests leave them there."""
    return finish(Page(url))


@pytest.fixture
def page(finished) -> Page:
    """The finished page, with the link to its run."""
    player, report, saves = finished.results
    assert player and report and saves == (True, True, True)
    assert finished.link and finished.link == finished.shown[finished.token]["value"]
    finished.reload()
    return finished


def finish(page: Page) -> Page:
    assert page.click("generate") and not page.link
    assert page.click("animate")
    return page


def watch_queues(monkeypatch, **options) -> list[JobQueue]:
    """The job queues of the studios that the test starts from now on."""
    queues = []

    def make_queue(*given):
        queues.append(JobQueue(*given, **options))
        return queues[-1]

    monkeypatch.setattr(app, "JobQueue", make_queue)
    return queues


def full_queue(*_given):
    raise QueueFullError(attended=True, per_visitor=3)


def full_disk(*_given):
    raise OSError(28, "No space left on device")


def expect_unchanged(page: Page, before: tuple, link: str) -> None:
    assert page.results == before and page.link == link and page["animate"]["interactive"]
    page.reload()
    assert page.results == before and page.shown[page.token]["value"] == link


@pytest.mark.parametrize("button", ["generate", "animate"])
def test_a_click_that_is_refused_keeps_the_link(page, button):
    before, link, steps = page.results, page.link, page["Denoising steps"]["value"]
    page["Denoising steps"]["value"] = None
    assert not page.click(button)
    page["Denoising steps"]["value"] = steps
    expect_unchanged(page, before, link)


@pytest.mark.parametrize("button", ["generate", "animate"])
def test_a_full_queue_hides_nothing(page, button, monkeypatch):
    before, link = page.results, page.link
    monkeypatch.setattr(JobQueue, "submit", full_queue)
    assert not page.click(button)
    expect_unchanged(page, before, link)


def test_a_full_queue_keeps_the_link_of_an_opened_run(page, url, monkeypatch):
    other = Page(url)
    (memory,) = other.events["on_memory"]["inputs"]
    settings = {"prompt": "a red rocket", "seed": 3, "model": "pocket"}
    other.shown[memory]["value"] = [{"run": page.link, "settings": settings}]
    assert other.fire(other.events["on_history"], event_data={"index": 0, "value": None})
    before, link = other.results, other.link
    assert before[1] and link == page.link
    monkeypatch.setattr(JobQueue, "submit", full_queue)
    assert not other.click("animate")
    assert other.results == before and other.link == other.shown[other.token]["value"] == link


@pytest.mark.parametrize(
    ("button", "failing", "status"),
    [("generate", "save_picture", "candidates-status"), ("animate", "save_anchor", "live")],
)
def test_a_run_that_fails_before_its_first_result_hides_nothing(page, button, failing, status, monkeypatch):
    before, link = page.results, page.link
    monkeypatch.setattr(files, failing, full_disk)
    assert not page.click(button)
    words = page[status]["value"]["words"]
    assert "No space left" in words
    expect_unchanged(page, before, link)
    assert page[status]["value"]["words"] == words


@pytest.mark.parametrize("early", [True, False], ids=["before the model is loaded", "before the first video"])
def test_an_animation_that_is_stopped_before_its_first_video_hides_nothing(page, early, monkeypatch):
    before, link, tokens = page.results, page.link, []
    animate, save_anchor = animating.animate, files.save_anchor

    def begin(plan, candidate_set, anchors, known, token, *more):
        tokens.append(token)
        if early:
            token.stop()
        return animate(plan, candidate_set, anchors, known, token, *more)

    def stop(*given):
        tokens[-1].stop()
        return save_anchor(*given)

    monkeypatch.setattr(animating, "animate", begin)
    monkeypatch.setattr(files, "save_anchor", stop)
    assert page.click("animate") and tokens[-1].stopped
    expect_unchanged(page, before, link)


def test_an_animation_that_fails_between_its_videos_shows_and_keeps_the_finished_ones(url, monkeypatch):
    page = finish(Page(url))
    earlier, save_clip, saved = page.link, files.save_clip, []

    def save(result, recipe):
        saved.append(result.name)
        return full_disk() if result.name == "vanilla" else save_clip(result, recipe)

    monkeypatch.setattr(files, "save_clip", save)
    page["Denoising steps"]["value"] = 3
    assert not page.click("animate") and saved == ["ni_vsds", "i4vgen", "vanilla"]
    (kept,) = page.shown[page.newest]["value"]
    assert page.link == kept["run"] != earlier
    (player, _, saves), shown = page.results, page.results
    assert [pane["name"] for pane in player["panes"]] == ["anchor", "ni_vsds", "i4vgen"]
    assert saves == (True, True, True)
    page.reload()
    assert page.results == shown


def test_a_run_that_ends_while_its_page_is_loaded_again_is_shown_as_over(runtime, tmp_path, monkeypatch):
    queues, draw, go_on = watch_queues(monkeypatch), drawing.draw, threading.Event()

    def draw_on(*given):
        for step in draw(*given):
            yield step
            go_on.wait()

    monkeypatch.setattr(drawing, "draw", draw_on)
    with running_studio(runtime, tmp_path) as url:
        (jobs,) = queues
        page = Page(url)
        page.begin_run("generate")
        wait_until(lambda: len(jobs))
        assert page.ask(page.events["on_load"])
        assert page["stop-candidates"]["visible"] and not page["generate"]["visible"]
        go_on.set()
        wait_until(lambda: not len(jobs))
        assert page.ask(page.events["follow_again"])
        assert page["generate"]["visible"] and page["generate"]["interactive"]
        assert not page["stop-candidates"]["visible"]
        assert page["candidates-status"]["value"]["words"].startswith("2 candidates in")
        assert len(page["gallery"]["value"]["cards"]) == 2
        (in_progress,) = page.events["follow_again"]["inputs"]
        assert page.shown[in_progress]["value"]
        page.reload()
        assert not page.shown[in_progress]["value"], "nothing to follow: what is over is not shown twice"


def test_a_run_ends_two_minutes_after_its_page_was_closed(runtime, tmp_path, monkeypatch):
    clock, streams = [0.0], OpenStreams()
    queues = watch_queues(monkeypatch, now=lambda: clock[0])

    def draw_on(_runtime, candidate_set, token, *_more):
        while not token.stopped:
            time.sleep(0.01)
            yield candidate_set, live_value("Drawing")

    monkeypatch.setattr(drawing, "draw", draw_on)
    with running_studio(runtime, tmp_path, streams) as url:
        (jobs,) = queues
        page = Page(url)
        page.begin_run("generate")
        with page.http.stream("GET", f"{url}{API}/queue/data?session_hash={page.session}") as stream:
            messages = (message for _, message in read_stream(stream.iter_lines()))
            updates = (each for each in messages if each["msg"] == "process_generating")
            for _ in range(3):
                clock[0] += PAGE_LEASE - 1
                next(updates), next(updates)  # the first may have been on its way
            assert len(jobs) == 1, "an open page keeps its run"
        wait_until(lambda: not streams.has_listener(page.session))
        assert len(jobs) == 1, "it may come back"
        clock[0] += PAGE_LEASE + 1
        wait_until(lambda: not len(jobs))
