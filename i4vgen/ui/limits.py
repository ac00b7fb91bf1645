"""What this app lets its visitors ask for. The engine by itself runs anything that a model can."""

from __future__ import annotations

from i4vgen.errors import InvalidInputError
from i4vgen.generation_config import Defaults, GenerationConfig
from i4vgen.ui import strings

MAX_AREA = 2
"""Largest video, as a multiple of the pixels of the model's default size: memory and time grow with it."""


def check_size(config: GenerationConfig, defaults: Defaults) -> None:
    """Raises `InvalidInputError` for a video that is larger than this app makes them with this model."""
    most = MAX_AREA * defaults.height * defaults.width
    if config.height * config.width > most:
        raise InvalidInputError(strings.too_large(config.height, config.width, most))
