"""The real app in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browsing import PAGE_PATIENCE, quiet_page, running_app, running_browser, wait_for_first_run
from tests.support.launching import patient_launch  # noqa: F401  a fixture

expect.set_options(timeout=PAGE_PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser."""
    with running_browser() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The address of the real app in a process of its own, on a port that no other app of this worker tries."""
    port = int(os.environ["GRADIO_SERVER_PORT"]) + 90
    with running_app("--port", str(port)) as address:
        yield address


@pytest.fixture
def page(browser, url) -> Iterator[Page]:
    """A fresh tab on it with its first run, which fails on any error in its console.

    Nothing plays by itself: videos would be drawn on the cores that the model needs.
    """
    with quiet_page(browser, url, reduced_motion="reduce") as tab:
        wait_for_first_run(tab)
        yield tab


@pytest.fixture
def moving_page(browser, url) -> Iterator[Page]:
    """A fresh tab like `page`, but its videos play."""
    with quiet_page(browser, url) as tab:
        wait_for_first_run(tab)
        yield tab
