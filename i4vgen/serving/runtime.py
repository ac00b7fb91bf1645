"""Loads pipelines and runs them one at a time on the device, with cancellation."""

from __future__ import annotations

import gc
import platform
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, replace
from functools import cached_property

import diffusers
import torch
import transformers
from transformers import PreTrainedTokenizerBase

import i4vgen
from i4vgen.backbones.memory import free_cache, memory_errors_in_words
from i4vgen.config import Defaults, GenerationConfig
from i4vgen.events import Event, LoraFit
from i4vgen.models import catalog
from i4vgen.models.loading import download_model, load_model, pick_device, reward_names
from i4vgen.models.portable import FileId, to_portable
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.weights.prompt_syntax import literal_syntax, weighted_parts, without_weights
from i4vgen.weights.vocabulary import Vocabulary, cut_off


class StopToken:
    """Tells a stream to end. Thread-safe."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def stop(self) -> None:
        self._event.set()

    @property
    def stopped(self) -> bool:
        return self._event.is_set()


class Runtime:
    """A model that is loaded on first use and makes one run at a time.

    A process keeps one model loaded: a run of another runtime unloads it.

    Attributes:
        unattended: Whether runs can continue without an open page.
        at_once: Maximum number of concurrent runs.
    """

    unattended = True
    at_once = 1
    _device_lock = threading.Semaphore(1)
    _loaded: Runtime | None = None

    def __init__(
        self,
        spec: catalog.ModelSpec | str | None = None,
        device: str | None = None,
        compiled: bool = False,
        dtype: torch.dtype | None = None,
    ):
        """Creates the runtime without loading the model.

        Args:
            spec: The name or full specification of a model; None for the default model.
            device: "cuda", "cuda:1", "mps" or "cpu"; None for the best available.
            compiled: Whether to compile the networks with `torch.compile`. The first step then takes a minute
                or more (`warm_up`), later steps less time.
            dtype: Precision of the backbone's networks; None for the fastest one on the device.

        Raises:
            InvalidInputError: The device is unavailable, or the specification is invalid.
            ModelError: A file of the model cannot be read or is of an unsupported kind.
        """
        if not isinstance(spec, catalog.ModelSpec):
            spec = catalog.ModelSpec(spec or catalog.default_model(device))
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
            ModelError: The model cannot be found or is unsupported, or a configuration is missing or damaged.
        """
        return self.entry.backbone.read_defaults(**self.entry.sources)

    @cached_property
    def has_reward(self) -> bool:
        """Whether the model has a reward model.

        Raises:
            ModelError: The model cannot be found, or the configuration of its own reward model is damaged.
        """
        return bool(reward_names(self.entry))

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The words that the model knows; None if it understands any text."""
        return self.entry.backbone.read_vocabulary(**self.entry.sources)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer that truncates prompts; None if the model reads prompts of any length.

        Raises:
            ModelError: The tokenizer is missing or damaged.
        """
        if self.entry.backbone.reads_long_prompts(**self.entry.sources):
            return None
        return self.entry.backbone.read_tokenizer(**self.entry.sources)

    def unread(self, prompt: str) -> str:
        """Returns the end of a prompt that the model does not read; empty if it reads all of it."""
        if self.entry.backbone.reads_weights:
            prompt = without_weights(prompt)
        return cut_off(self.tokenizer, prompt) if self.tokenizer else ""

    def literal_syntax(self, prompt: str) -> list[str]:
        """Returns the parts of a prompt in other programs' syntax, which this model reads as plain words."""
        found = literal_syntax(prompt)
        if not self.entry.backbone.reads_weights:
            found += [f"({part.text}:{part.weight:g})" for part in weighted_parts(prompt) if part.weight != 1]
        return found

    def unknown_words(self, prompt: str) -> list[str]:
        """Returns the words of a prompt that the model does not know, in order and without duplicates.

        Empty if the model understands any text.
        """
        return self.vocabulary.unknown(prompt) if self.vocabulary else []

    def stream(
        self,
        make_events: Callable[[I4VGenPipeline], Iterator[Event]],
        stop: StopToken | None = None,
    ) -> Generator[Event, None, None]:
        """Waits for the device, loads the model if necessary and yields the events of a run.

        `Loading` events come first if files must be downloaded, then the LoRA fits. However the stream ends
        (last event, stop token, error or closing the generator), the run is closed and the device released,
        possibly in another thread.

        Args:
            make_events: Called with the pipeline to start the run.
            stop: Token to stop the stream, checked between events and while waiting. A stopped stream ends
                without an error.

        Raises:
            ModelError: The model cannot be downloaded or loaded.
            OutOfMemoryError: The device has too little memory.
            I4VGenError: Any other error of the run.
        """
        stop = stop or StopToken()
        while not self._device_lock.acquire(timeout=0.1):  # usually free: `JobQueue` runs one job at a time
            if stop.stopped:
                return
        events: Iterator[Event] | None = None
        try:
            for loading in download_model(self.entry) if self._pipeline is None else ():
                if stop.stopped:
                    return
                yield loading
            if stop.stopped:
                return
            with memory_errors_in_words(self.device):
                pipeline = self._load()
                yield from self.lora_fits
                events = make_events(pipeline)
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

    @property
    def lora_fits(self) -> tuple[LoraFit, ...]:
        """The number of layers of each LoRA that fit the model; empty before the model is loaded."""
        return self._pipeline.backbone.lora_fits if self._pipeline else ()

    def warm_up(self) -> None:
        """Loads the model and runs each of `events.STAGES` once, so that the first visitor need not wait."""
        config = GenerationConfig.for_model(
            self.defaults, prompt="warm-up", num_inference_steps=1, p_ni_vsds=0.0, p_re=1.0
        )
        for _ in self.stream(lambda pipeline: pipeline.run(config, anchor=0, compare=())):
            pass

    @cached_property
    def portable_spec(self) -> tuple[catalog.ModelSpec, dict[str, FileId]]:
        """The specification for run files, without folders, and the ids of local files by name."""
        return to_portable(self.spec)

    def describe(self) -> dict:
        """Returns the model, the ids of its local files, the device and the versions for run.json.

        Includes the dtype, memory mode and LoRA fits once the model is loaded.
        """
        versions = {module.__name__: module.__version__ for module in (i4vgen, torch, diffusers, transformers)}
        loaded: dict[str, object] = {}
        if self._pipeline is not None:
            backbone = self._pipeline.backbone
            loaded = {"dtype": str(backbone.dtype).removeprefix("torch."), "memory": backbone.memory.value}
        if self.lora_fits:
            loaded["lora_fits"] = [asdict(fit) for fit in self.lora_fits]
        versions["python"] = platform.python_version()
        spec, files = self.portable_spec
        named = {"files": {name: asdict(file) for name, file in files.items()}} if files else {}
        return {**spec.to_dict(), **named, "device": self._device_name(), **loaded, "versions": versions}

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device

    def load_here(self) -> I4VGenPipeline:
        """Returns the pipeline of this process, loading it if necessary.

        Raises:
            ModelError: The model cannot be loaded.
        """
        if self._pipeline is None:
            self._take_over()
            self._pipeline = I4VGenPipeline(*load_model(self.entry, self.device, self.dtype, self.compiled))
        return self._pipeline

    def _load(self) -> I4VGenPipeline:
        """Returns the pipeline for runs. Subclasses may run it elsewhere."""
        return self.load_here()

    def _take_over(self) -> None:
        """Unloads the model that this process has loaded, if any, before this runtime loads its own."""
        if Runtime._loaded is not None:
            Runtime._loaded._pipeline = None
            gc.collect()
            free_cache()
        Runtime._loaded = self


MAX_RUNTIMES = 16
"""Maximum number of runtimes kept: every combination of LoRAs has its own."""


class Runtimes:
    """The latest runtimes of a process, one per model specification. Thread-safe."""

    def __init__(self, runtime_class: Callable[[catalog.ModelSpec], Runtime] = Runtime) -> None:
        """Creates an empty cache.

        Args:
            runtime_class: Creates a runtime from a specification, such as `Runtime` or `ZeroGPURuntime`.
        """
        self.runtime_class = runtime_class
        self._kept: dict[catalog.ModelSpec, Runtime] = {}
        self._lock = threading.Lock()

    def get(self, spec: catalog.ModelSpec | str | None = None) -> Runtime:
        """Returns the runtime of a model, creating it if necessary.

        Args:
            spec: The name or full specification of a model; None for the default model.

        Raises:
            InvalidInputError: The device is unavailable, or the specification is invalid.
            ModelError: A file of the model cannot be read or is of an unsupported kind.
        """
        if not isinstance(spec, catalog.ModelSpec):
            spec = catalog.ModelSpec(spec or catalog.default_model())
        spec = replace(spec, rewards=catalog.find(spec).rewards)
        with self._lock:
            runtime = self._kept.pop(spec, None) or self.runtime_class(spec)
            self._kept[spec] = runtime  # moved to the end: ordered by use
            while len(self._kept) > MAX_RUNTIMES:
                del self._kept[next(iter(self._kept))]  # active runs keep their own reference
            return runtime
