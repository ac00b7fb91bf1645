"""What a model says of itself: the configurations of its networks and, if it has one, its i4vgen.json.

That file may hold any field of `Defaults`, the step sizes of NI-VSDS (`ni_vsds_step_sizes`), and the words of a
model that was trained on few (`words`, `phrases`).
"""

from __future__ import annotations

from dataclasses import fields, replace

from i4vgen import hub
from i4vgen.errors import ModelError
from i4vgen.generation_config import Defaults
from i4vgen.vocabulary import Vocabulary

FILE = "i4vgen.json"


def read_config(model: str, subfolder: str = "") -> dict:
    """A network's configuration. Raises `ModelError` if there is none."""
    file = f"{subfolder}/config.json".lstrip("/")
    config = hub.read_json(model, file)
    if config is None:
        raise ModelError(f"{model} has no {file}: it is not a model in the diffusers layout")
    return config


def override(defaults: Defaults, model: str) -> Defaults:
    """The defaults, with those that the model has of its own in their place."""
    own, names = hub.read_json(model, FILE) or {}, {f.name for f in fields(Defaults)}
    return replace(defaults, **{name: value for name, value in own.items() if name in names})


def step_sizes(model: str) -> tuple[float, ...] | None:
    """Of the NI-VSDS steps, the last one from there on; None if the model has none of its own.

    Raises:
        ModelError: They are not positive numbers.
    """
    sizes = (hub.read_json(model, FILE) or {}).get("ni_vsds_step_sizes")
    if sizes is None:
        return None
    numbers = isinstance(sizes, list) and all(isinstance(s, int | float) and s > 0 for s in sizes)
    if not numbers or not sizes:
        raise ModelError(
            f"{model}/{FILE}: ni_vsds_step_sizes must be a list of positive numbers, not {sizes!r}"
        )
    return tuple(map(float, sizes))


def vocabulary(model: str) -> Vocabulary | None:
    """All words that the model was trained on; None if it does not list them."""
    own = hub.read_json(model, FILE) or {}
    return Vocabulary(frozenset(own["words"]), own.get("phrases", {})) if "words" in own else None
