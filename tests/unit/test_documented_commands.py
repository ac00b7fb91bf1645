"""Every command and every script of the pages is run by something, or listed with the reason why not."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.support.commands import (
    NOT_RUN,
    PAGES,
    ROOT,
    RUN_ELSEWHERE,
    commands,
    is_mention,
    tables,
)

KNOWN = {command for table in tables() for command in table}
SCRIPTS = {"README.md", "docs/python.md", "docs/http-api.md"}
"""Pages whose Python a test runs: test_readme.py and test_api.py."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_in_a_table(page):
    found = set(commands(page.read_text(encoding="utf-8")))
    unknown = {command for command in found - KNOWN if not is_mention(command, KNOWN)}
    assert sorted(unknown) == [], "add them to a table of tests/support/commands.py"


def test_the_tables_hold_each_command_of_the_pages_once():
    counts = Counter(command for table in tables() for command in table)
    assert [command for command, count in counts.items() if count > 1] == []
    found = {command for page in PAGES for command in commands(page.read_text(encoding="utf-8"))}
    assert sorted(KNOWN - found) == [], "no page has them any more"
    assert all(NOT_RUN.values())


@pytest.mark.parametrize(("command", "runner"), RUN_ELSEWHERE.items())
def test_what_runs_a_command_elsewhere_exists(command, runner):
    if runner.startswith("test_"):
        files = (ROOT / "tests").rglob("test_*.py")
        assert any(re.search(rf"^def {runner}\(", file.read_text(encoding="utf-8"), re.M) for file in files)
    elif runner in KNOWN:
        assert RUN_ELSEWHERE[runner]
    else:
        assert command in (ROOT / runner).read_text(encoding="utf-8")


def test_commands_are_found_in_blocks_and_in_sentences():
    page = "Run `make it`.\n\n```sh\n# first\n.venv/bin/python -m a \\\n    --b  # why\nA=1 c | d\n```\n"
    assert list(commands(page)) == ["python -m a --b", "A=1 c | d", "make it"]
    assert is_mention("python -m a", {"python -m a --b"}) and not is_mention("python -m", {"python -mx"})


def test_no_command_hides_in_a_block_without_a_language():
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        assert not re.search(r"^ {4,}(\.venv/bin/)?(python|make|pip|i4vgen|docker) ", text, re.M), page.name


def test_every_python_script_is_in_a_page_that_a_test_runs():
    having = {page for page in PAGES if re.search(r"^```python$", page.read_text(encoding="utf-8"), re.M)}
    assert {str(page.relative_to(ROOT)) for page in having} == SCRIPTS
