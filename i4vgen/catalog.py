"""The models by name. A new model is one entry; a new family of models is one more file in `backbones/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from i4vgen.backbones.animatediff import AnimateDiffBackbone

DEFAULT = "pocket"


@dataclass(frozen=True)
class Entry:
    """Where a model lives.

    base: a folder or a hub id in the diffusers layout. motion_adapter: the same for motion modules that are
    kept apart from the base; None if the base has its own. backbone: the class that runs it.
    """

    base: str
    motion_adapter: str | None = None
    backbone: type = AnimateDiffBackbone


MODELS = {
    "pocket": Entry(str(Path(__file__).resolve().parents[1] / "assets" / "pocket")),
}


def find(model: str) -> Entry:
    """The entry of a model: a name from `MODELS`, any folder or hub id in the diffusers layout, or
    "BASE+ADAPTER", both of them folders or hub ids.

    Nothing is looked up yet: whether the model exists shows when it is read.
    """
    if model in MODELS:
        return MODELS[model]
    if not Path(model).exists() and "+" in model:
        base, adapter = model.split("+", 1)
        return Entry(base, adapter)
    return Entry(model)
