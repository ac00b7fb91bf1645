"""Which models this app runs, and the runtime of each."""

from __future__ import annotations

from collections.abc import Collection

from i4vgen.bounds import shown
from i4vgen.catalog import MODELS, ModelSpec
from i4vgen.errors import InvalidInputError
from i4vgen.runtime import Runtime, get_runtime


class OfferedModels:
    """The models of the catalogue, and the one that the app was started with.

    Attributes:
        own: The runtime that the app was started with.
        allowed: Folders and hub ids that visitors may name besides, as a model, a base or a LoRA. None, for an
            app that only its owner reaches: any base and LoRA.
    """

    def __init__(self, own: Runtime, allowed: Collection[str] | None = None) -> None:
        self.own = own
        self.allowed = allowed

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models, as the form lists them."""
        return tuple(dict.fromkeys((*MODELS, self.own.spec.model)))

    def default_spec(self, model: str) -> ModelSpec:
        """A model of which only the name was chosen, with what goes with it by default."""
        return self.own.spec if model == self.own.spec.model else ModelSpec(model)

    def runtime_for(self, spec: ModelSpec) -> Runtime:
        """The runtime of a model, the app's own where it is that one.

        Raises:
            InvalidInputError: This app does not run it. Nothing is looked up for that, on disk or elsewhere.
        """
        if spec == self.own.spec:
            return self.own
        if spec.model not in self.names and spec.model not in (self.allowed or ()):
            raise InvalidInputError(f"there is no model {shown(spec.model)}: use {', '.join(self.names)}")
        if self.allowed is not None:
            known = {*self.allowed, self.own.spec.base, *self.own.spec.loras}
            for name in filter(None, (spec.base, *spec.loras)):
                if not {name, name.rpartition("@")[0]} & known:  # a LoRA may have a weight
                    offered = ", ".join(self.allowed) or "none"
                    raise InvalidInputError(f"{shown(name)} is not offered here. What is: {offered}")
        return get_runtime(spec)
