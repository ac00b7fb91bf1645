"""The Ray actor that makes runs of a batch on a node of the cluster."""

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

from i4vgen.cli.batch.executor import make_run
from i4vgen.cli.batch.folder import BatchFolder
from i4vgen.cli.batch.tasks import Task
from i4vgen.errors import InvalidInputError
from i4vgen.events import Event
from i4vgen.method.anchor import Anchor
from i4vgen.models.catalog import ModelSpec
from i4vgen.serving.runtime import Runtime

Message = tuple[str | None, Event, str | None]
"""The name of a run (None while the model loads), an event and the name of its file in the batch's folder."""

SEND_EVERY = 0.2
"""Minimum number of seconds between deliveries of messages."""


class Post(Protocol):
    """A queue for messages, such as `ray.util.queue.Queue`."""

    def put_nowait_batch(self, items: list[Message]) -> None: ...


@dataclass(frozen=True)
class Site:
    """The configuration shared by all workers of a batch.

    Attributes:
        spec: The model.
        device: The torch device, "cuda" or "cpu".
        compiled: Whether to compile the networks with `torch.compile`.
        versions: The package versions that the batch was planned with.
        cwd: The working directory of the batch, for relative model paths.
        folder: The shared folder of the batch (`BatchFolder.shared`).
        metadata: Whether to embed the recipe in pictures and videos (`Recipe`).
    """

    spec: ModelSpec
    device: str
    compiled: bool
    versions: Mapping[str, str]
    cwd: Path
    folder: BatchFolder
    metadata: bool


class Worker:
    """Makes one run at a time and keeps the model loaded between them."""

    def __init__(self, site: Site) -> None:
        """Changes to the batch's working directory, if this node has it. Does not load the model."""
        self.site = site
        with suppress(OSError):  # may not exist on this node: loading then reports missing models
            os.chdir(site.cwd)

    @cached_property
    def runtime(self) -> Runtime:
        """The runtime of all tasks."""
        return Runtime(self.site.spec, self.site.device, self.site.compiled)

    def prepare(self, post: Post, tell: bool) -> None:
        """Loads the model.

        Args:
            post: The queue for messages.
            tell: Whether to send the events of loading.

        Raises:
            InvalidInputError: This node has other package versions or does not share the folder.
            StorageError: The folder cannot be read.
            ModelError: The model cannot be loaded.
            OutOfMemoryError: The device has too little memory for the model.
        """
        self._check()
        messages = _Messages(post)
        for event in self.runtime.stream(lambda _: iter(())):
            if tell:
                messages.add((None, event, None))
        messages.send()

    def make(self, post: Post, task: Task, anchor: Anchor | int | None) -> None:
        """Makes a run, unless it is already in the folder.

        That happens if a node dies after finishing the run but before reporting it, and Ray repeats the call.

        Args:
            post: The queue for messages.
            task: The run.
            anchor: The result of `task.choice()`.

        Raises:
            InvalidInputError: This node has other package versions or does not share the folder.
            I4VGenError: The run fails or cannot be written.
        """
        self._check()
        folder = self.site.folder
        if folder.find(task):
            return
        messages = _Messages(post)

        def listen(event: Event, file: str | None) -> None:
            messages.add((task.name, without_arrays(event), file))

        try:
            make_run(task, anchor, self.runtime, folder, listen, self.site.metadata)
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
    """Sends messages in batches, to avoid a remote call per step."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._waiting: list[Message] = []
        self._sent = 0.0

    def add(self, message: Message) -> None:
        self._waiting.append(message)
        if time.monotonic() - self._sent > SEND_EVERY:
            self.send()

    def send(self) -> None:
        if self._waiting:
            self._post.put_nowait_batch(self._waiting)
        self._waiting, self._sent = [], time.monotonic()


def without_arrays(event: Event) -> Any:
    """Returns an event with its arrays emptied. The pictures themselves are in the run's folder."""
    values = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    empty = {name: value[:0] for name, value in values.items() if isinstance(value, np.ndarray)}
    return dataclasses.replace(event, **empty)
