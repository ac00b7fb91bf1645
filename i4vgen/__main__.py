"""Runs the command line: `python -m i4vgen "a prompt"`."""

from i4vgen.cli.main import start

start()
