"""A call of an endpoint: its run is submitted to the device queue and followed until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import gradio as gr
from anyio.to_thread import run_sync

from i4vgen.errors import I4VGenError
from i4vgen.events import Event, Loading, Progress
from i4vgen.serving.jobs.job import Job
from i4vgen.serving.jobs.queue import JobQueue
from i4vgen.serving.middleware import OpenStreams
from i4vgen.serving.pace import RunClock
from i4vgen.serving.runtime import StopToken
from i4vgen.serving.slots import Slots
from i4vgen.studio import strings
from i4vgen.studio.errors import failure, words_of
from i4vgen.studio.session import visitor_of

LEASE = 20.0
"""Seconds that a run may continue after its client disconnects. Clients cannot reconnect to it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A validated call.

    Attributes:
        clock: Estimates the duration of the run.
        events: Yields the events of the run and returns the answer.
    """

    clock: RunClock
    events: Generator[Event, None, T]


Method = Callable[..., Call]
"""Validates a call. Raises an `I4VGenError` if it is refused."""


async def follow_call(
    jobs: JobQueue,
    streams: OpenStreams,
    slots: Slots,
    method: Method,
    request: gr.Request,
    arguments: Mapping[str, Any],
) -> AsyncIterator[object]:
    """Submits a call's run and follows it. Yields None at intervals, and the answer last.

    Yielding lets Gradio end the run when its client cancels or disconnects. The answer is yielded only once,
    because clients download the files of every yielded value.

    Raises:
        gr.Error: The call is refused, or its run fails.
    """
    yield None  # before any work: a call that has not yielded cannot be cancelled
    handle = None
    try:
        visitor = visitor_of(request)
        async with slots.hold(visitor, asyncio.Lock()):  # it may open pictures and runs, as clicks do
            call = await run_sync(partial(method, visitor=visitor, **arguments))
        handle = jobs.submit(Job(visitor, partial(steps_of, call), call.clock, lease=LEASE))
        async for _ in handle.updates(lambda: streams.has_listener(request.session_hash)):
            report(call.clock.doing)
            yield None
        yield handle.result
    except I4VGenError as error:
        raise gr.Error(words_of(error), print_exception=False) from error
    except Exception as error:  # Gradio would send the client the bare message
        raise failure(error, "the run failed: {error}") from error
    finally:
        if handle is not None and not handle.is_over:
            handle.stop()


def steps_of(call: Call, token: StopToken) -> Generator[None, None, object]:
    """Runs a call as a job, one event per step. Returns the answer, or None if the run was stopped."""
    with closing(call.events) as events:
        try:
            while True:
                next(events)
                yield None
                if token.stopped:
                    return None
        except StopIteration as end:
            return end.value


def report(event: Event | None) -> None:
    """Reports the progress of a run to the client that Gradio is serving."""
    match event:
        case Loading(_, done, total):
            gr.Progress()(done / total, desc=strings.run_words(event))
        case Progress(_, step, total):
            gr.Progress()((step, total), desc=strings.run_words(event))
