"""I4VGen: an image as a stepping stone for text-to-video generation (arXiv 2406.02230), on diffusers.

Start reading at `pipeline.py` (the method), then `ni_vsds.py` (its equation 5) and `backbones/base.py` (what
a model must be able to do). `python -m i4vgen "a prompt"` runs it; so does, from Python,
`I4VGenPipeline.from_pretrained("pocket")("a prompt")`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from i4vgen.anchor import Anchor
    from i4vgen.generation_config import GenerationConfig
    from i4vgen.outputs import I4VGenOutput
    from i4vgen.pipeline import I4VGenPipeline

__version__ = "0.1.0"

__all__ = ["Anchor", "GenerationConfig", "I4VGenOutput", "I4VGenPipeline"]

_MODULES = {
    "Anchor": "i4vgen.anchor",
    "GenerationConfig": "i4vgen.generation_config",
    "I4VGenOutput": "i4vgen.outputs",
    "I4VGenPipeline": "i4vgen.pipeline",
}


def __getattr__(name: str) -> object:
    """Imports the public classes on first use: torch takes seconds, and the command line's help needs none."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
