"""What this app lets its visitors ask for. The engine by itself runs anything that a model can."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from i4vgen.comparisons import COMPARISONS, stage_work, work
from i4vgen.errors import InvalidInputError
from i4vgen.generation_config import Defaults, GenerationConfig
from i4vgen.runtime import Runtime
from i4vgen.ui import strings
from i4vgen.ui.pace import Pace, Stopwatch

MAX_AREA = 2
"""Largest video, as a multiple of the pixels of the model's default size: memory and time grow with it."""


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask of a server that others use too.

    Attributes:
        largest_run: The most work of a run, as a multiple of the model's default run; None: any.
        longest_run: The most seconds of a run, as far as runs of the model were measured; None: any.
        waiting: Maximum number of waiting runs.
        waiting_per_visitor: Maximum number of a visitor's runs that wait or are under way.
        queued: Maximum number of queued prompts, which nobody has to stay on the page for.
        queued_per_visitor: Maximum number of a visitor's queued prompts; no more than a browser remembers runs.
        largest_upload: Maximum number of bytes of an upload, all its files together.
    """

    largest_run: float | None = None
    longest_run: float | None = None
    waiting: int = 64
    waiting_per_visitor: int = 64
    queued: int = 96
    queued_per_visitor: int = 24
    largest_upload: int = 100 * 2**20


PRIVATE = Limits()
"""Of an app that its owner alone reaches."""

PUBLIC = Limits(largest_run=8.0, waiting=32, waiting_per_visitor=3, queued_per_visitor=12)
"""Of a server that anybody can reach."""


@dataclass(frozen=True)
class Budget:
    """What runs cost on this server, and which of them it makes.

    Attributes:
        limits: What a run may cost.
        pace: How long the runs so far have taken.
    """

    limits: Limits = PRIVATE
    pace: Pace = field(default_factory=Pace)

    def check(
        self, runtime: Runtime, config: GenerationConfig, compare: Iterable[str] = (), anchors: int = 1
    ) -> None:
        """Raises `InvalidInputError` for a run that is larger or more work than this app makes with this model.

        anchors: how many it animates.
        """
        defaults = runtime.defaults
        check_size(config, defaults)
        if self.limits.largest_run is None:
            return
        times = work(config, compare, defaults, anchors) / work(usual(defaults), ("vanilla",), defaults)
        if times > self.limits.largest_run:
            raise InvalidInputError(strings.too_much_work(times, self.limits.largest_run))

    def check_time(
        self,
        runtime: Runtime,
        config: GenerationConfig,
        draws: int = 0,
        anchors: int = 0,
        compare: Iterable[str] = (),
    ) -> None:
        """Raises `InvalidInputError` for what would take longer than a run may, going by what was measured.

        To be asked before it waits, and not again when it begins: by then more was measured.

        Args:
            draws: How many candidates it draws.
            anchors: How many it animates.
            compare: What it compares with. All anchors share that, unless the model shows them in it.
        """
        if self.limits.longest_run is None:
            return
        stages = stage_work(replace(config, num_candidates=draws or 1), compare, runtime.defaults)
        times = dict.fromkeys(stages, anchors) | {"candidates": min(draws, 1)}
        if not runtime.entry.backbone.image_to_video:
            times |= dict.fromkeys(stages.keys() & COMPARISONS.keys(), min(anchors, 1))
        stages = {stage: times[stage] * work for stage, work in stages.items()}
        seconds = self.pace.at_least(model_of(runtime), stages)
        if seconds > self.limits.longest_run:
            raise InvalidInputError(strings.too_long(seconds, self.limits.longest_run))

    def stopwatch(self, runtime: Runtime, config: GenerationConfig, compare: Iterable[str] = ()) -> Stopwatch:
        """Measures a run of one anchor, or the drawing of its candidates."""
        defaults = runtime.defaults
        much = {stage: work / 2 for stage, work in stage_work(usual(defaults), COMPARISONS, defaults).items()}
        return Stopwatch(self.pace, model_of(runtime), stage_work(config, compare, defaults), much)


def usual(defaults: Defaults) -> GenerationConfig:
    """The run of a model whose settings nobody has touched."""
    return GenerationConfig.for_model(defaults, prompt="-")


def model_of(runtime: Runtime) -> str:
    """What a pace is of. Neither LoRAs nor who judges change how long a step takes."""
    return f"{runtime.spec.model} {runtime.spec.base}"


def check_size(config: GenerationConfig, defaults: Defaults) -> None:
    """Raises `InvalidInputError` for a video that is larger than this app makes them with this model."""
    most = MAX_AREA * defaults.height * defaults.width
    if config.height * config.width > most:
        raise InvalidInputError(strings.too_large(config.height, config.width, most))
