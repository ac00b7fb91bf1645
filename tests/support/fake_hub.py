"""As much of the Hugging Face hub, on this machine, as its client needs to download models and to upload a
Space.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

SHA = "89abcdef0123456789abcdef0123456789abcdef"
"""The commit that every model of this hub is at."""

API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(/.+)?)?")
SPACE = re.compile(r"/api/spaces/([^/]+/[^/]+)/(tree|preupload|commit)/main")
LFS_BATCH = re.compile(r"/spaces/[^/]+/[^/]+\.git/info/lfs/objects/batch")
LFS_OBJECT = re.compile(r"/lfs/([0-9a-f]{64})")
LARGEST_REGULAR = 10 << 20
"""Bytes of the largest file that the hub takes without LFS. Binary files need it at any size."""
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Asked(NamedTuple):
    """A request for a file."""

    method: str
    revision: str
    path: str
    range: str | None


class Answer(NamedTuple):
    """What the hub says to every request for a model."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b"{}"


class BrokenOff(Exception):
    """Raised by a function in `FakeHub.half_way`: the hub resets the connection."""


class HungUp(Exception):
    """The same, but it closes the connection as if all had been said."""


class FakeHub:
    """A hub that serves while it is entered.

    url: its address. models: folders by the models' ids. answers: what is said of models instead of serving
    them, by their ids. asked: the requests for files, in order.
    api: the paths of all other requests. half_way: functions by the paths of files, each called once when half
    of what was asked for of the file is sent. spaces: what was uploaded, files by their paths, by the Spaces'
    ids. commits: the messages of the commits.
    """

    def __init__(self):
        self.models: dict[str, Path] = {}
        self.answers: dict[str, Answer] = {}
        self.asked: list[Asked] = []
        self.api: list[str] = []
        self.half_way: dict[str, Callable[[], object]] = {}
        self.spaces: dict[str, dict[str, bytes]] = {}
        self.commits: list[str] = []
        self.objects: dict[str, bytes] = {}  # large files by their SHA-256
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
        elif match := SPACE.fullmatch(path):
            files = self.hub.spaces[match[1]]
            self._send_json([_describe(name, content) for name, content in sorted(files.items())])
        else:
            self._refuse("EntryNotFound")

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._read_body()
        if not (self.headers["Authorization"] or "").startswith("Bearer "):
            self._send_json({"error": "no token"}, 401)
        elif path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif LFS_BATCH.fullmatch(path):
            self._send_json({"objects": [self._how_to_upload(file) for file in json.loads(body)["objects"]]})
        elif (match := SPACE.fullmatch(path)) and match[1] not in self.hub.spaces:
            self._refuse("RepoNotFound")
        elif match and match[2] == "preupload":
            files = self.hub.spaces[match[1]]
            self._send_json({"files": [_mode(file, files) for file in json.loads(body)["files"]]})
        elif match and match[2] == "commit":
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._refuse("EntryNotFound")

    def do_PUT(self) -> None:
        """The content of a large file. Without a token: the address is the permission."""
        match, body = LFS_OBJECT.fullmatch(self.path), self._read_body()
        if match and hashlib.sha256(body).hexdigest() == match[1]:
            self.hub.objects[match[1]] = body
            self._send(200, b"", {})
        else:
            self._send(400, b"", {})

    def _read_body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _create(self, wanted: dict) -> None:
        """A new Space."""
        name = f"{wanted['organization']}/{wanted['name']}"
        assert (wanted["type"], wanted["sdk"]) == ("space", "gradio")
        known = name in self.hub.spaces
        self.hub.spaces.setdefault(name, {".gitattributes": b"", "README.md": b"Hello"})
        self._send_json({"url": f"{self.hub.url}/spaces/{name}"}, 409 if known else 200)

    def _how_to_upload(self, file: dict) -> dict:
        """The answer for one large file: where to, if it is not here yet."""
        if file["oid"] in self.hub.objects:
            return file
        return file | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{file['oid']}"}}}

    def _commit(self, space: str, lines: list[dict]) -> None:
        files = self.hub.spaces[space]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.hub.commits.append(value["summary"])
            elif line["key"] == "file":
                content = base64.b64decode(value["content"])
                if _is_large(len(content), content):
                    self._send_json({"error": f"{value['path']} needs LFS"}, 400)
                    return
                files[value["path"]] = content
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self._send_json({"commitUrl": f"{self.hub.url}/spaces/{space}/commit/{SHA}", "commitOid": SHA})

    def _answer(self, repo: str, what: str | None, revision: str | None, below: str | None) -> None:
        """What the hub says about a model, or the list of its files."""
        folder = self._find(repo, revision or "main")
        if folder is None:
            return
        if below:
            self._refuse("EntryNotFound")
        elif what == "tree":
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            self._send_json(
                [_describe(file.relative_to(folder).as_posix(), file.read_bytes()) for file in files]
            )
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
        if answer := self.hub.answers.get(repo):
            self._send(answer.status, answer.body, dict(answer.headers))
        elif repo not in self.hub.models:
            self._refuse("RepoNotFound")
        elif revision not in ("main", SHA):
            self._refuse("RevisionNotFound")
        else:
            return self.hub.models[repo]
        return None

    def _refuse(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code, "X-Repo-Commit": SHA})

    def _send_json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

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


def _describe(name: str, content: bytes) -> dict:
    """A file in the list of a repository's files."""
    return {"type": "file", "path": name, "size": len(content), "oid": _blob(content)}


def _blob(content: bytes) -> str:
    """What git calls it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_large(size: int, start: bytes) -> bool:
    """Whether a file must be uploaded through LFS."""
    return size > LARGEST_REGULAR or b"\0" in start[:512]


def _mode(file: dict, files: dict[str, bytes]) -> dict:
    """How a file is to be uploaded, and what is there in its place."""
    large = _is_large(file["size"], base64.b64decode(file["sample"]))
    there = files.get(file["path"])
    name = None
    if there is not None:
        name = hashlib.sha256(there).hexdigest() if large else _blob(there)
    mode = "lfs" if large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": name}
