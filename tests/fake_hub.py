"""As much of the Hugging Face hub, on this machine, as its client needs to download models."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

SHA = "89abcdef0123456789abcdef0123456789abcdef"
"""The commit that every model of this hub is at."""

API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(/.+)?)?")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Asked(NamedTuple):
    """A request for a file."""

    method: str
    revision: str
    path: str
    range: str | None


class BrokenOff(Exception):
    """Raised by a function in `FakeHub.half_way`: the hub resets the connection."""


class HungUp(Exception):
    """The same, but it closes the connection as if all had been said."""


class FakeHub:
    """A hub that serves while it is entered.

    url: its address. models: folders by the models' ids. asked: the requests for files, in order.
    api: the paths of all other requests. half_way: functions by the paths of files, each called once when half
    of what was asked for of the file is sent.
    """

    def __init__(self):
        self.models: dict[str, Path] = {}
        self.asked: list[Asked] = []
        self.api: list[str] = []
        self.half_way: dict[str, Callable[[], object]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()

    def sent(self) -> list[str]:
        """The paths of the files that were asked for with their contents."""
        return sorted(asked.path for asked in self.asked if asked.method == "GET")


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := API.fullmatch(path):
            self.hub.api.append(path)
            self._answer(*match.groups())
        elif match := RESOLVE.fullmatch(path):
            repo, revision, name = match.groups()
            self.hub.asked.append(Asked(self.command, revision, name, self.headers["Range"]))
            self._serve(repo, revision, name)
        else:
            self._refuse("EntryNotFound")

    def _answer(self, repo: str, what: str | None, revision: str | None, below: str | None) -> None:
        """What the hub says about a model, or the list of its files."""
        folder = self._find(repo, revision or "main")
        if folder is None:
            return
        if below:
            self._refuse("EntryNotFound")
        elif what == "tree":
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            self._send_json([_describe(file, folder) for file in files])
        else:
            self._send_json({"id": repo, "sha": SHA, "siblings": [], "tags": [], "private": False})

    def _serve(self, repo: str, revision: str, name: str) -> None:
        """A file, or what was asked for of it."""
        folder = self._find(repo, revision)
        if folder is None:
            return
        if not (folder / name).is_file():
            self._refuse("EntryNotFound")
            return
        content = (folder / name).read_bytes()
        headers = {
            "X-Repo-Commit": SHA,
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
        }
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "bytes=0-")[1])
        if self.headers["Range"]:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if self.headers["Range"] else 200, content[start:], headers, name)

    def _find(self, repo: str, revision: str) -> Path | None:
        """The folder of a model; if there is none, the request is answered."""
        if repo not in self.hub.models:
            self._refuse("RepoNotFound")
        elif revision not in ("main", SHA):
            self._refuse("RevisionNotFound")
        else:
            return self.hub.models[repo]
        return None

    def _refuse(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code, "X-Repo-Commit": SHA})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str], name: str = "") -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(content) // 2
        self.wfile.write(content[:half])
        try:
            self.hub.half_way.pop(name, lambda: None)()
            self.wfile.write(content[half:])
        except HungUp:
            self.close_connection = True
        except BrokenOff:
            self.close_connection = True
            # Closed at once, with nothing more to be sent: TCP's reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *args) -> None:
        pass


def _describe(file: Path, folder: Path) -> dict:
    """A file in the list of a model's files."""
    content = file.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": file.relative_to(folder).as_posix(), "size": len(content), "oid": blob}
