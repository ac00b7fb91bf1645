"""Which models this app runs: those of the catalogue, and the one that it was started with.

An opened run or an API client may name any folder or hub id.
"""

from __future__ import annotations

from i4vgen.catalog import MODELS, ModelSpec
from i4vgen.runtime import Runtime, get_runtime


def offered(own: Runtime) -> tuple[str, ...]:
    """The names of the models, as the form lists them. own: the runtime that the app was started with."""
    return tuple(dict.fromkeys((*MODELS, own.spec.model)))


def default_spec(own: Runtime, model: str) -> ModelSpec:
    """A model of which only the name was chosen, with what the app was started with or else the catalogue's."""
    return own.spec if model == own.spec.model else ModelSpec(model)


def runtime_for(own: Runtime, spec: ModelSpec) -> Runtime | None:
    """The runtime of a model, the app's own where it is that one. None for one that the app does not run."""
    if spec.model not in offered(own):
        return None
    return own if spec == own.spec else get_runtime(spec)
