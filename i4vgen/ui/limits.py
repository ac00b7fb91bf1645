"""What this app lets its visitors ask for. The engine by itself runs anything that a model can."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from i4vgen.comparisons import stage_work, work
from i4vgen.errors import InvalidInputError
from i4vgen.generation_config import Defaults, GenerationConfig
from i4vgen.runtime import Runtime
from i4vgen.ui import strings
from i4vgen.ui.pace import Pace, RunClock

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
        """Raises `InvalidInputError` for a run that is larger or longer than this app makes with this model.

        anchors: how many it animates.
        """
        defaults, limits = runtime.defaults, self.limits
        check_size(config, defaults)
        stages = stage_work(config, compare, defaults, anchors)
        if limits.largest_run is not None:
            usual = GenerationConfig.for_model(defaults, prompt="-")
            times = sum(stages.values()) / work(usual, ("vanilla",), defaults)
            if times > limits.largest_run:
                raise InvalidInputError(strings.too_much_work(times, limits.largest_run))
        if limits.longest_run is not None:
            seconds = self.pace.seconds(runtime.spec, stages)
            if seconds is not None and seconds > limits.longest_run:
                raise InvalidInputError(strings.too_long(seconds, limits.longest_run))

    def clock(self, runtime: Runtime, config: GenerationConfig, compare: Iterable[str] = ()) -> RunClock:
        """Measures a run of one anchor."""
        return RunClock(self.pace, runtime.spec, stage_work(config, compare, runtime.defaults))


def check_size(config: GenerationConfig, defaults: Defaults) -> None:
    """Raises `InvalidInputError` for a video that is larger than this app makes them with this model."""
    most = MAX_AREA * defaults.height * defaults.width
    if config.height * config.width > most:
        raise InvalidInputError(strings.too_large(config.height, config.width, most))
