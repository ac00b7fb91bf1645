"""Validates the server's address and proxy settings, and excludes this machine from the proxies.

Both happen before Gradio starts, because Gradio fails on invalid settings with a traceback.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from i4vgen.errors import InvalidInputError

PORT, HOST = "GRADIO_SERVER_PORT", "GRADIO_SERVER_NAME"
"""Gradio's environment variables for the port and the host."""

LOCAL = ("127.0.0.1", "localhost", "::1")

SCHEMES = ("http", "https", "all")


def port(text: str) -> int:
    """Parses a port number for argparse.

    Raises:
        argparse.ArgumentTypeError: The text is not a number from 1 to 65535.
    """
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a port: give a number from 1 to 65535")
    return int(text)


def origin(text: str) -> str:
    """Parses an origin such as https://example.org for argparse, and removes a slash at its end.

    Raises:
        argparse.ArgumentTypeError: The text is not an origin.
    """
    try:
        parts = urlsplit(text)
        is_origin = parts.scheme in ("http", "https") and parts.hostname and text.isascii()
        is_origin = is_origin and text.rstrip("/") == f"{parts.scheme}://{parts.netloc}" and "@" not in text
        _ = parts.port
    except ValueError:
        is_origin = False
    if not is_origin or set(text) & set(" ;,'\"\\*"):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not an origin: write it like https://example.org")
    return text.rstrip("/")


def check_environment() -> None:
    """Checks $GRADIO_SERVER_PORT, which Gradio reads when it is imported.

    Raises:
        InvalidInputError: $GRADIO_SERVER_PORT is set, but not to a port number.
    """
    if PORT in os.environ:
        try:
            port(os.environ[PORT])
        except argparse.ArgumentTypeError as error:
            raise InvalidInputError(f"${PORT}: {error}, or unset it") from None


def check_address(host: str | None, number: int | None) -> None:
    """Checks that a server can listen on an address.

    Args:
        host: A host name or IP address; None for the environment's, else 127.0.0.1.
        number: The port; None to check only the host.

    Raises:
        InvalidInputError: The address or port cannot be used.
    """
    host = host or os.environ.get(HOST) or LOCAL[0]
    try:
        addresses = socket.getaddrinfo(
            host.strip("[]"), number or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as candidate:
                candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
                candidate.bind(address)
    except (OSError, UnicodeError) as error:
        raise InvalidInputError(_refusal(host, number, error)) from None


def _refusal(host: str, number: int | None, error: Exception) -> str:
    reason = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    if reason == errno.EADDRINUSE:
        return f"port {number} is taken by another program: give another --port, or leave it out for a free one"
    if reason == errno.EACCES:
        return f"port {number} needs the rights of an administrator: give a --port from 1024 on"
    return f"--host {host} is not an address of this machine: leave it out, or give 0.0.0.0 for every network"


def bypass_proxies(host: str | None = None) -> None:
    """Excludes this machine from the proxies, because Gradio sends a request to its own server when it starts.

    Args:
        host: The server's address, to exclude along with the local names; None for the environment's.

    Raises:
        InvalidInputError: A proxy or $NO_PROXY is invalid, or a proxy needs a package that is missing.
    """
    proxies = getproxies()
    if not any(proxies.get(scheme) for scheme in SCHEMES):
        return
    for scheme in SCHEMES:  # system proxy settings are ignored once an environment variable is set
        if proxy := proxies.get(scheme):
            os.environ.setdefault(f"{scheme}_proxy", proxy)
    bypassed = [*proxies.get("no", "").split(","), *LOCAL, host or os.environ.get(HOST) or ""]
    names = dict.fromkeys(name.strip().strip("[]") for name in bypassed if name.strip())
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
    try:
        httpx.Client().close()
    except (ImportError, ValueError, httpx.InvalidURL):
        raise InvalidInputError(_proxy_refusal(proxies)) from None


def _proxy_refusal(proxies: dict[str, str]) -> str:
    for scheme in SCHEMES:
        try:
            if proxy := proxies.get(scheme):
                httpx.Client(proxy=proxy if "://" in proxy else f"http://{proxy}", trust_env=False).close()
        except (ImportError, ValueError, httpx.InvalidURL):
            kind = proxies[scheme].partition("://")[0][:20]
            return (
                f"the proxy in ${scheme.upper()}_PROXY ({kind}://...) cannot be used: write it as"
                " http://HOST:PORT or socks5://HOST:PORT, or unset it"
            )
    return "$NO_PROXY cannot be read: write names of hosts with commas between them, or unset it"
