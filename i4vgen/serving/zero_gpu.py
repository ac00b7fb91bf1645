"""Support for Hugging Face ZeroGPU, which allocates a GPU for the duration of a function call.

The main process of the app has no GPU and must not use CUDA. The `spaces` package emulates CUDA there: it
records the weights moved to "cuda" and writes them to disk when the app is launched. A function decorated
with `spaces.GPU` requests a GPU when called and runs in a fork of the app that has the GPU and the weights.
The values it yields are pickled. Therefore only method names, arguments and events cross the process
boundary, and none of them holds GPU memory.

app.py passes `ZeroGPURuntime` to `Runtimes` on ZeroGPU. It must import this module before torch, because
`spaces` patches torch. No other module depends on ZeroGPU.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Generator, Iterator, MutableMapping, Sequence
from contextlib import closing
from functools import partialmethod
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import spaces

from i4vgen.backbones.memory import memory_errors_in_words
from i4vgen.config import Defaults, GenerationConfig
from i4vgen.errors import I4VGenError
from i4vgen.events import Event, LoraFit
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.models.catalog import ModelSpec
from i4vgen.pipeline import Anchor, I4VGenPipeline
from i4vgen.serving.runtime import Runtime

# GPU seconds for `estimate`. Unmeasured guesses: about twice the expected time in half precision. Requesting
# too much lowers the priority in ZeroGPU's queue and rejects visitors whose daily quota is nearly used up;
# requesting too little may end a run early.
STARTING = 15  # fork, CUDA initialisation, loading weights from disk
PER_CALL = 0.05  # fixed cost of a network call
PER_FRAME = 0.02  # per frame of 512 x 512 pixels in a network call, for Stable Diffusion
PER_DECODED = 0.04  # per decoded frame of 512 x 512 pixels
AS_ANIMATEDIFF = Defaults()
LONGEST = 80
"""Maximum duration to request, in seconds.

ZeroGPU rejects durations above an undocumented limit, reportedly 120 s without a subscription. `spaces`
multiplies requested durations by 1.5 on the slower type of GPU.
"""


class ZeroGPURuntime(Runtime):
    """Runs a model on a GPU allocated by ZeroGPU.

    Call `load_here` in the GPU process, or in the main thread of the app before launch: `spaces` records
    weights only then. Other models are loaded by their first run, on GPU time.
    """

    unattended = False  # GPU time is charged to the visitor whose request needs it

    # Several, so that runs rarely queue in the app: ZeroGPU has a queue, and the visitor's token would expire.
    at_once = 4
    _device_lock = threading.Semaphore(at_once)

    _known: ClassVar[MutableMapping[ModelSpec, ZeroGPURuntime]] = WeakValueDictionary()

    def __init__(self, spec: ModelSpec | str | None = None, device: str | None = None):
        super().__init__(spec, device)
        self.remote_lora_fits: tuple[LoraFit, ...] = ()
        self._known[self.spec] = self

    @classmethod
    def known(cls, spec: ModelSpec) -> ZeroGPURuntime:
        """Returns the runtime of a model. Avoids the lock of `Runtimes`, which may be held in a fork."""
        return cls._known.get(spec) or cls(spec)

    def _device_name(self) -> str:
        return "ZeroGPU"

    def _load(self) -> RemotePipeline:
        return RemotePipeline(self)

    @property
    def lora_fits(self) -> tuple[LoraFit, ...]:
        """The number of layers of each LoRA that fit; empty until the model is loaded here or has run."""
        return super().lora_fits or self.remote_lora_fits


class RemotePipeline:
    """Proxy of the pipeline in the GPU process, with the methods that take plain data."""

    def __init__(self, runtime: ZeroGPURuntime):
        self._runtime = runtime

    def _call(self, method: str, *args: object, **kwargs: object) -> Iterator[Event]:
        """Yields the events of a method. Closing the generator ends the method after its current step.

        Raises:
            I4VGenError: The error of the method.
        """
        bound = inspect.signature(getattr(I4VGenPipeline, method)).bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *arguments = bound.arguments.items()  # without self
        announced = self._runtime.lora_fits  # already yielded by `Runtime.stream`
        with closing(_run(self._runtime.spec, method, dict(arguments))) as events:
            for event in events:
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, tuple):
                    self._runtime.remote_lora_fits = event
                    yield from () if announced else event
                else:
                    yield event

    run = partialmethod(_call, "run")
    candidates = partialmethod(_call, "candidates")
    score = partialmethod(_call, "score")
    animate = partialmethod(_call, "animate")
    comparison = partialmethod(_call, "comparison")


def duration(spec: ModelSpec, method: str, arguments: dict[str, Any]) -> int:
    """Returns the seconds to request from ZeroGPU. `spaces` calls this with the arguments of `_run`."""
    if method == "score":
        return STARTING
    model = ZeroGPURuntime.known(spec)
    known = {"defaults": model.defaults, "has_reward": model.has_reward, "work": model.entry.work}
    seconds = estimate(method, **arguments, **known)
    return min(math.ceil(seconds), LONGEST)


@spaces.GPU(duration=duration)
def _run(
    spec: ModelSpec, method: str, arguments: dict[str, Any]
) -> Generator[Event | tuple[LoraFit, ...] | Exception, None, None]:
    """Runs a pipeline method in the GPU process.

    That process is a fork of the app, including its loaded models, and is reused by later runs.

    Args:
        spec: The model.
        method: The name of the method.
        arguments: The arguments of the method by name.

    Yields:
        The LoRA fits, which the main process lacks if the model is loaded only here; then the events of the
        method. An `I4VGenError` is yielded last instead of being raised.
    """
    known = ZeroGPURuntime.known(spec)
    try:
        with memory_errors_in_words(known.device):
            pipeline = known.load_here()
            yield tuple(pipeline.backbone.lora_fits)
            yield from getattr(pipeline, method)(**arguments)
    except I4VGenError as error:  # `spaces` forwards only the class name of an exception
        yield error


def estimate(
    method: str,
    config: GenerationConfig,
    anchor: Anchor | int | None = None,
    compare: Sequence[str] = (),
    previews: float = 0.0,
    first: int = 0,
    name: str = "",
    defaults: Defaults = AS_ANIMATEDIFF,
    has_reward: bool = True,
    work: float = 1.0,
    **_others: object,
) -> float:
    """Returns a generous estimate of the GPU seconds of a pipeline method.

    Arguments not listed below are those of the method. The others of the method, such as those about rewards,
    hardly affect the time.

    Args:
        method: The name of the method.
        defaults: The defaults of the model.
        has_reward: Whether the model has a reward model.
        work: The work of denoising a frame of latents (`ModelEntry.work`).
    """
    steps = config.sampling.steps
    draws = method == "candidates" or (method == "run" and not isinstance(anchor, Anchor))
    candidates = config.num_candidates - first if draws else 0
    anchors = {"run": config.animate_best, "animate": 1}.get(method, 0)
    videos = anchors * [config.ni_vsds_steps, config.regeneration_steps]  # steps per video
    # The run itself rejects unknown comparisons.
    videos += [COMPARISONS[each].steps(config) for each in (*compare, name) if each in COMPARISONS]

    calls = steps * math.ceil(candidates / config.candidate_batch_size) + sum(videos)
    latent_frames = defaults.latent_frames(config.num_frames)
    frames = config.image_steps(candidates, has_reward) + sum(videos) * latent_frames
    rounds = len(config.candidate_rounds(candidates, has_reward))
    decoded = candidates * rounds + len(videos) * config.num_frames
    if config.guidance_scale > 1:  # classifier-free guidance
        frames *= 2
    size = config.height * config.width / 512**2
    seconds = PER_CALL * calls + size * (PER_FRAME * work * frames + PER_DECODED * decoded)
    return STARTING + seconds * (1 + previews)
