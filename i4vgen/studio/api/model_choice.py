"""The parameters of an endpoint that choose the model."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from i4vgen.bounds import MAX_NAME, check_text
from i4vgen.errors import InvalidInputError
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.runtime import Runtime


@dataclass(frozen=True)
class ModelChoice:
    """The parameters that choose a model. None selects the default (`OfferedModels.default_spec`)."""

    model: str | None = None
    base: str | None = None
    loras: list[str] | None = None
    rewards: list[str] | None = None
    motion_module: str | None = None
    vae: str | None = None

    def runtime(self, models: OfferedModels) -> Runtime:
        """Returns the runtime of the chosen model.

        Raises:
            InvalidInputError: A value is malformed or refused.
            ModelError: A single file is missing, damaged or of an unsupported kind.
        """
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in given.items():
            if name not in ("loras", "rewards"):
                check_text(name, value, MAX_NAME)
            elif not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise InvalidInputError(f"{name} must be a list of strings")
        spec = models.default_spec(given.pop("model", models.own.spec.model))
        parts = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        return models.runtime_for(replace(spec, **parts))


OWN_MODEL = ModelChoice()
