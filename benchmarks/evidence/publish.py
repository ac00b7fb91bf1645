"""Puts what was measured into the documents: tables between their marks, and the charts. Keeps its rows.

    python -m benchmarks.evidence.publish runs/evidence/40-prompts-4-seeds

The words around the tables are written by hand, after looking at them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

from benchmarks.evidence.methods import REAL
from benchmarks.evidence.report import short_table
from benchmarks.evidence.rows import STORED

ROOT = Path(__file__).parent.parent.parent
SHORT_METHODS = ("vanilla", "freeinit", "i4vgen", "fast", REAL)
"""The methods that the README shows."""

CHARTS = {
    "gains.svg": "Lead over the vanilla model with 95 % intervals, by method and figure",
    "compute.svg": "What a second buys: steadiness by ImageNet's judge, by the seconds that a video takes",
}


def fill(text: str, name: str, content: str) -> str:
    """The text with this content between the marks of that name. Raises `ValueError` where they are not."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there is no {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{content.strip()}\n\n{end}", text)


def fill_file(path: Path, name: str, content: str) -> None:
    path.write_text(fill(path.read_text(), name, content))


def publish(evidence: Path, root: Path = ROOT) -> None:
    results = json.loads((evidence / "results.json").read_text())
    charts = "\n".join(f"![{title}]({name})" for name, title in CHARTS.items())
    table = (evidence / "table.md").read_text().strip()
    fill_file(root / "docs" / "evidence.md", "table", f"{table}\n\n{charts}")
    fill_file(root / "docs" / "evidence.md", "ablations", (evidence / "ablations.md").read_text())
    methods = [method for method in SHORT_METHODS if method in results["summary"]]
    fill_file(root / "README.md", "evidence", short_table(methods, results["summary"]))
    shutil.copy(evidence / "rows.csv", root / STORED.relative_to(ROOT))
    for chart in CHARTS:
        shutil.copy(evidence / chart, root / "docs" / chart)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence.publish", description=__doc__)
    parser.add_argument("evidence", type=Path, help="a folder with a report of the evidence command")
    publish(parser.parse_args().evidence)


if __name__ == "__main__":
    main()
