"""The runs of a batch on any machine of a cluster: what an actor of Ray does there. Only plain data crosses to
it and back.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from i4vgen.anchor import Anchor
from i4vgen.batch.executor import make
from i4vgen.batch.folder import BatchFolder
from i4vgen.batch.tasks import Task
from i4vgen.catalog import ModelSpec
from i4vgen.errors import InvalidInputError
from i4vgen.events import Event
from i4vgen.runtime import Runtime

Message = tuple[str | None, Event, str | None]
"""The name of a run (None while the model is loaded), what has happened, and the name in the batch's folder of
the file that was written for it.
"""

EVERY = 0.2
"""Seconds between two deliveries of messages."""


class Post(Protocol):
    """Where messages go: a `ray.util.queue.Queue`."""

    def put_nowait_batch(self, items: list[Message]) -> None: ...


@dataclass(frozen=True)
class Site:
    """What all workers of a batch have in common.

    Attributes:
        spec, device, compiled: Of the `Runtime`.
        versions: Of the code, as the batch was planned with.
        cwd: Where the batch was started: relative names of models are meant from there.
        folder: Of the batch, for all machines (`BatchFolder.shared`).
        metadata: See `make_run`.
    """

    spec: ModelSpec
    device: str
    compiled: bool
    versions: Mapping[str, str]
    cwd: Path
    folder: BatchFolder
    metadata: bool


class Worker:
    """Keeps the model loaded and makes one run after the other."""

    def __init__(self, site: Site) -> None:
        """Loads nothing yet."""
        self.site = site
        with suppress(OSError):  # a node may lack it: whatever is missed then says so
            os.chdir(site.cwd)

    @cached_property
    def runtime(self) -> Runtime:
        """Of the model of all tasks."""
        return Runtime(self.site.spec, self.site.device, self.site.compiled)

    def prepare(self, post: Post, tell: bool) -> None:
        """Loads the model.

        Args:
            post: Where messages go.
            tell: Whether to send messages about downloads.

        Raises:
            InvalidInputError: This machine has other versions of the code, or does not share the folder.
            ModelError, OutOfMemoryError: The model cannot be loaded.
        """
        self._check()
        messages = _Messages(post)
        for event in self.runtime.stream(lambda _: iter(())):
            if tell:
                messages.add((None, event, None))
        messages.send()

    def make(self, post: Post, task: Task, anchor: Anchor | int | None) -> None:
        """Makes a run, see `executor.make`; nothing if it is there: this is called again where a machine died
        between finishing the run and saying so.

        Raises:
            InvalidInputError: See `prepare`.
        """
        self._check()
        folder = self.site.folder
        if folder.find(task):
            return
        messages = _Messages(post)

        def listen(event: Event, file: str | None) -> None:
            messages.add((task.name, without_arrays(event), file))

        try:
            make(task, anchor, self.runtime, folder, listen, self.site.metadata)
        finally:
            messages.send()

    def _check(self) -> None:
        site, here = self.site, socket.gethostname()
        site.folder.check_shared()
        for name, version in self.runtime.describe()["versions"].items():
            if name != "python" and version != site.versions[name]:
                raise InvalidInputError(
                    f"{here} has {name} {version}, the batch was planned with {site.versions[name]}:"
                    " install the same versions on all nodes"
                )


class _Messages:
    """Collects messages, so that not every step of every worker is a call of its own."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._waiting: list[Message] = []
        self._sent = 0.0

    def add(self, message: Message) -> None:
        self._waiting.append(message)
        if time.monotonic() - self._sent > EVERY:
            self.send()

    def send(self) -> None:
        if self._waiting:
            self._post.put_nowait_batch(self._waiting)
        self._waiting, self._sent = [], time.monotonic()


def without_arrays(event: Event) -> Any:
    """The event with empty arrays in place of its pictures and latents, which are in the folder of the run."""
    values = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    empty = {name: value[:0] for name, value in values.items() if isinstance(value, np.ndarray)}
    return dataclasses.replace(event, **empty)
