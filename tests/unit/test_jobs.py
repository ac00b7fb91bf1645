"""The queue of the device: turns, limits, leases, the end of a job, and what its listeners hear."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from i4vgen.serving.jobs.job import PAGE_LEASE, Job, Place, QueueFullError, WaitedTooLongError
from i4vgen.serving.jobs.queue import NICENESS, JobQueue
from i4vgen.serving.limits import Limits
from i4vgen.serving.pace import Pace, RunClock
from tests.support.waiting import PATIENCE

LIMITS = Limits(waiting=6, waiting_per_visitor=3, queued=4, queued_per_visitor=2)


class Work:
    """A job of steps that are let through one by one."""

    def __init__(self, log: list, name: str = "", steps: int = 1) -> None:
        self.log, self.name, self.steps = log, name, steps
        self.begun, self.let = threading.Event(), threading.Semaphore(0)
        self.closed = threading.Event()

    def start(self, token):
        self.log.append(self.name)
        self.begun.set()
        try:
            for step in range(self.steps):
                assert self.let.acquire(timeout=PATIENCE)
                yield step
                if token.stopped:
                    return "stopped"
        finally:
            self.closed.set()
        return "done"


class Desk:
    """A queue whose first job holds the device, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.time, self.log, self.pace = 0.0, [], Pace()
        self.queue = JobQueue(LIMITS, now=lambda: self.time)
        self.first = Work(self.log, "first", steps=100)  # no step is let through yet
        self.holding = self.queue.submit(Job("holder", self.first.start, self.clock()))
        assert self.first.begun.wait(PATIENCE)

    def clock(self, work: int = 1) -> RunClock:
        return RunClock(self.pace, "pocket", {"vanilla": work}, {"vanilla": 0})

    def submit(self, owner: str, work: Work | None = None, work_units: int = 1, **given):
        work = work or Work(self.log, owner)
        work.let.release()
        return self.queue.submit(Job(owner, work.start, self.clock(work_units), **given))

    def release(self) -> None:
        """Ends the first job."""
        self.holding.stop()
        self.first.let.release()


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.release()


def test_every_visitor_has_a_turn_before_a_second_one(desk):
    jobs = [desk.submit(owner) for owner in ("a", "a", "a", "b", "c")]
    assert [job.place.position for job in jobs] == [1, 4, 5, 2, 3]
    desk.release()
    assert all(job.wait(PATIENCE) for job in jobs)
    assert desk.log == ["first", "a", "b", "c", "a", "a"]
    assert [job.result for job in jobs] == ["done"] * 5 and jobs[0].place == Place(None)


def test_watched_and_unattended_jobs_take_turns(desk):
    unattended = [desk.submit(owner, attended=False) for owner in ("u", "u", "v")]
    watched = [desk.submit(owner) for owner in ("a", "b")]
    assert [job.place.position for job in watched] == [2, 4], "one unattended job comes before each at most"
    assert [job.place.position for job in unattended] == [1, 5, 3]


def test_the_queue_is_bounded_by_kind_per_visitor_and_in_all(desk):
    for _ in range(3):
        desk.submit("a")
    with pytest.raises(QueueFullError) as full:
        desk.submit("a")
    assert (full.value.per_visitor, full.value.attended) == (3, True)
    for owner in ("b", "c"):
        desk.submit(owner)
    with pytest.raises(QueueFullError) as full:
        desk.submit("d")
    assert full.value.per_visitor is None, "with the one that is under way these are six"
    for _ in range(2):
        desk.submit("a", attended=False)
    with pytest.raises(QueueFullError) as full:
        desk.submit("a", attended=False)
    assert (full.value.per_visitor, full.value.attended) == (2, False)
    accepted = Job("a", Work([]).start, desk.clock(), attended=False)
    assert desk.queue.submit(accepted, accepted=True).place.position, "an earlier server has let it in"


def test_leaving_makes_room_at_once(desk):
    waiting = [desk.submit("a") for _ in range(3)]
    waiting[0].stop()
    assert waiting[0].is_over and waiting[0].abandoned and waiting[0].error is None
    assert [job.place.position for job in waiting] == [None, 1, 2]
    desk.submit("a")


def test_a_stopped_job_ends_with_its_step_and_the_next_one_begins(desk):
    following = desk.submit("b")
    desk.holding.stop()
    assert not desk.holding.is_over, "its step is under way"
    desk.first.let.release()
    assert desk.holding.wait(PATIENCE) and desk.holding.result == "stopped"
    assert following.wait(PATIENCE)


def test_an_abandoned_job_ends_with_its_step(desk):
    desk.time += PAGE_LEASE - 1
    desk.holding.renew()
    desk.time += PAGE_LEASE - 1
    desk.first.let.release()
    while desk.holding.snapshot is None:
        assert not desk.holding.wait(0.001)
    assert not desk.holding.token.stopped
    desk.time += 2
    desk.first.let.release()
    assert desk.holding.wait(PATIENCE) and desk.holding.abandoned


def test_a_job_that_waits_unwatched_leaves_the_queue_and_an_unattended_one_stays(desk):
    watched, unattended = desk.submit("a"), desk.submit("a", attended=False, lease=1000)
    desk.time += PAGE_LEASE + 1
    assert watched.place == Place(None) and watched.abandoned and watched.error is None
    assert unattended.place.position == 1
    desk.time += 1000
    assert isinstance(unattended.place.error, WaitedTooLongError)


def test_an_unattended_job_goes_on_without_listeners(desk):
    work = Work(desk.log, "unattended", steps=2)
    job = desk.submit("a", work, attended=False, lease=10)
    desk.release()
    assert work.begun.wait(PATIENCE)
    desk.time += 1000
    work.let.release()
    assert job.wait(PATIENCE) and job.result == "done" and not job.abandoned


def test_a_failure_is_told_and_the_rest_goes_on(desk):
    def broken(_token):
        yield 1
        raise RuntimeError("no space left")

    job = desk.queue.submit(Job("a", broken, desk.clock()))
    following = desk.submit("b")
    desk.release()
    assert job.wait(PATIENCE) and str(job.error) == "no space left" and job.place.error is job.error
    assert following.wait(PATIENCE) and following.error is None


def test_a_failure_does_not_keep_what_the_job_worked_with(desk):
    kept = []

    def broken(_token):
        model = Work([])
        kept.append(weakref.ref(model))
        yield 1
        try:
            raise RuntimeError("first")
        except RuntimeError as error:
            raise RuntimeError("second") from error

    job = desk.queue.submit(Job("a", broken, desk.clock()))
    desk.release()
    assert job.wait(PATIENCE) and str(job.error) == "second"
    gc.collect()
    assert kept[0]() is None


def test_a_finished_job_does_not_keep_what_it_began_with(desk):
    work, request = Work([]), ContextVar[Work | None]("request")
    request.set(work)
    kept, job = weakref.ref(work), desk.submit("a", work)
    request.set(None)
    del work
    desk.release()
    assert job.wait(PATIENCE) and job.result == "done"
    gc.collect()
    assert kept() is None


def test_every_step_runs_in_the_context_of_its_request(desk):
    request: ContextVar[str] = ContextVar("request", default="no request")
    seen = []

    def steps(_token):
        for _ in range(2):
            seen.append(request.get())
            yield None

    for name in ("mine", "yours"):
        request.set(name)
        job = desk.queue.submit(Job(name, steps, desk.clock()))
    request.set("another")
    desk.release()
    assert job.wait(PATIENCE) and seen == ["mine", "mine", "yours", "yours"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
def test_jobs_leave_the_processor_to_the_page(desk):
    seen = []

    def steps(_token):
        for thread in (threading.get_native_id(), executor.submit(threading.get_native_id).result()):
            seen.append(os.getpriority(os.PRIO_PROCESS, thread))
        yield 1

    with ThreadPoolExecutor(1) as executor:  # its thread is started by the job's
        handle = desk.queue.submit(Job("a", steps, desk.clock()))
        desk.release()
        assert handle.wait(PATIENCE)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert seen == [min(own + NICENESS, 19)] * 2


def test_time_left_counts_all_that_comes_before(desk):
    for _ in range(3):
        desk.pace.record("pocket", "vanilla", 1, 30.0)
    one, other = desk.submit("a", work_units=1), desk.submit("b", work_units=3)
    before = desk.holding.place.seconds_left
    assert before == pytest.approx(30)
    assert one.place.seconds_left == pytest.approx(before + 30)
    assert other.place.seconds_left == pytest.approx(before + 30 + 90)
    unknown = RunClock(desk.pace, "another model", {"vanilla": 1}, {"vanilla": 0})
    stranger = desk.queue.submit(Job("c", Work([]).start, unknown))
    assert stranger.place.seconds_left is None, "an unknown time is not guessed"
    stranger.stop()


def test_a_listener_hears_where_the_job_is_and_the_end(desk):
    async def listen():
        work = Work(desk.log, "a", steps=2)
        job, heard = desk.submit("a", work), []
        async for place in job.updates():
            heard.append((place.position, job.snapshot))
            if place.position == 1:
                desk.release()
            elif heard[-1] == (0, 0):
                work.let.release()
        return heard

    heard = asyncio.run(asyncio.wait_for(listen(), PATIENCE))
    assert heard[0] == (1, None) and (0, 0) in heard and heard[-1] == (None, 1)


def test_a_listener_that_has_listener_renews_the_lease_and_another_one_does_not(desk):
    async def listen(has_listener: bool):
        async for _ in desk.holding.updates(lambda: has_listener):
            break

    desk.time += PAGE_LEASE - 1
    asyncio.run(listen(False))
    desk.time += 2
    assert desk.holding.has_expired
    asyncio.run(listen(True))
    assert not desk.holding.has_expired


def test_a_listener_is_told_what_the_job_failed_with(desk):
    def broken(_token):
        raise RuntimeError("broken")
        yield

    async def listen():
        job = desk.queue.submit(Job("a", broken, desk.clock()))
        desk.release()
        return [place async for place in job.updates()]

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(asyncio.wait_for(listen(), PATIENCE))


def test_several_workers_do_several_jobs_at_once():
    queue, log = JobQueue(workers=2), []
    works = [Work(log, name) for name in "ab"]
    pace = Pace()
    jobs = [queue.submit(Job("a", work.start, RunClock(pace, "m", {}, {}))) for work in works]
    assert all(work.begun.wait(PATIENCE) for work in works)
    for work in works:
        work.let.release()
    assert all(job.wait(PATIENCE) for job in jobs)
