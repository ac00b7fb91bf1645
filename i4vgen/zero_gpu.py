"""Hugging Face ZeroGPU, which lends a GPU for the seconds of one function call.

The app's own process has no GPU there and must not touch CUDA. The package `spaces` pretends that it has one:
weights that are moved "to cuda" are noted down, and written to disk when the app is launched. A function
decorated with `spaces.GPU` asks for a GPU when it is called, then runs in a fork of the app that has the GPU
and the weights; what it yields is pickled and passed on. So the name of a method and its arguments cross that
border in one direction and events in the other, and neither of them holds anything on a GPU.

Importing this module makes `get_runtime` hand out runtimes of that kind. It must come before torch, of which
`spaces` replaces functions. Nothing else here knows of ZeroGPU.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, ClassVar

import spaces

from i4vgen import runtime
from i4vgen.catalog import ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.errors import I4VGenError
from i4vgen.events import Event
from i4vgen.generation_config import Defaults, GenerationConfig
from i4vgen.pipeline import Anchor, I4VGenPipeline

# Seconds on the GPU, for `estimate`. Guesses, measured nowhere: some twice what half precision should need.
# Asking for too much costs a place in ZeroGPU's queue, and visitors with little of their daily time left are
# turned away; asking for too little may end a run early.
STARTING = 15  # fork, CUDA, the weights from disk to the GPU
PER_CALL = 0.05  # of the network, however small it is
PER_FRAME = 0.02  # and call, of 512 x 512 pixels, for networks of Stable Diffusion's size
PER_DECODED = 0.04  # frame of 512 x 512 pixels
AS_ANIMATEDIFF = Defaults()
LONGEST = 80
"""ZeroGPU refuses durations above a limit that is not documented. Visitors without a subscription are said to
get 120 seconds, and `spaces` multiplies what is asked for by 1.5 on the slower kind of GPU.
"""


class ZeroGPURuntime(runtime.Runtime):
    """A runtime whose runs take place on a GPU lent by ZeroGPU.

    `load_here` gives the pipeline of this process: of the one with the GPU, or of the app's own, in the main
    thread and before the app is launched, since only there and then `spaces` notes the weights down. What was
    not loaded by then is loaded with the first run, while the GPU waits.
    """

    unattended = (
        False  # a GPU is lent to a visitor, whose request says so: without one there is none to ask with
    )

    _known: ClassVar[dict[ModelSpec, ZeroGPURuntime]] = {}

    def __init__(self, spec: ModelSpec | str | None = None):
        super().__init__(spec)
        self._known[self.spec] = self

    @classmethod
    def known(cls, spec: ModelSpec) -> ZeroGPURuntime:
        """The runtime of a choice. Without `get_runtime`, whose lock a fork may have found taken."""
        return cls._known.get(spec) or cls(spec)

    def _device_name(self) -> str:
        return "ZeroGPU"

    def _load(self) -> RemotePipeline:
        return RemotePipeline(self.spec)


runtime.runtime_class = ZeroGPURuntime


class RemotePipeline:
    """Stands for the pipeline in the process with the GPU. Each method runs there, with plain data only: the
    links of the chain that take latents are left out.
    """

    def __init__(self, spec: ModelSpec):
        self._spec = spec

    def run(self, *args: object, **kwargs: object) -> Iterator[Event]:
        return self._start("run", *args, **kwargs)

    def candidates(self, *args: object, **kwargs: object) -> Iterator[Event]:
        return self._start("candidates", *args, **kwargs)

    def score(self, *args: object, **kwargs: object) -> Iterator[Event]:
        return self._start("score", *args, **kwargs)

    def animate(self, *args: object, **kwargs: object) -> Iterator[Event]:
        return self._start("animate", *args, **kwargs)

    def comparison(self, *args: object, **kwargs: object) -> Iterator[Event]:
        return self._start("comparison", *args, **kwargs)

    def _start(self, method: str, *args: object, **kwargs: object) -> Iterator[Event]:
        """Passes on the events of a run elsewhere.

        Closing this makes the other process end its run after the step under way, and waits for that.
        """
        bound = inspect.signature(getattr(I4VGenPipeline, method)).bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *arguments = bound.arguments.items()  # without self
        with closing(_run(self._spec, method, dict(arguments))) as events:
            for event in events:
                if isinstance(event, Exception):
                    raise event
                yield event


def duration(spec: ModelSpec, method: str, arguments: dict[str, Any]) -> int:
    """The seconds to ask ZeroGPU for. Takes the arguments of `_run`, as `spaces` wants it."""
    if method == "score":
        return STARTING
    model = ZeroGPURuntime.known(spec)
    seconds = estimate(method, **arguments, defaults=model.defaults, work=model.entry.work)
    return min(math.ceil(seconds), LONGEST)


@spaces.GPU(duration=duration)
def _run(spec: ModelSpec, method: str, arguments: dict[str, Any]) -> Generator[Event | Exception, None, None]:
    """In the process with the GPU: a method of the pipeline, by its name.

    That process is a fork of the app's, so what was loaded there is loaded here. It stays for later runs.
    """
    try:
        yield from getattr(ZeroGPURuntime.known(spec).load_here(), method)(**arguments)
    except I4VGenError as error:  # `spaces` would pass on no more than the name of its class
        yield error


def estimate(
    method: str,
    config: GenerationConfig,
    anchor: Anchor | int | None = None,
    compare: Sequence[str] = (),
    previews: float = 0.0,
    first: int = 0,
    judge: bool = False,  # noqa: ARG001  rewards are fast
    name: str = "",
    defaults: Defaults = AS_ANIMATEDIFF,
    work: float = 1.0,
) -> float:
    """Seconds that a method of the pipeline will take on a GPU, generously. Takes the method's arguments, the
    model's defaults and how much work a frame of its latents is (`catalog.Entry`).
    """
    steps = config.sampling.steps
    draws = method == "candidates" or (method == "run" and not isinstance(anchor, Anchor))
    candidates = config.num_candidates - first if draws else 0
    animates = method in ("run", "animate")
    videos = [config.ni_vsds_steps, config.regeneration_steps] if animates else []  # the steps of each
    # Unknown comparisons are refused by the run itself.
    videos += [COMPARISONS[each].steps(config) for each in (*compare, name) if each in COMPARISONS]

    calls = steps * math.ceil(candidates / config.candidate_batch_size) + sum(videos)
    frames = config.image_steps(candidates) + sum(videos) * defaults.latent_frames(config.num_frames)
    decoded = candidates * (2 if config.sketch_steps else 1) + len(videos) * config.num_frames
    if config.guidance_scale > 1:  # every frame with the prompt and without
        frames *= 2
    size = config.height * config.width / 512**2
    seconds = PER_CALL * calls + size * (PER_FRAME * work * frames + PER_DECODED * decoded)
    return STARTING + seconds * (1 + previews)
