"""What can go wrong with a run. Each message is one line that says what to do about it."""


class InvalidInputError(ValueError):
    """A value that cannot be run: out of range, of the wrong type, or unsupported by this model."""


class ModelError(RuntimeError):
    """A model that cannot be loaded: missing, incomplete, unreadable, or of a kind that is not supported."""


class OutOfMemoryError(RuntimeError):
    """The device cannot hold what was asked for, however lean."""
