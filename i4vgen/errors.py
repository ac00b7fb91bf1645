"""The main errors of the package. Each message is one line that says what is wrong and what to do."""


class I4VGenError(Exception):
    """Base class of the package's errors, whose messages are meant for users."""


class InvalidInputError(I4VGenError, ValueError):
    """A value or file is invalid, or the model does not support it."""


class ModelError(I4VGenError, RuntimeError):
    """A model or LoRA is missing, unreadable or unsupported, or the model computes invalid values."""


class OutOfMemoryError(I4VGenError, RuntimeError):
    """The device has too little memory for the model or the run."""


class StorageError(I4VGenError, RuntimeError):
    """A folder for results or temporary files cannot be read or written.

    Attributes:
        reason: Why, such as "No space left on device". It does not name the folder, and is all that visitors of
            a server are told.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


def reason_of(error: OSError) -> str:
    """Returns why the operating system refused, such as "No space left on device", without the path."""
    return error.strerror or type(error).__name__


def unwritable(folder: object, error: OSError) -> InvalidInputError:
    """Returns the error for a folder given by the user that cannot be written to."""
    return InvalidInputError(f"cannot write to {folder} ({reason_of(error)}): choose another folder")
