"""Helpers for the tests and the screenshots: the real app in its own process, and a real browser in front of
it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from benchmarks.serving import wait_for_url

ROOT = Path(__file__).resolve().parents[2]
PAGE_PATIENCE = 120_000
"""Milliseconds until a test gives up on the page: on a machine under load it answers late, but it answers."""

CARDS = "#gallery button.thumbnail-lg"

WITHOUT_THE_LATEST = """
  for (const [owner, names] of [
    [Array, ["fromAsync"]],
    [Array.prototype, ["toSorted", "toReversed", "toSpliced", "with"]],
    [Iterator.prototype, ["map", "filter", "take", "drop", "flatMap", "toArray", "forEach", "some", "every"]],
    [Set.prototype, ["union", "intersection", "difference", "isSubsetOf", "isSupersetOf"]],
    [Object, ["groupBy"]],
    [Map, ["groupBy"]],
    [Promise, ["withResolvers", "try"]],
    [URL, ["parse", "canParse"]],
    [HTMLElement.prototype, ["showPopover", "hidePopover", "togglePopover"]],
    [HTMLButtonElement.prototype, ["popoverTargetElement", "popoverTargetAction"]],
  ]) for (const name of names) delete owner[name];
"""
"""A script that takes from a browser what came after 2022: pages have to do without, or with a fallback."""
LEAVING = (
    "AbortError: signal is aborted without reason",
    "AbortError: BodyStreamBuffer was aborted",
    "Unexpected error Connection errored out",  # an event was under way: a reload breaks its stream off
)
"""What Gradio says of streams that end as a page is left."""


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
def running_app(*arguments: str, within: Sequence[str] = ()) -> Iterator[str]:
    """`python app.py` on a port that it finds; gives its address once it answers, and ends it afterwards.

    within: a command that runs the command behind it.
    """
    command = [*within, sys.executable, "-u", "app.py", "--host", "127.0.0.1", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        threading.Thread(target=copy_lines, args=(process.stdout, log), daemon=True).start()
        try:
            yield wait_for_url(log, process)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def copy_lines(lines: IO[bytes], log: Path) -> None:
    """Writes lines to a file and to stdout, which pytest shows if the test fails."""
    with log.open("wb", buffering=0) as file:
        for line in lines:
            file.write(line)
            os.write(1, line)


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
def quiet_page(
    browser: Browser, url: str, ready: str = "Draw candidates", script: str = "", **options
) -> Iterator[Page]:
    """A fresh tab on `url`, once its button `ready` is there. Fails on any error in its console and on any
    request to another server.

    script: runs before those of the page.
    """
    context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
    context.set_default_timeout(PAGE_PATIENCE)
    page = context.new_page()
    if script:
        page.add_init_script(script)
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


def wait_for_first_run(page: Page) -> None:
    """Waits until a new page shows the stored run that it begins with.

    A click before that is answered earlier than the page's own first event, which then changes the cards.
    """
    expect(page.locator(CARDS)).to_have_count(16, timeout=PAGE_PATIENCE)
