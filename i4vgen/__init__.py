"""I4VGen: image as stepping stone for text-to-video generation (arXiv 2406.02230), on diffusers.

`I4VGenPipeline.from_pretrained("pocket")("a prompt")` makes a video, as does `python -m i4vgen "a prompt"`.
To read the code, start with `pipeline.py` (the whole method), `method/ni_vsds.py` (equation 5) and
`backbones/base.py` (the interface of a video model).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from i4vgen.config import GenerationConfig
    from i4vgen.method.anchor import Anchor
    from i4vgen.method.outputs import I4VGenOutput
    from i4vgen.pipeline import I4VGenPipeline

__version__ = "0.1.0"

__all__ = ["Anchor", "GenerationConfig", "I4VGenOutput", "I4VGenPipeline"]

_MODULES = {
    "Anchor": "i4vgen.method.anchor",
    "GenerationConfig": "i4vgen.config",
    "I4VGenOutput": "i4vgen.method.outputs",
    "I4VGenPipeline": "i4vgen.pipeline",
}


def __getattr__(name: str) -> object:
    """Imports a public class on first use, so that the command line's help does not wait for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
