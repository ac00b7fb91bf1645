"""The pipeline that a process keeps loaded: its device, its lock, cancellation."""

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
from transformers import PreTrainedTokenizerBase

import i4vgen
from i4vgen import catalog
from i4vgen.backbones.memory import free_cache
from i4vgen.events import Event
from i4vgen.generation_config import Defaults, GenerationConfig
from i4vgen.loading import download, load, pick_device
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.vocabulary import Vocabulary, cut_off


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
    """A model, loaded on first use and kept, that serves one run at a time.

    A process keeps one model loaded; a run of another runtime unloads it.

    Attributes:
        unattended: Whether a run can go on when whoever asked for it has left.
    """

    unattended = True
    _device_lock = threading.Lock()
    _loaded: Runtime | None = None

    def __init__(
        self,
        spec: catalog.ModelSpec | str | None = None,
        device: str | None = None,
        compiled: bool = False,
        dtype: torch.dtype | None = None,
    ):
        """Loads nothing yet.

        Args:
            spec: A model's name or a full choice; None for the default model.
            device: "cuda", "mps" or "cpu"; None for the best available.
            compiled: Whether to compile the networks with `torch.compile`. The first step then takes a minute
                or more (`warm_up`), later ones less.
            dtype: Of the denoising networks; None for the fastest that the device computes in natively.

        Raises:
            InvalidInputError: The device does not exist here, or the model does not take part of the choice.
        """
        if not isinstance(spec, catalog.ModelSpec):
            spec = catalog.ModelSpec(spec or catalog.default_model())
        self.entry = catalog.find(spec)
        self.spec = replace(spec, rewards=self.entry.rewards)
        self.device = pick_device(device)
        self.compiled = compiled
        self.dtype = dtype
        self._pipeline: I4VGenPipeline | None = None

    @cached_property
    def defaults(self) -> Defaults:
        """The model's default settings and limits, read from its configuration files.

        Raises:
            ModelError: The model cannot be found.
        """
        return self.entry.backbone.read_defaults(**self.entry.sources)

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The words that the model knows; None if it reads any text."""
        return self.entry.backbone.read_vocabulary(**self.entry.sources)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """What tells how far the model reads; None if it reads texts of any length."""
        return self.entry.backbone.read_tokenizer(**self.entry.sources)

    def unread(self, prompt: str) -> str:
        """The end of the prompt that the model does not read; empty if it reads all."""
        return cut_off(self.tokenizer, prompt) if self.tokenizer else ""

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of the prompt that the model does not know, in order, without repetition."""
        return self.vocabulary.unknown(prompt) if self.vocabulary else []

    def stream(
        self,
        make_events: Callable[[I4VGenPipeline], Iterator[Event]],
        stop: StopToken | None = None,
    ) -> Generator[Event, None, None]:
        """Waits for the device, loads the model if necessary, and yields the events of `make_events(pipeline)`.

        `Loading` events come first if something has to be downloaded. However the stream ends (last event,
        stop token, error, or closed by its consumer), the run is closed and the device released. Generators
        move between threads, so any thread may release the lock.

        Args:
            make_events: Starts the run.
            stop: Checked between events and while waiting; a stopped stream ends without an error.
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
        """Loads the model and runs every stage once, so that the first visitor does not wait for it."""
        config = GenerationConfig.for_model(
            self.defaults, prompt="warm-up", num_inference_steps=1, p_ni_vsds=0.0, p_re=1.0
        )
        for _ in self.stream(lambda pipeline: pipeline.run(config, anchor=0, compare=())):
            pass

    def describe(self) -> dict:
        """Model, device and library versions as JSON types, for run.json; dtype and memory mode once loaded."""
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
        """Unloads the model of another runtime."""
        if Runtime._loaded is not None:
            Runtime._loaded._pipeline = None
            gc.collect()
            free_cache()
        Runtime._loaded = self


runtime_class: type[Runtime] = Runtime
"""The class that `get_runtime` instantiates. `i4vgen.zero_gpu` replaces it."""

MAX_RUNTIMES = 16
"""Maximum number of runtimes that are kept: every LoRA makes another one."""

_runtimes: dict[catalog.ModelSpec, Runtime] = {}
_runtimes_lock = threading.Lock()


def get_runtime(spec: catalog.ModelSpec | str | None = None) -> Runtime:
    """The process-wide runtime of a choice; None for the default model."""
    if not isinstance(spec, catalog.ModelSpec):
        spec = catalog.ModelSpec(spec or catalog.default_model())
    spec = replace(spec, rewards=catalog.find(spec).rewards)
    with _runtimes_lock:
        runtime = _runtimes.pop(spec, None) or runtime_class(spec)
        _runtimes[spec] = runtime  # last: the order is that of their use
        while len(_runtimes) > MAX_RUNTIMES:
            del _runtimes[next(iter(_runtimes))]  # a run that has it under way keeps it
        return runtime
