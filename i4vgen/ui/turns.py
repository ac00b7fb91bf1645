"""Whose event is next.

Gradio limits how many events run at once for each function, whoever they are from: where events have to keep
their order, one visitor's slow picture would hold up everybody. Here those of one tab wait for each other, and
tabs wait for nobody but for a free worker, of which no visitor has all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.queueing import Event, Queue

from i4vgen.ui import strings
from i4vgen.ui.prompt_queue import PromptQueue
from i4vgen.ui.queueing import in_turn, is_run
from i4vgen.ui.run_queue import watched_runs
from i4vgen.ui.visitors import host_of

AT_ONCE = 16
"""Maximum number of events under way besides the run on the device: a picture may take half a gigabyte."""

AT_ONCE_PER_VISITOR = 4

WAITING_PER_VISITOR = 100
"""Maximum number of a visitor's events that wait: more than hands can click."""


def take_turns(demo: gr.Blocks, prompts: PromptQueue | None = None) -> None:
    """Lets the events of this app run in fair turns. To be called between `limit_runs` and the launch.

    prompts: with which the runs among them take turns on the device.
    """
    queue: Any = demo._queue  # Gradio has no public way to choose the next event
    push = queue.push

    async def limited_push(body: Any, request: Any, username: str | None) -> tuple:
        host = host_of(request)
        if sum(host_of(click.request) == host for click in waiting_clicks(queue)) >= WAITING_PER_VISITOR:
            return False, strings.TOO_MANY_CLICKS, "queue_full"
        return await push(body, request, username)

    queue.push, queue.get_events = limited_push, lambda: take_next(queue, prompts)
    if prompts is not None:
        prompts.watched = lambda: watched_runs(queue)
    queue.compute_analytics_summary = lambda _: None  # after every event, for a page that is off


def take_next(queue: Queue, prompts: PromptQueue | None) -> tuple[list[Event], bool, str] | None:
    """Takes the next event out of the queue, if one may start: what Gradio's `Queue.get_events` does."""
    active = [event for job in queue.active_jobs for event in job or ()]
    clicks = [event for event in active if not is_run(event)]
    event = None
    if len(clicks) == len(active):  # the device is free
        event = next((run for run in waiting(queue) if is_run(run)), None)
        if event is not None and prompts is not None and not prompts.let_watched_run_begin():
            event = None
    if event is None and len(clicks) < AT_ONCE:
        event = next_click(waiting_clicks(queue), clicks)
    if event is None:
        return None
    queue.event_queue_per_concurrency_id[event.concurrency_id].queue.remove(event)
    return [event], False, event.concurrency_id


def next_click(clicks: list[Event], active: list[Event]) -> Event | None:
    """The first one that may start of the visitor who has the fewest under way.

    Args:
        clicks: Those that wait.
        active: Those under way.
    """
    shares = Counter(host_of(event.request) for event in active)
    held = {event.session_hash for event in active if in_turn(event)}
    ready = []
    for event in sorted(clicks, key=lambda event: event.enqueue_time):
        waits = in_turn(event) and event.session_hash in held
        if in_turn(event):
            held.add(event.session_hash)
        if not waits and shares[host_of(event.request)] < AT_ONCE_PER_VISITOR:
            ready.append(event)
    return min(ready, key=lambda event: shares[host_of(event.request)], default=None)


def waiting(queue: Queue) -> Iterator[Event]:
    """All events that wait, those of a function in their order."""
    for events in queue.event_queue_per_concurrency_id.values():
        yield from events.queue


def waiting_clicks(queue: Queue) -> list[Event]:
    """All events that wait, but the runs."""
    return [event for event in waiting(queue) if not is_run(event)]
