"""Turns errors of the hub's client into messages that explain them and how to fix them."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator

import httpx
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)

HUB = "https://huggingface.co"

NO_HUB = (FileMetadataError, json.JSONDecodeError)
"""Errors that mean the response did not come from a hub: a wrong address or a login page."""

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def explain(repo: str, revision: str | None, error: BaseException) -> str | None:
    """Explains an error about a repository to the user.

    Args:
        repo: The id of the repository on the hub.
        revision: The requested revision, if any.
        error: An error raised by the hub's client or by a library that uses it.

    Returns:
        The explanation, one sentence; None for an unknown error.
    """
    explanations = (_explain(repo, revision, each) for each in _chain(error))
    return next(filter(None, explanations), None)


def is_unreachable(error: BaseException) -> bool:
    """Returns whether an error means that the hub did not respond or that offline mode is on."""
    return any(isinstance(each, (httpx.TransportError, OfflineModeIsEnabled)) for each in _chain(error))


def is_of_hub(error: BaseException) -> bool:
    """Returns whether an error comes from the hub or the network rather than the local disk."""
    kinds = (httpx.HTTPError, httpx.InvalidURL, OfflineModeIsEnabled, *NO_HUB)
    return any(isinstance(each, kinds) for each in _chain(error))


def is_not_there(error: BaseException) -> bool:
    """Returns whether an error means that the hub has nothing by this name that the user can access."""
    return any(
        isinstance(each, HFValidationError)
        or (isinstance(each, HfHubHTTPError) and _status(each) in (401, 404) and not _refuses_token(each))
        for each in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _explain(repo: str, revision: str | None, error: BaseException) -> str | None:
    """Explains one error, without its causes; None if it is unknown or concerns only an optional file."""
    hub = "the model hub" if constants.ENDPOINT == HUB else f"{constants.ENDPOINT} (HF_ENDPOINT)"
    command = f"hf download {repo}" + (f" --revision {revision}" if revision else "")
    by_hand = f"connect to the internet or run `{command}` elsewhere and copy its cache"
    if isinstance(error, RemoteEntryNotFoundError):
        return None  # an optional file
    if isinstance(error, (HFValidationError, RevisionNotFoundError)):
        name = repo + (f"@{revision}" if revision else "")
        return f"model {name!r} is neither a folder here nor a model on the hub: check its name"
    if isinstance(error, HfHubHTTPError):
        return _explain_answer(repo, hub, error)
    if isinstance(error, OfflineModeIsEnabled):
        return f"no downloads while HF_HUB_OFFLINE is set: unset it and {by_hand}"
    if isinstance(error, NO_HUB):
        return (
            f"{hub} did not answer as a model hub does: check HF_ENDPOINT, or the proxy or firewall in between"
        )
    if isinstance(error, httpx.TransportError):
        mirror = "" if constants.ENDPOINT == HUB else "check HF_ENDPOINT, "
        return f"{hub} cannot be reached: {mirror}{by_hand}"
    cache = f"the model cache {constants.HF_HUB_CACHE}"
    code, text = getattr(error, "errno", None), str(error)  # errors of hf_xet, a Rust library, have no errno
    if code in FULL or "No space left" in text:
        return f"no space left for {repo} in {cache}: free some, or set HF_HOME to a folder on another disk"
    if code in FORBIDDEN or "Permission denied" in text or "Read-only file system" in text:
        return f"{cache} cannot be written to: make its files yours, or set HF_HOME to a folder of your own"
    return None


def _explain_answer(repo: str, hub: str, error: HfHubHTTPError) -> str:
    """Explains an HTTP error of the hub."""
    status, login = error.response.status_code, "`hf auth login`"
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repo}"
        return f"{repo} asks you to accept its terms first: do so at {page}, then log in with {login}"
    if isinstance(error, DisabledRepoError):
        return f"{repo} was disabled on the hub: use another model"
    if _refuses_token(error):
        return (
            f"{hub} does not accept your token for {repo}: log in again with {login} or, for a public model,"
            " remove the token (`hf auth logout`, HF_TOKEN)"
        )
    if status in (401, 404):
        return (
            f"model {repo!r} is neither a folder here nor a model on the hub: check its name, or log in with"
            f" {login} if it is private"
        )
    if status == 403:
        return f"{hub} refuses access to {repo}: use a token that may read it ({login}), or check for a proxy"
    if status == 429:
        return f"{hub} takes no more requests from here for now: wait some minutes, or log in with {login}"
    if status >= 500:
        return f"{hub} has trouble at the moment (error {status}): try again later"
    return f"{hub} refuses {repo} (error {status}): check its name, and HF_ENDPOINT if you set it"


def _status(error: HfHubHTTPError) -> int:
    """Returns the HTTP status; always 403 for gated models, for which the hub sometimes sends 401."""
    return 403 if isinstance(error, GatedRepoError) else error.response.status_code


def _refuses_token(error: HfHubHTTPError) -> bool:
    """Returns whether the hub rejected the request's token. Such requests fail even for public models."""
    return _status(error) == 401 and "authorization" in error.response.request.headers
