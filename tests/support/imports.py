"""What a command imports."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT
from tests.support.waiting import PATIENCE


def run_and_list_imports(*arguments: str) -> tuple[str, str]:
    """Runs Python with these arguments, which must succeed. Returns its output, and the modules it imported."""
    call = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr
