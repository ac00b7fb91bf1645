"""What can go wrong with a run. Each message is one line that says what to do about it."""


class I4VGenError(Exception):
    """An error whose message is meant for people."""


class InvalidInputError(I4VGenError, ValueError):
    """A value that cannot be run: out of range, of the wrong type, or unsupported by this model."""


class ModelError(I4VGenError, RuntimeError):
    """A model that cannot be loaded: missing, incomplete, unreadable, or of a kind that is not supported."""


class OutOfMemoryError(I4VGenError, RuntimeError):
    """The device cannot hold what was asked for, even in the leanest mode."""


class StorageError(I4VGenError, RuntimeError):
    """A place for results that is not on this machine and cannot be reached, read or written."""
