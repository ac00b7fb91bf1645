"""What this app lets its visitors ask for. The engine by itself runs anything that a model can."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from i4vgen.comparisons import work
from i4vgen.errors import InvalidInputError
from i4vgen.generation_config import Defaults, GenerationConfig
from i4vgen.ui import strings

MAX_AREA = 2
"""Largest video, as a multiple of the pixels of the model's default size: memory and time grow with it."""


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask of a server that others use too.

    Attributes:
        largest_run: The longest run, as a multiple of the work of the model's default run; None: of any length.
        waiting: Maximum number of waiting runs.
        waiting_per_visitor: Maximum number of a visitor's runs that wait or are under way.
        queued: Maximum number of queued prompts, which nobody has to stay on the page for.
        queued_per_visitor: Maximum number of a visitor's queued prompts; no more than a browser remembers runs.
    """

    largest_run: float | None = None
    waiting: int = 64
    waiting_per_visitor: int = 64
    queued: int = 96
    queued_per_visitor: int = 24

    def check_run(
        self, config: GenerationConfig, compare: Iterable[str], defaults: Defaults, anchors: int = 1
    ) -> None:
        """Raises `InvalidInputError` for a run that is larger or longer than this app makes with this model.

        anchors: how many it animates.
        """
        check_size(config, defaults)
        if self.largest_run is None:
            return
        usual = GenerationConfig.for_model(defaults, prompt="-")
        times = work(config, compare, defaults, anchors) / work(usual, ("vanilla",), defaults)
        if times > self.largest_run:
            raise InvalidInputError(strings.too_long(times, self.largest_run))


PRIVATE = Limits()
"""Of an app that its owner alone reaches."""

PUBLIC = Limits(largest_run=8.0, waiting=32, waiting_per_visitor=3, queued_per_visitor=12)
"""Of a server that anybody can reach."""


def check_size(config: GenerationConfig, defaults: Defaults) -> None:
    """Raises `InvalidInputError` for a video that is larger than this app makes them with this model."""
    most = MAX_AREA * defaults.height * defaults.width
    if config.height * config.width > most:
        raise InvalidInputError(strings.too_large(config.height, config.width, most))
