"""Queued prompts: their order, their bounds, who may do what with them, their time, restarts."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Collection

import pytest

from i4vgen.config import GenerationConfig
from i4vgen.errors import StorageError
from i4vgen.events import Loading, Progress, Stage
from i4vgen.method.comparisons import stage_work
from i4vgen.serving import prompt_queue
from i4vgen.serving.budget import Budget, RunPlan
from i4vgen.serving.jobs.job import Job, QueueFullError
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.jobs.store import JobStore
from i4vgen.serving.limits import Limits
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.pace import Pace, RunClock
from i4vgen.serving.prompt_queue import PromptQueue
from i4vgen.serving.runtime import Runtime
from i4vgen.storage.run_store import RunStore
from i4vgen.storage.runs import RunFolder
from i4vgen.studio.errors import words_of
from i4vgen.studio.strings import run_words
from tests.support.waiting import PATIENCE, wait_until

LIMITS = Limits(queued=4, queued_per_visitor=3)


@pytest.fixture
def run_store(tmp_path) -> RunStore:
    return RunStore(tmp_path)


def open_queue(run_store: RunStore, runtime: Runtime, allowed: Collection[str] | None = None) -> PromptQueue:
    return PromptQueue(JobQueue(LIMITS), run_store, Budget(LIMITS), OfferedModels(runtime, allowed))


@pytest.fixture
def queue(run_store, runtime):
    queue = open_queue(run_store, runtime)
    yield queue
    for handle in queue._queued.values():
        handle.stop()
    wait_until(lambda: not len(queue.jobs))  # a fork would inherit the lock of the device from a run under way
    queue.close()


@pytest.fixture
def free(queue):
    """free(): ends a watched run, which has the device until then."""
    begun, let = threading.Event(), threading.Event()

    def hold(_token):
        begun.set()
        assert let.wait(PATIENCE)
        yield None

    queue.jobs.submit(Job("watcher", hold, RunClock(Pace(), "another", {"vanilla": 1}, {"vanilla": 0})))
    assert begun.wait(PATIENCE)
    yield let.set
    let.set()


@pytest.fixture
def add(queue, runtime, make_config):
    """add(owner, **settings): queues a prompt."""

    def queued(owner: str = "a", **given) -> str:
        return queue.add(
            RunPlan.whole(runtime, make_config(**{"num_inference_steps": 2} | given), ["vanilla"]), owner
        )

    return queued


def positions(queue: PromptQueue, *runs: str) -> list[int | None]:
    places = queue.places_of(runs)
    return [places[run].position if run in places else None for run in runs]


def test_runs_are_made_in_their_order_and_kept_under_the_names_that_were_given(queue, free, add, run_store):
    runs = [add(prompt=prompt) for prompt in ("a red rocket", "a blue car")]
    assert positions(queue, *runs) == [1, 2] and run_store.open(runs[0]) is None
    free()
    wait_until(lambda: not queue.places_of(runs))
    saved = [run_store.open(run) for run in runs]
    assert [run.config.prompt for run in saved] == ["a red rocket", "a blue car"]
    assert [kept.path.stem for kept in run_store.runs()] == runs
    assert {"i4vgen", "ni_vsds", "vanilla"} == saved[0].videos().keys() == saved[0].file.measures.keys()
    assert len(saved[0].candidates()) == 3


def test_every_visitor_has_a_turn_before_a_second_one(queue, free, add):
    many = [add("a") for _ in range(3)]
    one = add("b")
    assert positions(queue, *many, one) == [1, 3, 4, 2]
    queue.leave(many[:1])
    assert positions(queue, *many, one) == [None, 2, 3, 1]


def test_the_queue_is_bounded_per_visitor_and_in_all(queue, free, add):
    own = [add("a") for _ in range(3)]
    with pytest.raises(QueueFullError) as full:
        add("a")
    assert words_of(full.value).startswith("You already have 3 prompts in the queue")
    add("b")
    with pytest.raises(QueueFullError) as full:
        add("c")
    assert words_of(full.value).startswith("Too many prompts are queued on this server")
    queue.leave(own[:1])
    add("c")


def test_a_prompt_is_seen_and_taken_out_by_its_name_alone(queue, free, add):
    run = add("a")
    queue.leave(["x" * 16, "", run + "x"])
    assert queue.places_of(["x" * 16, "", run[:-1]]) == {} and positions(queue, run) == [1]
    queue.leave([run])
    assert queue.places_of([run]) == {}


def test_leaving_during_the_run_frees_the_device(queue, add, run_store):
    long, next_one = add(num_inference_steps=500, prompt="a red car"), add("b")
    wait_until(lambda: (place := queue.places_of([long]).get(long)) and place.fraction > 0)
    assert queue.places_of([long])[long].position == 0 and positions(queue, next_one) == [1]
    queue.leave([long])
    wait_until(lambda: not queue.places_of([long, next_one]))
    assert run_store.open(long) is None and run_store.open(next_one) is not None
    assert not list(run_store.root.glob("draft-*"))


def test_a_prompt_is_stopped_even_if_the_disk_is_full(queue, free, add, monkeypatch):
    run = add()
    handle = queue._queued[run]

    def full(*_args):
        raise StorageError("the disk is full")

    monkeypatch.setattr(JobStore, "remove", full)
    with pytest.raises(StorageError):
        queue.leave([run])
    assert handle.token.stopped


def test_position_and_time_left_count_all_that_comes_before(queue, runtime, free, add, make_config):
    stages = stage_work(make_config(num_inference_steps=2), ["vanilla"], runtime.defaults, has_reward=True)
    for stage, work in stages.items():
        queue.budget.pace.record(RunPlan.whole(runtime, make_config()).model, stage, work, 10.0)
    watched = Job(
        "watcher", lambda _token: iter([None]), queue.budget.clock(RunPlan(runtime, make_config(), draws=3))
    )
    queue.jobs.submit(watched)
    runs = [add(), add(), add("b", num_candidates=6)]
    assert positions(queue, *runs) == [1, 4, 3]
    places = queue.places_of(runs)
    assert [places[run].seconds_left for run in runs] == [None] * 3, "of the run under way nothing is known"
    free()
    wait_until(lambda: not queue.places_of(runs))


def test_a_failure_is_told_with_its_reason_and_the_rest_goes_on(queue, add, run_store, monkeypatch):
    monkeypatch.setattr("i4vgen.storage.run_store.KEEP_BYTES", 0)
    first, second = add(), add()
    wait_until(lambda: positions(queue, first, second) == [None, None])
    place = queue.places_of([first])[first]
    assert "no room" in words_of(place.error)
    queue.leave([first])
    assert queue.places_of([first]) == {} and run_store.runs() == []


def test_what_waits_for_too_long_is_given_up(queue, free, add, monkeypatch):
    monkeypatch.setattr(prompt_queue, "MAX_WAIT", -1)
    run = add()
    assert "within a day" in words_of(queue.places_of([run])[run].error)


def test_failures_are_not_collected_for_ever(queue, free, add, monkeypatch):
    monkeypatch.setattr(prompt_queue, "MAX_FAILURES", 1)
    monkeypatch.setattr(prompt_queue, "MAX_WAIT", -1)
    runs = [add(), add()]
    assert list(queue.places_of(runs)) == runs[1:]


# Restarts


def test_what_waits_is_taken_up_by_the_next_server_and_by_one_alone(queue, free, add, run_store, runtime):
    runs = [add("a", prompt="a red car"), add("b"), add("a")]
    queue.leave(runs[2:])
    beside = open_queue(run_store, runtime)
    beside.resume()
    assert beside.places_of(runs) == {}, "the server that has them is alive"
    queue.close()  # as its end does
    restarted = open_queue(run_store, runtime)
    restarted.resume()
    wait_until(lambda: not restarted.places_of(runs))
    assert sorted(kept.path.stem for kept in run_store.runs()) == sorted(runs[:2])
    assert run_store.open(runs[0]).config.prompt == "a red car"
    for each in (beside, restarted):
        each.close()


def test_a_failure_is_still_told_after_a_restart(queue, add, run_store, runtime, monkeypatch):
    monkeypatch.setattr("i4vgen.storage.run_store.KEEP_BYTES", 0)
    run = add()
    wait_until(lambda: positions(queue, run) == [None] and queue.places_of([run]))
    queue.close()
    restarted = open_queue(run_store, runtime)
    restarted.resume()
    assert "no room" in words_of(restarted.places_of([run])[run].error)
    restarted.close()


def test_a_full_disk_is_told_without_the_servers_folder_after_a_restart_too(
    queue, add, run_store, runtime, monkeypatch
):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunFolder, "_write_image", full)
    run = add()
    wait_until(lambda: positions(queue, run) == [None] and queue.places_of([run]))
    queue.close()
    restarted = open_queue(run_store, runtime)
    restarted.resume()
    for each in (queue, restarted):
        words = words_of(each.places_of([run])[run].error)
        assert "(No space left on device)" in words and str(run_store.root) not in words
    restarted.close()


def test_a_model_that_is_not_offered_any_more_is_a_failure_in_words(queue, free, add, run_store):
    run = add()
    queue.close()
    restarted = open_queue(run_store, Runtime("pocket"), allowed=())
    restarted.resume()
    assert "there is no model" in words_of(restarted.places_of([run])[run].error)
    restarted.close()


def test_a_damaged_file_is_set_aside(run_store, runtime):
    run_store.root.mkdir(exist_ok=True)
    (run_store.root / "jobs-0.sqlite").write_bytes(b"no database" * 1000)
    queue = open_queue(run_store, runtime)
    queue.resume()
    assert (run_store.root / "jobs-0.damaged").exists()
    queue.close()


def test_a_file_that_can_be_opened_but_not_read_is_told_in_words(tmp_path):
    store = JobStore(tmp_path)
    for number in range(100):
        store.add(f"run {number}", "a", {"prompt": "long " * 200})
    store.close()
    pages = bytearray(store.path.read_bytes())
    pages[4096:] = bytes(len(pages) - 4096)  # all but the first page, which has the schema
    store.path.write_bytes(pages)
    store = JobStore(tmp_path)
    with pytest.raises(StorageError, match=r"jobs-0\.sqlite cannot be read or written .*move it away"):
        store.jobs()
    store.close()


KILLED_AT = {
    "before it is begun": "i4vgen.serving.jobs.store.JobStore.begin",
    "while it is made": "i4vgen.storage.runs.RunFolder.record",
    "before it is kept": "i4vgen.storage.run_store.RunStore.keep",
    "after it is kept": "i4vgen.serving.jobs.store.JobStore.remove",
}


def serve(
    run_store: RunStore, runtime: Runtime, config: GenerationConfig | None, killed_at: str | None
) -> None:
    """A server that queues a prompt if it has one, works off what waits, and is killed at a moment if any."""
    if killed_at is not None:
        owner, _, name = killed_at.rpartition(".")
        module, _, kind = owner.rpartition(".")
        known = getattr(__import__(module, fromlist=[kind]), kind)
        setattr(known, name, lambda *_args: os.kill(os.getpid(), signal.SIGKILL))
    queue = open_queue(run_store, runtime)
    queue.resume()
    if config is not None:
        queue.add(RunPlan.whole(runtime, config), "a")
    wait_until(lambda: not len(queue.jobs))


@pytest.mark.parametrize("killed_at", KILLED_AT.values(), ids=KILLED_AT)
@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_after_a_kill_every_prompt_has_one_result_or_is_told_to_be_stopped(
    run_store, runtime, make_config, killed_at, times
):
    fork, config = multiprocessing.get_context("fork"), make_config(num_inference_steps=1)
    for time_ in range(times):
        killed = fork.Process(target=serve, args=(run_store, runtime, None if time_ else config, killed_at))
        killed.start()
        killed.join(PATIENCE)
        found = len(run_store.runs())
        assert killed.exitcode == -signal.SIGKILL
    queue = open_queue(run_store, runtime)
    (stored,) = queue._store.jobs()
    queue.resume()
    wait_until(lambda: not len(queue.jobs))
    places = queue.places_of([stored.name])
    told = [words_of(place.error) for place in places.values()]
    made = [kept.path.stem for kept in run_store.runs()]
    assert (made, told) in [([stored.name], []), ([], [words_of(prompt_queue.ServerEndedError())])]
    begun_twice = times == 2 and killed_at not in (
        KILLED_AT["before it is begun"],
        KILLED_AT["after it is kept"],
    )
    assert bool(told) is begun_twice and (not found or not told)
    queue.close()


def test_a_run_tells_how_long_it_takes(runtime, make_config, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("i4vgen.serving.pace.time.monotonic", lambda: now[0])
    config = make_config()
    stages = stage_work(config, ["vanilla"], runtime.defaults, has_reward=True)
    known = Pace()
    known.record("pocket", "vanilla", sum(stages.values()), 60.0)
    clock, usual = (RunClock(pace, "pocket", stages, stages) for pace in (Pace(), known))
    for each in (clock, usual):
        each.follow(Loading("a/b", 1, 2))
        assert run_words(each.doing).startswith("Downloading a/b") and each.elapsed == 0 and each.fraction == 0
    assert clock.seconds_left is None and usual.seconds_left == 60
    for stage in stages:
        clock.follow(Stage(stage, 2))
        clock.follow(Progress(stage, 1, 2, 0, 0.1))
    now[0] += 20
    assert clock.fraction == pytest.approx(0.5) and clock.seconds_left == pytest.approx(20)
    for stage in stages:
        clock.follow(Progress(stage, 2, 2, 0, 0.1))
    assert clock.fraction == 1 and clock.seconds_left == 0 and clock.elapsed == 20


def test_the_pace_is_that_of_the_latest_runs_of_a_model():
    pace = Pace()
    assert pace.estimate("pocket", {"vanilla": 10}) is None
    for seconds in (1.0, 100.0, 3.0):
        pace.record("pocket", "vanilla", 10, seconds)
    assert pace.estimate("pocket", {"vanilla": 20}) == pytest.approx(6)
    assert pace.estimate("pocket", {"vanilla": 20, "freeinit": 10}) == pytest.approx(9), "as the slowest"
    pace.record("pocket", "freeinit", 10, 1.0)
    assert pace.estimate("pocket", {"vanilla": 20, "freeinit": 10}) == pytest.approx(7)


def test_what_a_run_takes_at_least_is_told_by_several_measurements_of_the_last_hour(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("i4vgen.serving.pace.time.monotonic", lambda: now[0])
    pace, stages = Pace(), {"vanilla": 20, "freeinit": 10}
    for seconds in (100.0, 8.0):
        pace.record("pocket", "vanilla", 10, seconds)
        assert pace.lower_bound("pocket", stages) == 0, "the device may have been busy"
    for _ in range(10):
        pace.record("pocket", "vanilla", 1, 90.0, is_large=False)
    assert pace.lower_bound("pocket", stages) == 0, "little work says nothing of much"
    pace.record("pocket", "vanilla", 10, 6.0)
    assert pace.lower_bound("pocket", stages) == pytest.approx(12), "the others were not measured"
    now[0] += 3601
    assert pace.lower_bound("pocket", stages) == 0 and pace.estimate("pocket", stages) is None
