"""The one loaded pipeline of a process: its device, its lock, and how a run is stopped."""

from __future__ import annotations

import platform
import re
import threading
from collections.abc import Callable, Iterator
from functools import cached_property

import diffusers
import torch
import transformers

import i4vgen
from i4vgen import catalog, hub
from i4vgen.errors import RequestError
from i4vgen.events import Event
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.request import Defaults
from i4vgen.rewards.pocket import PocketReward


class StopToken:
    """Asks a running stream to end. Any thread may call it."""

    def __init__(self):
        self._event = threading.Event()

    def stop(self) -> None:
        self._event.set()

    @property
    def stopped(self) -> bool:
        return self._event.is_set()


class Runtime:
    """A model that is loaded on first use and then kept, serving one run at a time.

    model: a name of the catalogue, a folder or a hub id in the diffusers layout, or "BASE+ADAPTER" for a
    text-to-image model and a motion adapter (see `catalog.find`). device: "cuda", "mps", "cpu"; None takes
    the best there is.
    Raises `RequestError` for a device that this machine does not have, `ModelError` for a model that cannot
    be found.
    """

    def __init__(self, model: str = catalog.DEFAULT, device: str | None = None):
        self.model = model
        self.device = pick_device(device)
        self._entry = catalog.find(model)
        self._lock = threading.Lock()
        self._pipeline: I4VGenPipeline | None = None

    @cached_property
    def defaults(self) -> Defaults:
        """What the model is best run with, and its limits. Reads configuration files only, no weights."""
        return self._entry.backbone.read_defaults(self._entry.base, self._entry.motion_adapter)

    @cached_property
    def known_words(self) -> frozenset[str] | None:
        """The words that the model knows, if it only knows a small vocabulary of whole words; None if it
        reads any text.
        """
        return self._entry.backbone.read_vocabulary(self._entry.base)

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of the prompt that the model does not know, in order, each once."""
        known = self.known_words
        if known is None:
            return []
        words = re.findall(r"[^\W\d_]+", prompt.lower())
        return list(dict.fromkeys(word for word in words if word not in known))

    def stream(
        self,
        make_events: Callable[[I4VGenPipeline], Iterator[Event]],
        stop: StopToken | None = None,
    ) -> Iterator[Event]:
        """Runs `make_events(pipeline)` once the device is free and passes its events on.

        The model is loaded first if need be. `stop` is looked at between any two events, and while waiting
        for the device; a stopped stream ends quietly. Whatever ends the stream (the last event, `stop`, an
        error, or the listener going away), the run is closed and the device is free again. Generators move
        between threads, so the lock is one that any thread may release.
        """
        stop = stop or StopToken()
        while not self._lock.acquire(timeout=0.1):
            if stop.stopped:
                return
        events: Iterator[Event] | None = None
        try:
            if stop.stopped:
                return
            events = make_events(self._load())
            for event in events:
                yield event
                if stop.stopped:
                    return
        finally:
            try:
                if hasattr(events, "close"):
                    events.close()
            finally:
                self._lock.release()

    def describe(self) -> dict:
        """The model, the device and the versions of everything that computes, as JSON types, for run.json."""
        name = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device
        versions = {
            module.__name__: module.__version__ for module in (i4vgen, torch, diffusers, transformers)
        }
        return {
            "model": self.model,
            "device": name,
            "dtype": str(self._load().backbone.dtype).removeprefix("torch."),
            "versions": versions | {"python": platform.python_version()},
        }

    def _load(self) -> I4VGenPipeline:
        if self._pipeline is None:
            entry = self._entry
            backbone = entry.backbone.from_pretrained(entry.base, entry.motion_adapter, self.device)
            reward = None
            if hub.read_json(entry.base, "reward/config.json") is not None:
                reward = PocketReward.from_pretrained(entry.base, device=self.device)
            self._pipeline = I4VGenPipeline(backbone, reward)
        return self._pipeline


def pick_device(device: str | None = None) -> str:
    """The device to run on: the one asked for, else CUDA, else Apple's MPS, else the CPU."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None:
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    kind = device.partition(":")[0]
    if not available.get(kind, False):
        have = ", ".join(name for name, there in available.items() if there)
        raise RequestError(f"device {device!r} is not available here: use {have}")
    return device


_runtimes: dict[str, Runtime] = {}
_runtimes_lock = threading.Lock()


def get_runtime(model: str | None = None) -> Runtime:
    """The runtime of a model, shared by the whole process. None: the default model."""
    model = model or catalog.DEFAULT
    with _runtimes_lock:
        if model not in _runtimes:
            _runtimes[model] = Runtime(model)
        return _runtimes[model]
