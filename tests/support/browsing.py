"""Helpers for the tests and the screenshots: the real app in its own process, and a real browser in front of
it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 240  # seconds: importing torch and Gradio can take minutes where other work holds the cores
LEAVING = ("AbortError: signal is aborted without reason", "AbortError: BodyStreamBuffer was aborted")
"""What Gradio says of a stream that it closes itself, as a page is left."""


def find_chromium() -> str:
    """The browser to drive: $CHROMIUM, else the first one on the PATH. A test without it fails, it is not
    skipped.
    """
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    for name in filter(None, names):
        if path := shutil.which(name):
            return path
    raise RuntimeError(
        "no Chromium found for the browser tests: install it (Debian: apt-get install chromium) "
        "or set CHROMIUM to the path of one"
    )


@contextmanager
def running_app(*arguments: str) -> Iterator[str]:
    """`python app.py` on a free port; gives its address once it answers, and ends it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--host", "127.0.0.1", "--port", str(port), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"the app ended with exit code {process.returncode} before it answered")
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the app did not answer within {START_TIMEOUT} s") from None
                time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def is_trouble(message: ConsoleMessage) -> bool:
    """Whether the console tells of a mistake."""
    return message.type == "error" and not message.text.startswith(LEAVING)


@contextmanager
def quiet_page(browser: Browser, url: str, ready: str = "Draw candidates", **options) -> Iterator[Page]:
    """A fresh tab on `url`, once its button `ready` is there. Fails on any error in its console and on any
    request to another server.
    """
    context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
    page = context.new_page()
    page.set_default_timeout(30_000)
    trouble: list[str] = []
    host = url.split("/")[2]
    page.on("pageerror", lambda error: trouble.append(f"uncaught: {error}"))
    page.on(
        "console",
        lambda m: trouble.append(f"console: {m.text} ({m.location})") if is_trouble(m) else None,
    )

    def check(config):
        if config.url.startswith("http") and config.url.split("/")[2] != host:
            trouble.append(f"request to another server: {config.url}")

    page.on("request", check)
    page.goto(url)
    page.get_by_role("button", name=ready).wait_for()
    try:
        yield page
        assert not trouble, "\n".join(trouble)
    finally:
        context.close()
