"""Holds a control against the stored rows: a vanilla model that was trained otherwise than the shipped one.

    python -m benchmarks.evidence --model CONTROL --methods vanilla --candidates 0 --seeds 1 --out runs/control
    python -m benchmarks.evidence.control runs/control/40-prompts-1-seeds/rows.csv

Prints a table of the prompts and seeds that both have: the means of vanilla, of the control's vanilla and of
I4VGen, and by how much I4VGen is ahead of the control.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks.evidence.measured import Measured, only, table_of, title_of
from benchmarks.evidence.prompts import make_prompts
from benchmarks.evidence.report import KINDS, LOWER_IS_BETTER, Splits, cell, gain_cell, sign_of
from benchmarks.evidence.rows import read_rows
from benchmarks.evidence.statistics import mean_of
from pocket.presets import PRESETS
from training.markdown import table

CONTROL = "control"
METHODS = {"vanilla": "vanilla", CONTROL: "the control", "i4vgen": "I4VGen"}
FIGURES = (
    "worst_frame",
    "main_member",
    "identity_changes",
    "subject_consistency",
    "imagenet_subject_consistency",
    "imagenet_main_member",
    "imagenet_identity_changes",
    "motion_right",
    "motion_certainty",
    "mean_flow",
)


def beside(stored: Measured, control: Measured) -> Measured:
    """The stored rows of what the control has too, with its vanilla videos as a method of their own."""
    return {
        key: {**stored[key], CONTROL: rows["vanilla"]}
        for key, rows in control.items()
        if "vanilla" in rows and {"vanilla", "i4vgen"} <= stored.get(key, {}).keys()
    }


def table_of_control(measured: Measured, kinds: set[int]) -> str:
    """kinds: the numbers of the prompts that name a kind."""
    parts = {"I4VGen ahead of the control": measured, KINDS: only(measured, kinds)}
    rows = []
    for name in FIGURES:
        title = title_of(name) + (" (lower is better)" if name in LOWER_IS_BETTER else "")
        means = [cell(asdict(mean_of(table_of(measured, method, name)))) for method in METHODS]
        leads = [
            sign_of(name) * (table_of(part, "i4vgen", name) - table_of(part, CONTROL, name))
            for part in parts.values()
        ]
        rows.append([title, *means, *(gain_cell({"gain": asdict(mean_of(lead))}) for lead in leads)])
    titles = [f"{title} ({len(part)} pairs)" for title, part in parts.items()]
    return table(["", *METHODS.values(), *titles], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.control",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", type=Path, help="rows.csv of the control's report")
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="the world of the models")
    args = parser.parse_args()
    measured = beside(read_rows(), read_rows(args.rows))
    if not measured:
        parser.error(f"{args.rows} has no vanilla video of a stored prompt and seed")
    prompts = make_prompts(PRESETS[args.preset], 1 + max(number for number, _ in measured))
    print(table_of_control(measured, Splits.of(prompts).sorts.get(KINDS, set())))


if __name__ == "__main__":
    main()
