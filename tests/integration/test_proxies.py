"""The reverse proxies of docs/serving.md: the examples as they stand, with HTTPS, in front of the real app."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import ROOT
from tests.support.browsing import running_app

SITE = "studio.example.org"
PUBLIC_URL = f"https://{SITE}/i4vgen"
GUIDE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
PATIENCE = 120  # seconds
UPSTREAM = "127.0.0.1:7860"
API = "/i4vgen/gradio_api"

CADDY_OPTIONS = """{{
    admin off
    http_port {http_port}
    https_port {https_port}
    local_certs
    skip_install_trust
    storage file_system {folder}/caddy
}}
"""
"""Global options: a certificate authority of its own, and ports that need no rights."""

NGINX_OPTIONS = """user root;
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""
"""What Debian's nginx.conf has around the example, in a folder of its own."""


def find_program(name: str) -> str:
    """A proxy, from the PATH or from where tests/ensure-proxies unpacks it."""
    unpacked = Path(sys.prefix) / "proxies" / "usr"
    places = [os.environ["PATH"], "/usr/sbin", str(unpacked / "sbin"), str(unpacked / "bin")]
    program = shutil.which(name, path=os.pathsep.join(places))
    assert program, f"{name} is missing: run tests/ensure-proxies"
    return program


def free_ports() -> Iterator[int]:
    """Ports that no connection gets before the proxy has them: the kernel takes those from 32768 on."""
    for port in random.sample(range(20_000, 32_000), 100):
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            yield port


def example(language: str, app: str) -> str:
    """The guide's example, in front of this app."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.M | re.S)
    assert UPSTREAM in text
    return text.replace(UPSTREAM, urlsplit(app).netloc)


@contextmanager
def running_caddy(app: str, folder: Path) -> Iterator[tuple[int, Path]]:
    """Gives the port, and the certificate to trust."""
    port, http_port, *_ = free_ports()
    options = CADDY_OPTIONS.format(http_port=http_port, https_port=port, folder=folder)
    (folder / "Caddyfile").write_text(options + example("caddyfile", app))
    command = [find_program("caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    with subprocess.Popen(command, cwd=folder, env=os.environ | {"HOME": str(folder)}) as process:
        try:
            yield port, folder / "caddy/pki/authorities/local/root.crt"
        finally:
            process.terminate()


@contextmanager
def running_nginx(app: str, folder: Path) -> Iterator[tuple[int, Path]]:
    """Gives the port, and the certificate to trust."""
    port = next(free_ports())
    certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
    make_certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={SITE}"]
    make_certificate += ["-addext", f"subjectAltName=DNS:{SITE}", "-out", certificate, "-keyout", key]
    subprocess.run(make_certificate, check=True, capture_output=True)
    server = example("nginx", app).replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    server = server.replace(f"/etc/letsencrypt/live/{SITE}", str(folder))
    (folder / "nginx.conf").write_text(NGINX_OPTIONS.format(folder=folder, server=server))
    command = [find_program("nginx"), "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"]
    with subprocess.Popen(command) as process:
        try:
            yield port, certificate
        finally:
            process.terminate()


PROXIES = {"caddy": running_caddy, "nginx": running_nginx}


def answers(client: httpx.Client) -> bool:
    """Whether the proxy has its certificate and answers."""
    try:
        return client.get("/i4vgen/").status_code == 200
    except httpx.ConnectError:
        return False


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """The address of the app behind the proxies. Its own way out would be by proxies that are not there."""
    environment = ["env", "GRADIO_ROOT_PATH=/i4vgen"]
    environment += ["HTTP_PROXY=http://127.0.0.1:9", "ALL_PROXY=socks5://127.0.0.1:9"]
    options = ["--public", "--model", "pocket", "--device", "cpu", "--allow-origin", "https://friend.example"]
    with running_app(*options, within=environment) as url:
        yield url


@pytest.fixture(scope="module", params=["nginx", pytest.param("caddy", marks=pytest.mark.slow)])
def client(request, app, tmp_path_factory) -> Iterator[httpx.Client]:
    """A client of the site that checks its certificate, as a browser would."""
    with PROXIES[request.param](app, tmp_path_factory.mktemp(request.param)) as (port, certificate):
        deadline = time.monotonic() + PATIENCE
        while not certificate.is_file():
            assert time.monotonic() < deadline, "the proxy has made no certificate"
            time.sleep(0.1)

        def address(request: httpx.Request) -> None:
            """Sends a request for the site, whose name is in no DNS, to this machine."""
            request.headers["host"] = SITE
            request.extensions["sni_hostname"] = SITE
            request.url = request.url.copy_with(host="127.0.0.1", port=port)

        with httpx.Client(
            base_url=f"https://{SITE}",
            verify=ssl.create_default_context(cafile=certificate),
            event_hooks={"request": [address]},
            timeout=PATIENCE,
            trust_env=False,
        ) as ours:
            while not answers(ours):
                assert time.monotonic() < deadline, "the proxy does not answer"
                time.sleep(0.1)
            yield ours


def test_the_page_finds_its_files_under_the_sub_path(client):
    assert urlsplit(client.get("/i4vgen").headers["location"]).path == "/i4vgen/"
    page = client.get("/i4vgen/")
    frames = page.headers["content-security-policy"]
    assert frames == "frame-ancestors 'self' https://huggingface.co https://friend.example"
    assert page.status_code == 200 and f'"root":"{PUBLIC_URL}"' in page.text.replace(" ", "")
    scripts = re.findall(r'(?:src|href)="(\./assets/[^"]+\.(?:js|css))"', page.text)
    assert scripts
    for script in scripts[:3]:
        assert client.get(f"/i4vgen/{script}").status_code == 200, script


def test_progress_arrives_step_by_step(client):
    call = {"prompt": "a rocket rising in a starry night", "num_candidates": 4, "num_inference_steps": 50}
    dependencies = client.get("/i4vgen/config").json()["dependencies"]
    (function,) = [each for each in dependencies if each["api_name"] == "candidates"]
    names = client.get(f"{API}/info").json()["named_endpoints"]["/candidates"]["parameters"]
    body = {
        "data": [call.get(each["parameter_name"], each.get("parameter_default")) for each in names],
        "fn_index": function["id"],
        "session_hash": "behindaproxy",
    }
    assert client.post(f"{API}/queue/join", json=body).status_code == 200
    arrived: list[tuple[float, dict]] = []
    with client.stream("GET", f"{API}/queue/data", params={"session_hash": "behindaproxy"}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                arrived.append((time.monotonic(), json.loads(line.removeprefix("data:"))))
                if arrived[-1][1]["msg"] == "process_completed":
                    break
    end, last = arrived[-1]
    assert last["success"], last
    progress = [moment for moment, message in arrived if message["msg"] == "progress"]
    assert len(progress) >= 10
    begin = arrived[0][0]
    assert end - begin > 0.5, "all of it came in one lump"
    assert progress[0] < begin + (end - begin) / 2 < progress[-1], "progress came in one lump"
    assert len({round(moment, 2) for moment in progress}) >= 5, "progress came in a few lumps"

    result = last["output"]["data"][0]["candidates"][0]["image"]
    assert result["url"].startswith(f"{PUBLIC_URL}/")
    picture = client.get(urlsplit(result["url"]).path)
    assert picture.status_code == 200 and picture.headers["content-type"] == "image/png"


def test_pictures_can_be_uploaded_up_to_the_limit(client):
    def upload(megabytes: int) -> int:
        files = {"files": ("picture.png", bytes(megabytes * 2**20), "image/png")}
        return client.post(f"{API}/upload", files=files).status_code

    assert upload(20) == 200
    assert upload(101) == 413


def test_pages_of_other_sites_are_refused_and_its_own_are_not(client):
    path = f"{API}/startup-events"
    assert client.get(path, headers={"origin": f"https://{SITE}"}).status_code == 200
    assert client.get(path, headers={"origin": "https://elsewhere.example"}).status_code == 403
