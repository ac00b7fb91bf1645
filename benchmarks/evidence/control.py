"""Holds controls against the stored rows: vanilla models that were trained otherwise than the shipped one.

    python -m benchmarks.evidence --model CONTROL --methods vanilla --candidates 0 --seeds 1 --out runs/control
    python -m benchmarks.evidence.control "more training=runs/control/40-prompts-1-seeds/rows.csv"

Prints, for the prompts and seeds that all have, the means of vanilla, of every control's vanilla and of I4VGen,
and by how much I4VGen is ahead of every control; and the same for the prompts that name a kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.evidence.measured import Measured, only, table_of
from benchmarks.evidence.prompts import make_prompts
from benchmarks.evidence.report import KINDS, Splits, cell, gain_cell, mean_title, sign_of
from benchmarks.evidence.rows import read_rows
from benchmarks.evidence.statistics import mean_of
from pocket.presets import PRESETS
from training.markdown import table

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


def beside(stored: Measured, controls: Mapping[str, Measured]) -> Measured:
    """The stored rows of what all controls have too, and the vanilla videos of each as a method of its name."""
    return {
        key: rows | {name: control[key]["vanilla"] for name, control in controls.items()}
        for key, rows in stored.items()
        if {"vanilla", "i4vgen"} <= rows.keys()
        and all("vanilla" in control.get(key, {}) for control in controls.values())
    }


def table_of_controls(measured: Measured, names: list[str]) -> str:
    rows = []
    for figure in FIGURES:
        values = {name: table_of(measured, name, figure) for name in ("vanilla", *names, "i4vgen")}
        means = [cell(asdict(mean_of(each))) for each in values.values()]
        leads = [sign_of(figure) * (values["i4vgen"] - values[name]) for name in names]
        gains = [gain_cell({"gain": asdict(mean_of(lead))}) for lead in leads]
        rows.append([mean_title(figure), *means, *gains])
    return table(["", "vanilla", *names, "I4VGen", *(f"I4VGen ahead of: {name}" for name in names)], rows)


def named_rows(text: str) -> tuple[str, Measured]:
    """Parses NAME=ROWS.CSV for argparse."""
    name, _, path = text.partition("=")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"give NAME=ROWS.CSV, not {text}: there is no file {path}")
    return name, read_rows(Path(path))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.control",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("controls", nargs="+", type=named_rows, metavar="NAME=ROWS.CSV")
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="the world of the models")
    args = parser.parse_args()
    controls = dict(args.controls)
    measured = beside(read_rows(), controls)
    if not measured:
        parser.error("there is no vanilla video of a stored prompt and seed in all of them")
    prompts = make_prompts(PRESETS[args.preset], 1 + max(number for number, _ in measured))
    kinds = only(measured, Splits.of(prompts).sorts.get(KINDS, set()))
    for title, part in (("all prompts", measured), (KINDS, kinds)):
        print(f"{title} ({len(part)} pairs)\n\n{table_of_controls(part, list(controls))}\n")


if __name__ == "__main__":
    main()
