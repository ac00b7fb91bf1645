"""Queued prompts: their order, their bounds, who may do what with them, and what is said of their time."""

from __future__ import annotations

import time

import pytest

from i4vgen.comparisons import stage_work
from i4vgen.errors import InvalidInputError
from i4vgen.events import Loading, Progress, Stage
from i4vgen.ui import prompt_queue, strings
from i4vgen.ui.limits import Budget, Limits
from i4vgen.ui.pace import Pace, RunClock, Stopwatch
from i4vgen.ui.prompt_queue import PromptQueue, WatchedRuns
from i4vgen.ui.run_store import RunStore

PATIENCE = 60
BUSY = WatchedRuns([None])


@pytest.fixture
def run_store(tmp_path) -> RunStore:
    return RunStore(tmp_path)


@pytest.fixture
def queue(run_store):
    """Its device is busy with somebody's run, until `watched` says something else."""
    queue = PromptQueue(run_store, Budget(Limits(queued=4, queued_per_visitor=3)))
    queue.watched = lambda: BUSY
    yield queue
    queue.leave(list(queue._queued))


@pytest.fixture
def add(queue, runtime, make_config):
    """add(owner, **settings): queues a prompt."""

    def queued(owner: str = "a", **given) -> str:
        return queue.add(runtime, make_config(**{"num_inference_steps": 2} | given), ["vanilla"], owner)

    return queued


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def positions(queue: PromptQueue, *runs: str) -> list[int | None]:
    places = queue.look(runs)
    return [places[run].position if run in places else None for run in runs]


def test_runs_are_made_in_their_order_and_kept_under_the_names_that_were_given(queue, add, run_store):
    runs = [add(prompt=prompt) for prompt in ("a red rocket", "a blue car")]
    assert positions(queue, *runs) == [1, 2] and run_store.open(runs[0]) is None
    queue.watched = WatchedRuns
    until(lambda: not queue.look(runs))
    saved = [run_store.open(run) for run in runs]
    assert [run.config.prompt for run in saved] == ["a red rocket", "a blue car"]
    assert [kept.path.stem for kept in run_store.runs()] == runs
    assert {"i4vgen", "ni_vsds", "vanilla"} == saved[0].videos().keys() == saved[0].file.measures.keys()
    assert len(saved[0].candidates()) == 3


def test_every_visitor_has_a_turn_before_anybody_has_a_second_one(queue, add):
    many = [add("a") for _ in range(3)]
    one = add("b")
    assert positions(queue, *many, one) == [1, 3, 4, 2]
    queue.leave(many[:1])
    assert positions(queue, *many, one) == [None, 2, 3, 1]


def test_the_queue_is_bounded_per_visitor_and_in_all(queue, add):
    own = [add("a") for _ in range(3)]
    with pytest.raises(InvalidInputError, match="3 prompts of yours are in the queue"):
        add("a")
    add("b")
    with pytest.raises(InvalidInputError, match="Too many prompts are queued on this server"):
        add("c")
    queue.leave(own[:1])
    add("c")


def test_a_prompt_is_seen_and_taken_out_by_its_name_alone(queue, add):
    run = add("a")
    queue.leave(["x" * 16, "", run + "x"])
    assert queue.look(["x" * 16, "", run[:-1]]) == {} and positions(queue, run) == [1]
    queue.leave([run])
    assert queue.look([run]) == {}


def test_whoever_leaves_while_the_run_is_under_way_frees_the_device(queue, add, run_store):
    queue.watched = WatchedRuns
    long, next_one = add(num_inference_steps=500, prompt="a red car"), add("b")
    until(lambda: (place := queue.look([long]).get(long)) and place.fraction > 0)
    assert queue.look([long])[long].position == 0 and positions(queue, next_one) == [1]
    queue.leave([long])
    until(lambda: not queue.look([long, next_one]))
    assert run_store.open(long) is None and run_store.open(next_one) is not None
    assert not list(run_store.root.glob("draft-*"))


def test_watched_runs_and_queued_ones_take_turns(queue, add):
    assert queue.let_watched_run_begin()
    first, second = add(), add()
    assert not queue.let_watched_run_begin(), "a queued one has waited for its turn"
    queue.watched = lambda: WatchedRuns([], [None])
    until(lambda: first not in queue.look([first]))
    assert positions(queue, second) == [2], "after the one that is watched, which waits"
    assert queue.let_watched_run_begin()
    assert not queue.let_watched_run_begin()
    until(lambda: not queue.look([second]))
    assert queue.let_watched_run_begin() and queue.let_watched_run_begin()


def test_position_and_time_left_count_all_that_comes_before(queue, add):
    queue.watched = WatchedRuns
    until(lambda run=add(): not queue.look([run]))  # noqa: B008  the pace is measured
    assert queue.let_watched_run_begin()
    queue.watched = lambda: WatchedRuns([30.0], [50.0])
    runs = [add(), add(), add("b", num_candidates=6)]
    places = queue.look(runs)
    assert positions(queue, *runs) == [1, 4, 3]
    (own,) = {round(places[runs[0]].seconds_left - 30, 6)}
    larger = places[runs[2]].seconds_left - 30 - own - 50
    assert 0 < own < larger
    assert places[runs[1]].seconds_left == pytest.approx(30 + own + 50 + larger + own)
    queue.watched = lambda: WatchedRuns([30.0], [None])
    places = queue.look(runs)
    assert [places[run].seconds_left is None for run in runs] == [False, True, True], "not known is not guessed"


def test_a_failure_is_told_with_its_reason_and_the_rest_goes_on(queue, add, run_store, monkeypatch):
    first, second = add(), add()
    monkeypatch.setattr("i4vgen.ui.run_store.KEEP_BYTES", 0)
    queue.watched = WatchedRuns
    until(lambda: positions(queue, first, second) == [None, None])
    place = queue.look([first])[first]
    assert place.words == strings.NO_ROOM
    queue.leave([first])
    assert queue.look([first]) == {} and run_store.runs() == []


def test_what_waits_for_too_long_is_given_up(queue, add, monkeypatch):
    run = add()
    monkeypatch.setattr(prompt_queue, "WAIT_AT_MOST", 0)
    assert queue.look([run])[run].words == strings.WAITED_TOO_LONG


def test_failures_are_not_collected_for_ever(queue, add, monkeypatch):
    monkeypatch.setattr(prompt_queue, "REMEMBER_FAILED", 1)
    runs = [add(), add()]
    monkeypatch.setattr(prompt_queue, "WAIT_AT_MOST", 0)
    assert list(queue.look(runs)) == runs[1:]


def test_a_run_tells_how_long_it_takes(runtime, make_config, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("i4vgen.ui.pace.time.monotonic", lambda: now[0])
    config = make_config()
    stages = stage_work(config, ["vanilla"], runtime.defaults)
    known = Pace()
    known.note("pocket", "vanilla", sum(stages.values()), 60.0)
    clock, usual = (RunClock(Stopwatch(pace, "pocket", stages, stages)) for pace in (Pace(), known))
    for each in (clock, usual):
        each.follow(Loading("a/b", 1, 2))
        assert each.words.startswith("Downloading a/b") and each.elapsed == 0 and each.fraction == 0
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
    assert pace.usual("pocket", {"vanilla": 10}) is None
    for seconds in (1.0, 100.0, 3.0):
        pace.note("pocket", "vanilla", 10, seconds)
    assert pace.usual("pocket", {"vanilla": 20}) == pytest.approx(6)
    assert pace.usual("pocket", {"vanilla": 20, "freeinit": 10}) == pytest.approx(9), "as the slowest"
    pace.note("pocket", "freeinit", 10, 1.0)
    assert pace.usual("pocket", {"vanilla": 20, "freeinit": 10}) == pytest.approx(7)


def test_what_a_run_takes_at_least_is_told_by_several_measurements_of_the_last_hour(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("i4vgen.ui.pace.time.monotonic", lambda: now[0])
    pace, stages = Pace(), {"vanilla": 20, "freeinit": 10}
    for seconds in (100.0, 8.0):
        pace.note("pocket", "vanilla", 10, seconds)
        assert pace.at_least("pocket", stages) == 0, "the device may have been busy"
    for _ in range(10):
        pace.note("pocket", "vanilla", 1, 90.0, much=False)
    assert pace.at_least("pocket", stages) == 0, "little work says nothing of much"
    pace.note("pocket", "vanilla", 10, 6.0)
    assert pace.at_least("pocket", stages) == pytest.approx(12), "the others were not measured"
    now[0] += 3601
    assert pace.at_least("pocket", stages) == 0 and pace.usual("pocket", stages) is None
