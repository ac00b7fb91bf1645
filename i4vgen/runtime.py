"""The one loaded pipeline of a process: its device, its lock, and how a run is stopped."""

from __future__ import annotations

import gc
import platform
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import cached_property

import diffusers
import torch
import transformers

import i4vgen
from i4vgen import catalog, hub
from i4vgen.backbones.memory import free_cache
from i4vgen.events import Event
from i4vgen.generation_config import Defaults, GenerationConfig
from i4vgen.loading import download, load, pick_device
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.vocabulary import Vocabulary


class StopToken:
    """Asks a running stream to end. Any thread may call it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def stop(self) -> None:
        self._event.set()

    @property
    def stopped(self) -> bool:
        return self._event.is_set()


class Runtime:
    """A model that is loaded on first use and then kept, serving one run at a time.

    A process keeps one model loaded: another runtime's run takes the device over.
    """

    _device_lock = threading.Lock()
    _loaded: Runtime | None = None

    def __init__(
        self,
        spec: catalog.ModelSpec | str | None = None,
        device: str | None = None,
        compiled: bool = False,
        dtype: torch.dtype | None = None,
    ):
        """spec: a model's name, or all that can be chosen (`catalog.ModelSpec`); None: the default model.
        device: "cuda", "mps", "cpu"; None takes the best there is. compiled: networks through `torch.compile`:
        a minute or more on the first step (`warm_up`), faster from then on. dtype: of the networks that draw;
        None takes the fastest that the device computes in.

        Raises `InvalidInputError` for a device that this machine does not have and for what the model does not
        take.
        """
        if not isinstance(spec, catalog.ModelSpec):
            spec = catalog.ModelSpec(spec or catalog.default_model())
        self.entry = catalog.find(spec)
        self.spec = replace(spec, rewards=self.entry.rewards)
        self.device = pick_device(device)
        self.compiled = compiled
        self.dtype = dtype or hub.fastest_dtype(self.device)
        self._pipeline: I4VGenPipeline | None = None

    @cached_property
    def defaults(self) -> Defaults:
        """What the model is best run with, and its limits. Reads configuration files only, no weights.

        Raises `ModelError` for a model that cannot be found.
        """
        return self.entry.backbone.read_defaults(**self.entry.sources)

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """What the model can read, if it knows no more than a few words; None if it reads any text."""
        return self.entry.backbone.read_vocabulary(**self.entry.sources)

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of the prompt that the model does not know, in order, each once."""
        return self.vocabulary.unknown(prompt) if self.vocabulary else []

    def stream(
        self,
        make_events: Callable[[I4VGenPipeline], Iterator[Event]],
        stop: StopToken | None = None,
    ) -> Generator[Event, None, None]:
        """Runs `make_events(pipeline)` once the device is free and passes its events on.

        The model is loaded first if need be, after `Loading` events for what has to be downloaded. `stop` is
        looked at between any two events, and while waiting for the device; a stopped stream ends quietly.
        Whatever ends the stream (the last event, `stop`, an error, or the listener going away), the run is
        closed and the device is free again. Generators move between threads, so the lock is one that any thread
        may release.
        """
        stop = stop or StopToken()
        while not self._device_lock.acquire(timeout=0.1):
            if stop.stopped:
                return
        events: Iterator[Event] | None = None
        try:
            for loading in download(self.entry) if self._pipeline is None else ():
                if stop.stopped:
                    return
                yield loading
            if stop.stopped:
                return
            events = make_events(self._load())
            for event in events:
                yield event
                if stop.stopped:
                    return
        finally:
            try:
                if isinstance(events, Generator):
                    events.close()
            finally:
                self._device_lock.release()

    def warm_up(self) -> None:
        """Loads the model and takes one step of every kind, so that nobody waits for that later."""
        config = GenerationConfig.for_model(
            self.defaults, prompt="warm-up", num_inference_steps=1, p_ni_vsds=0.0, p_re=1.0
        )
        for _ in self.stream(lambda pipeline: pipeline.run(config, anchor=0, compare=())):
            pass

    def describe(self) -> dict:
        """The model, the device and the versions of everything that computes, as JSON types, for run.json; once
        it is loaded, also its precision and how it shares the memory.
        """
        versions = {module.__name__: module.__version__ for module in (i4vgen, torch, diffusers, transformers)}
        loaded = {}
        if self._pipeline is not None:
            backbone = self._pipeline.backbone
            loaded = {"dtype": str(backbone.dtype).removeprefix("torch."), "memory": backbone.memory.value}
        versions["python"] = platform.python_version()
        return {**self.spec.to_dict(), "device": self._device_name(), **loaded, "versions": versions}

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device

    def load_here(self) -> I4VGenPipeline:
        """The pipeline, loaded in this process."""
        if self._pipeline is None:
            self._take_over()
            self._pipeline = I4VGenPipeline(*load(self.entry, self.device, self.dtype, self.compiled))
        return self._pipeline

    def _load(self) -> I4VGenPipeline:
        """What runs take place on."""
        return self.load_here()

    def _take_over(self) -> None:
        """Unloads the model that another runtime has loaded."""
        if Runtime._loaded is not None:
            Runtime._loaded._pipeline = None
            gc.collect()
            free_cache()
        Runtime._loaded = self


runtime_class: type[Runtime] = Runtime
"""What `get_runtime` makes. `i4vgen.zero_gpu` puts its own kind here."""

MAX_RUNTIMES = 16
"""Number of choices that `get_runtime` remembers: anybody may name another LoRA with every run."""

_runtimes: dict[catalog.ModelSpec, Runtime] = {}
_runtimes_lock = threading.Lock()


def get_runtime(spec: catalog.ModelSpec | str | None = None) -> Runtime:
    """The runtime of a choice, shared by the whole process. None: the default model."""
    if not isinstance(spec, catalog.ModelSpec):
        spec = catalog.ModelSpec(spec or catalog.default_model())
    spec = replace(spec, rewards=catalog.find(spec).rewards)
    with _runtimes_lock:
        runtime = _runtimes.pop(spec, None) or runtime_class(spec)
        _runtimes[spec] = runtime  # last: the order is that of their use
        while len(_runtimes) > MAX_RUNTIMES:
            del _runtimes[next(iter(_runtimes))]  # a run that has it under way keeps it
        return runtime
