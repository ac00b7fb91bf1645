"""Which runs may wait for the device, and which of them nobody waits for any more.

Gradio's queue knows one limit for all events together: a few runs that wait would keep everybody from every
click. It forgets the sessions that came first, whatever they wait for, and stands still for ever once one that
waits is forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.queueing import Event, Queue
from gradio.server_messages import EventMessage

from i4vgen.ui import strings
from i4vgen.ui.limits import Limits
from i4vgen.ui.prompt_queue import WatchedRuns
from i4vgen.ui.queueing import ON_DEVICE, is_run
from i4vgen.ui.visitors import host_of

SESSIONS = 2000
"""Number of sessions whose messages are kept, and those that wait for something besides."""

UNHEARD = 10.0
"""Seconds after which a run is ended if nobody has fetched what it had to say."""


def limit_runs(demo: gr.Blocks, limits: Limits) -> None:
    """Lets runs wait for the device within these limits. To be called before the app is launched."""
    demo.queue(max_size=None, api_open=False)  # nobody goes past the queue
    queue: Any = demo._queue  # Gradio has no public way to refuse an event
    push, send = queue.push, queue.send_message

    async def limited_push(body: Any, request: Any, username: str | None) -> tuple:
        function = demo.fns.get(body.fn_index)
        if function is None or not is_run(function):
            return await push(body, request, username)
        host = host_of(request)
        runs = list(runs_of(queue))
        if len(runs) >= limits.waiting:
            return False, strings.QUEUE_FULL, "queue_full"
        if sum(host_of(run.request) == host for run in runs) >= limits.waiting_per_visitor:
            return False, strings.TOO_MANY_RUNS.format(most=limits.waiting_per_visitor), "queue_full"
        answer = await push(body, request, username)
        task = asyncio.create_task(end_unheard(queue, body.session_hash))
        watching.add(task)  # the event loop keeps weak references alone
        task.add_done_callback(watching.discard)
        return answer

    def safe_send(event: Event, message: EventMessage) -> None:
        """Gradio's own fails where a session's messages are gone, and its queue stands still for ever."""
        if event.session_hash in queue.pending_messages_per_session:
            send(event, message)
        else:
            event.alive = False

    watching: set[asyncio.Task] = set()
    queue.push, queue.send_message = limited_push, safe_send
    queue.pending_messages_per_session = KeptMessages(queue)


class KeptMessages(OrderedDict[str, Any]):
    """The messages of each session. Where there are too many, the oldest that waits for nothing goes."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self.queue = queue

    def __setitem__(self, session: str, messages: Any) -> None:
        if len(self) >= SESSIONS and (idle := next((each for each in self if not self.waits(each)), None)):
            del self[idle]
            if not self.queue.pending_event_ids_session.get(idle):
                self.queue.pending_event_ids_session.pop(idle, None)
        super().__setitem__(session, messages)

    def waits(self, session: str) -> bool:
        """Whether an event of it waits or is under way."""
        events = self.queue.pending_event_ids_session.get(session, ())
        return any(event in self.queue.event_ids_to_events for event in events)


def runs_of(queue: Queue) -> Iterator[Event]:
    """The runs that wait for the device, and the one that has it."""
    waiting = queue.event_queue_per_concurrency_id.get(ON_DEVICE["concurrency_id"])
    yield from waiting.queue if waiting else ()
    for job in queue.active_jobs:
        yield from (event for event in job or () if is_run(event) and event.alive)


def watched_runs(queue: Queue) -> WatchedRuns:
    """How long the runs in Gradio's queue still take, as the earlier ones of their kind did on average. It is
    not known of a kind that was never run, and of a run that takes longer than usual.
    """
    waiting = queue.event_queue_per_concurrency_id.get(ON_DEVICE["concurrency_id"])
    if waiting is None:
        return WatchedRuns()

    def usual(run: Event) -> float | None:
        measured = queue.process_time_per_fn.get(run.fn)
        return measured.avg_time if measured else None

    def rest(run: Event) -> float | None:
        began, seconds = min(tuple(waiting.start_times_per_fn.get(run.fn, ())), default=None), usual(run)
        left = None if began is None or seconds is None else seconds - (time.time() - began)
        return left if left is not None and left > 0 else None

    under_way = [run for job in list(queue.active_jobs) for run in job or () if is_run(run)]
    return WatchedRuns([rest(run) for run in under_way], [usual(run) for run in list(waiting.queue)])


async def end_unheard(queue: Queue, session: str) -> None:
    """Ends a session's runs once its messages lie unread: its stream was never opened, or is not read."""
    oldest = None
    while any(run.session_hash == session for run in runs_of(queue)):
        await asyncio.sleep(UNHEARD)
        messages: Any = queue.pending_messages_per_session.get(session)
        before, oldest = oldest, messages._queue[0] if messages is not None and messages.qsize() else None
        if oldest is not None and oldest is before:
            await queue.clean_events(session_hash=session)
            return
