"""Servers in the process of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def patient_launch() -> Iterator[None]:
    """Lets `launch` trust its own server, which Gradio asks for an answer within three seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradio.networking.url_ok", lambda _url: True)
        yield
