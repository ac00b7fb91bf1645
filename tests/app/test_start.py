"""Where the app starts: ports, hosts, proxies, and one line for what is wrong with them."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from i4vgen.errors import InvalidInputError
from i4vgen.serving.address import bypass_proxies, check_address, check_environment, origin, port
from tests.conftest import ROOT
from tests.support.imports import run_and_list_imports
from tests.support.waiting import PATIENCE

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in (*PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.setenv(name, "")  # so that what the test sets is taken back
        monkeypatch.delenv(name)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    """A page of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def start(*arguments: str, **environment: str) -> tuple[int, str]:
    """Starts an app that ends by itself. Returns its exit status and stderr."""
    done = subprocess.run(
        [sys.executable, "app.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("text", ["0", "80000", "-1", "abc", "", "7860.5", " 7860", "٧٨٦٠"])
def test_what_is_no_port(text, monkeypatch):
    with pytest.raises(argparse.ArgumentTypeError, match="give a number from 1 to 65535"):
        port(text)
    monkeypatch.setenv("GRADIO_SERVER_PORT", text)
    with pytest.raises(InvalidInputError, match=r"\$GRADIO_SERVER_PORT: .* or unset it"):
        check_environment()


def test_addresses(taken):
    assert port("7860") == 7860
    check_address(None, None)
    check_address("localhost", None)
    check_address("0.0.0.0", None)
    with pytest.raises(
        InvalidInputError, match=f"port {taken} is taken by another program: give another --port"
    ):
        check_address("127.0.0.1", taken)
    for host in ("192.0.2.1", "no.such.host.invalid", "a b", "256.1.1.1", "x" * 300):
        with pytest.raises(InvalidInputError, match="is not an address of this machine: leave it out"):
            check_address(host, None)


@pytest.mark.parametrize(
    "text",
    [
        *("example.org", "https://", "ftp://a.b", "https://a.b/page", "https://a.b; script-src *"),
        *("https://a b", "https://a:b@c.d", "https://a.b:port", "https://*.example.org", "https://[::1"),
    ],
)
def test_what_is_no_origin(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"write it like https://example\.org"):
        origin(text)
    assert origin("https://example.org:8443/") == "https://example.org:8443"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "socks5h://me:secret@127.0.0.1:9"]
)
def test_this_machine_is_asked_without_a_proxy(page, monkeypatch, name, proxy):
    monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", "example.org")
    bypass_proxies("192.0.2.7")
    assert httpx.get(page, timeout=PATIENCE).text == "here"
    assert httpx.get(page.replace("127.0.0.1", "localhost"), timeout=PATIENCE).text == "here"
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "example.org,127.0.0.1,localhost,::1,192.0.2.7"
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://i4vgen.invalid")  # goes to the proxy, which is not there


def test_without_a_proxy_the_environment_is_left_alone(monkeypatch):
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    bypass_proxies()
    assert "NO_PROXY" not in os.environ


@pytest.mark.parametrize(
    "proxy", ["socks://127.0.0.1:7890", "socks4://me:secret@127.0.0.1:7890", "http://host:port"]
)
def test_proxies_that_cannot_be_used_are_named_without_their_password(monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(InvalidInputError, match=r"\$ALL_PROXY .*socks5://HOST:PORT, or unset it") as refused:
        bypass_proxies()
    assert "secret" not in str(refused.value) and len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"GRADIO_SERVER_PORT": "abc"}, "error: $GRADIO_SERVER_PORT: 'abc' is not a port"),
        (
            {"ALL_PROXY": "socks://127.0.0.1:7890"},
            "error: the proxy in $ALL_PROXY (socks://...) cannot be used",
        ),
    ],
)
def test_an_environment_that_the_app_cannot_start_in_is_one_line(environment, words):
    status, err = start(**environment)
    assert status == 1 and err.startswith(words) and err.count("\n") == 1


def test_a_taken_port_is_one_line(taken):
    status, err = start("--port", str(taken), "--model", "pocket")
    assert status == 1 and err.splitlines()[-1].startswith(f"error: port {taken} is taken")
    assert "Traceback" not in err


def test_help_is_quick():
    text, imports = run_and_list_imports("app.py", "--help")
    assert "--allow-origin" in text
    assert "torch" not in imports and "gradio" not in imports, "--help must not wait for them"
