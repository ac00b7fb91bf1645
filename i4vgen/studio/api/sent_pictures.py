"""Pictures that clients send: uploads, and links to files of this app or of others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypeGuard
from urllib.parse import unquote

import gradio as gr
import safehttpx
from PIL import Image

from i4vgen.bounds import shown
from i4vgen.errors import InvalidInputError
from i4vgen.media import PictureError, open_picture
from i4vgen.studio import files

OWN_FILE = "/gradio_api/file="
"""The part before the path in a link to a file that the app serves."""

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
    try:
        answer = asyncio.run(safehttpx.get(url))  # refuses addresses inside the server's network
        answer.raise_for_status()
        path = files.new_path("picture")
        path.write_bytes(answer.content)
        return str(path)
    except Exception as error:  # name resolution, refusal, timeout, status and others
        raise InvalidInputError(f"{name} cannot be downloaded from {shown(url)}: {error}") from None
