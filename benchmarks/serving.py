"""Runs the app in its own process, for load tests."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 240  # seconds until the app must answer; on busy cores imports alone take a minute


@dataclass(frozen=True)
class Server:
    """A running app.

    Attributes:
        url: Without a slash at the end.
        process: Of the app.
        log: Its output.
        folder: Its cache.
    """

    url: str
    process: psutil.Process
    log: Path
    folder: Path

    def memory(self) -> float:
        """Returns the resident memory in MB."""
        return self.process.memory_info().rss / 2**20

    def disk(self) -> float:
        """Returns the size of its cache in MB."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) / 2**20

    def tracebacks(self) -> Counter[str]:
        """Counts the tracebacks in its log by the file and the start of the error in which they ended."""
        found = re.findall(
            r"^Traceback .*?File \"([^\"]*)\", line \d+, in [^\n]*\n(?:    [^\n]*\n)*(?=\S)(.*?)\n",
            self.log.read_text(),
            re.DOTALL | re.MULTILINE,
        )
        return Counter(f"{'/'.join(Path(file).parts[-2:])}: {line.strip()[:100]}" for file, line in found)


@contextmanager
def running_server(*arguments: str, folder: Path | None = None, kill: bool = False) -> Iterator[Server]:
    """Starts `python app.py` with these arguments and the pocket model.

    Args:
        arguments: Of the command line.
        folder: Its cache; by default a temporary one.
        kill: Whether to kill it at the end, in the middle of its work.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, log = folder or Path(name, "cache"), Path(name, "log.txt")
        environment = os.environ | {"I4VGEN_MODEL": "pocket", "GRADIO_TEMP_DIR": str(folder)}
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-u", "app.py", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Server(wait_for_url(log, process), psutil.Process(process.pid), log, folder)
        finally:
            if kill:
                process.kill()
            else:
                process.terminate()
            process.wait(PATIENCE)


def main(name: str, doc: str | None, numbers: dict[str, float], measure: Callable[..., dict]) -> None:
    """Runs the command line of a benchmark: measures a public app and prints the result as JSON.

    Args:
        name: Of the module.
        doc: Its docstring.
        numbers: The options and their defaults.
        measure: Called with the server and the options.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option, default in numbers.items():
        parser.add_argument(f"--{option}", type=type(default), default=default)
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    args = vars(parser.parse_args())
    out = args.pop("out")
    with running_server("--public") as server:
        text = json.dumps(measure(server, **args), indent=2)
    print(text)
    if out:
        out.write_text(text + "\n")


def wait_for_url(log: Path, process: subprocess.Popen) -> str:
    """Waits until the app answers, and returns its address."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and (match := re.search(r"http://[\d.]+:\d+", log.read_text())):
            url = match[0].replace("0.0.0.0", "127.0.0.1")
            try:
                httpx.get(f"{url}/config", timeout=5, trust_env=False)  # without a proxy
            except httpx.TransportError:
                pass
            else:
                return url
        time.sleep(0.2)
    raise RuntimeError(f"the app did not start: {log.read_text()[-2000:]}")
