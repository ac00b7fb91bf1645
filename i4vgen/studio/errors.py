"""Error messages for visitors of the page and clients of the API."""

from __future__ import annotations

import html
import logging
import math

import gradio as gr

from i4vgen.errors import I4VGenError, StorageError, reason_of
from i4vgen.serving.budget import TooLongError, TooMuchWorkError, VideoTooLargeError
from i4vgen.serving.jobs.job import QueueFullError, WaitedTooLongError
from i4vgen.serving.prompt_queue import ServerEndedError
from i4vgen.serving.slots import TooManyClicksError
from i4vgen.storage.run_store import StoreFullError
from i4vgen.studio import strings

log = logging.getLogger(__name__)


def refusal(message: str, title: str = strings.NOT_NOW) -> gr.Error:
    """Returns the error for a refused request, and shows its message as a warning on the page.

    API clients get the error. On the page it is invisible, because Gradio would show it in red under the
    title "Error".
    """
    warn(message, title)
    return gr.Error(message, visible=False, print_exception=False)


def warn(message: str, title: str = strings.NOT_NOW) -> None:
    """Shows a warning. Escapes the message, because it may quote untrusted text and Gradio renders HTML."""
    gr.Warning(html.escape(message), title=title)


def words_of(error: Exception) -> str:
    """Returns the message for an error."""
    match error:
        case VideoTooLargeError(height=height, width=width, most=most):
            return f"{height} x {width} is too large: this model's frames can have at most {most:,} pixels here"
        case TooMuchWorkError(times=times, most=most):
            return (
                f"this run takes {times:.0f} times as long as the model's usual one, and this server makes runs"
                f" of at most {most:g} times that: ask for fewer steps, candidates, frames or comparisons"
            )
        case TooLongError(seconds=seconds, most=most):
            return (
                f"this would take at least {math.ceil(seconds)} s here, and this server limits runs to"
                f" {math.floor(most)} s: ask for fewer steps, candidates, anchors, frames or comparisons"
            )
        case TooManyClicksError():
            return "Too many clicks of yours are waiting already. Try again in a moment."
        case QueueFullError(attended=True, per_visitor=None):
            return "Too many runs are waiting already. Try again in a few minutes."
        case QueueFullError(attended=True, per_visitor=most):
            return f"You already have {most} runs waiting or under way. Start another when one of them is done."
        case QueueFullError(per_visitor=None):
            return "Too many prompts are queued on this server. Queue the rest later."
        case QueueFullError(per_visitor=most):
            return f"You already have {most} prompts in the queue. Queue the rest when some are done."
        case ServerEndedError():
            return "The server stopped twice during this run. Queue it again, or ask for less."
        case WaitedTooLongError():
            return "Its turn did not come within a day. Queue it again."
        case StorageError(reason=reason):  # not the folder: see `failure`
            return f"the server cannot use its files ({reason}). Try again later"
        case OSError() if error.filename:  # nor the file
            return f"the server cannot use its files ({reason_of(error)}). Try again later"
        case StoreFullError():
            return "The server has no room to keep another run for now: save what you want to keep."
    return str(error).strip().partition("\n")[0] or type(error).__name__


def failure(error: Exception, words: str = strings.FAILED) -> gr.Error:
    """Returns the error to raise for a failed run. Logs what the operator has to know."""
    if isinstance(error, gr.Error):
        return error
    log_for_operator(error, "a run failed")
    message = failure_words(error, words)
    return gr.Error(html.escape(message, quote=False), title="Something went wrong", print_exception=False)


def log_for_operator(error: Exception, what: str) -> None:
    """Logs unexpected errors, and of storage errors the folder, which visitors are not told."""
    if isinstance(error, StorageError):
        log.warning("%s: %s", what, error)
    elif not isinstance(error, I4VGenError):  # which needs no traceback
        log.error(what, exc_info=error)


def failure_words(error: Exception, words: str = strings.FAILED) -> str:
    """Returns the plain text for a failed run, which stays on the page after `failure`'s message closes."""
    reason = str(error.message) if isinstance(error, gr.Error) else words_of(error)
    return words.format(error=reason.partition("\n")[0].rstrip("."))
