"""The app's own server and API."""

from __future__ import annotations

from tests.support.launching import patient_launch  # noqa: F401  a fixture
