"""The models that this app offers, and their runtimes."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from i4vgen.bounds import shown
from i4vgen.errors import InvalidInputError
from i4vgen.models import library
from i4vgen.models.catalog import MODELS, REPLACEMENTS, ModelSpec
from i4vgen.serving.runtime import Runtime, Runtimes


class OfferedModels:
    """The offered models: the catalogue, the startup model, the owner's files and explicitly allowed models.

    Attributes:
        own: The runtime that the app was started with.
        allowed: Folders and hub IDs that visitors may also choose as a model, a part of it or a LoRA; None to
            allow any file, folder or hub ID, in an app that only its owner can reach.
        runtimes: The runtimes of the other models.
    """

    def __init__(
        self, own: Runtime, allowed: Collection[str] | None = None, runtimes: Runtimes | None = None
    ) -> None:
        self.own = own
        self.allowed = allowed
        self.runtimes = runtimes or Runtimes(partial(Runtime, device=own.device))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models listed in the form."""
        return tuple(dict.fromkeys((*MODELS, self.own.spec.model, *library.names(library.MODEL))))

    def offers(self, model: str) -> bool:
        """Returns whether the app offers a model, without reading files or contacting the hub."""
        if self.allowed is None or model in (*MODELS, self.own.spec.model, *self.allowed):
            return True
        return library.has(model, library.MODEL)

    def default_spec(self, model: str) -> ModelSpec:
        """Returns the specification of the startup model, or one without replaced parts for another model."""
        return self.own.spec if model == self.own.spec.model else ModelSpec(model)

    def runtime_for(self, spec: ModelSpec) -> Runtime:
        """Returns the runtime of a model. A model that is not offered causes no request to the hub.

        Raises:
            InvalidInputError: The model or a part of it is not offered, or the specification is invalid.
            ModelError: A file of the model cannot be read or is of an unsupported kind.
        """
        if spec == self.own.spec:
            return self.own
        if not self.offers(spec.model):
            raise InvalidInputError(f"there is no model {shown(spec.model)}: use {', '.join(self.names)}")
        if self.allowed is not None:
            self._check_parts(spec, self.allowed)
        return self.runtimes.get(spec)

    def _check_parts(self, spec: ModelSpec, allowed: Collection[str]) -> None:
        """Checks that visitors may choose all parts of a model.

        Raises:
            InvalidInputError: A part is not offered.
        """
        own = self.own.spec
        known = {*allowed, *own.replacements.values(), *own.loras}
        parts = [(chosen, REPLACEMENTS[option].kind) for option, chosen in spec.replacements.items()]
        for name, kind in (*parts, *((lora, library.LORA) for lora in spec.loras)):
            names = {name, name.rpartition("@")[0]} if name else set()  # a LoRA may have a weight suffix
            if names and not names & known and not any(library.has(one, kind) for one in names):
                offered = ", ".join((*allowed, *library.names(kind))[:20]) or "none"
                raise InvalidInputError(f"{shown(name)} is not offered here. Use one of: {offered}")
