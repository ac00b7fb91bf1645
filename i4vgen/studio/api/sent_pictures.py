"""Pictures that clients send: uploads, and links to files of this app or of others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypeGuard
from urllib.parse import unquote

import gradio as gr
import httpx
import safehttpx
from PIL import Image

from i4vgen.bounds import shown
from i4vgen.errors import InvalidInputError
from i4vgen.media import PictureError, open_picture
from i4vgen.serving.limits import PUBLIC
from i4vgen.studio import files

OWN_FILE = "/gradio_api/file="
"""The part before the path in a link to a file that the app serves."""

LARGEST_DOWNLOAD = PUBLIC.largest_upload
"""Maximum bytes of a linked picture."""

DOWNLOAD_SECONDS = 20.0
"""Maximum time of a download, during which other runs wait."""

Sent = gr.FileData | dict | str
"""A picture sent by a client, in one of the formats of `read_picture`."""


def read_picture(file: Sent, name: str) -> Image.Image:
    """Reads a picture sent by a client.

    Args:
        file: A `FileData` dict whose upload Gradio has verified or, from MCP clients, a link to a file that
            this app served or to any public file.
        name: The name of the parameter, for error messages.

    Raises:
        InvalidInputError: The value is no file, or the file cannot be downloaded or read as a picture.
    """
    if is_upload(file):
        path = file["path"]
    elif isinstance(file, str) and file.startswith(("http://", "https://")):
        path = linked_file(file, name)
    else:
        raise InvalidInputError(
            f"{name} is not a file: send one with gradio_client.handle_file, or give its URL"
        )
    try:
        return open_picture(path)
    except PictureError as error:  # its message names a file on the server
        raise InvalidInputError(f"{name} {error.reason}") from None


def is_upload(file: Sent) -> TypeGuard[dict]:
    """Returns whether a value is a `FileData` dict, whose upload Gradio has verified."""
    meta = file.get("meta") if isinstance(file, dict) else None
    is_told = isinstance(meta, dict) and meta.get("_type") == "gradio.FileData"
    return is_told and isinstance(file, dict) and isinstance(file.get("path"), str)


def linked_file(url: str, name: str) -> str:
    """Returns the path of a linked file. Downloads the file unless this app serves it.

    Raises:
        InvalidInputError: The file cannot be downloaded.
    """
    _, _, own = url.partition(OWN_FILE)
    if own and Path(unquote(own)).resolve().is_relative_to(files.cache()):
        return unquote(own)
    path = files.new_path("picture")
    try:
        asyncio.run(asyncio.wait_for(download(url, path), DOWNLOAD_SECONDS))
    except Exception as error:  # name resolution, refusal, status and others
        path.unlink(missing_ok=True)
        is_slow = isinstance(error, asyncio.TimeoutError)
        reason = f"it takes more than {DOWNLOAD_SECONDS:g} s" if is_slow else error
        raise InvalidInputError(f"{name} cannot be downloaded from {shown(url)}: {reason}") from None
    return str(path)


async def download(url: str, path: Path) -> None:
    """Writes a public file of at most `LARGEST_DOWNLOAD` bytes to a path, as the server sends it.

    Raises:
        Exception: Of various types; the file cannot be downloaded or is too large.
    """
    host = httpx.URL(url).host
    transport = safehttpx.AsyncSecureTransport(await safehttpx.async_validate_url(host))
    plain = {"Accept-Encoding": "identity"}  # compressed bytes could grow without bounds
    async with (
        httpx.AsyncClient(transport=transport, headers=plain) as client,
        client.stream("GET", url) as answer,
    ):
        answer.raise_for_status()
        size = 0
        with path.open("wb") as file:
            async for part in answer.aiter_raw():
                size += len(part)
                if size > LARGEST_DOWNLOAD:
                    raise InvalidInputError(f"it has more than {LARGEST_DOWNLOAD >> 20} MB")
                file.write(part)
