"""Tables, charts and results.json of what was measured."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.evidence.measured import Measured, axes, figures_of, having, only, table_of, title_of
from benchmarks.evidence.methods import COMPUTE, TITLES
from benchmarks.evidence.prompts import FIRST_PAIRS
from benchmarks.evidence.rows import write_rows
from benchmarks.evidence.statistics import Interval, mean_of, wins

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from pocket.world import Shown
from training.markdown import table

BASELINE = "vanilla"
KINDS, MEMBERS = "prompts that name a kind", "prompts that name a member"
FLOW = "mean_flow"
EQUAL_FLOW = 0.2  # pairs whose flows differ by at most this share of vanilla's move alike
MERELY_DIFFERENT = ("dynamic_degree", FLOW)  # figures of which more is not better
CHARTED = (
    "imagenet_subject_consistency",
    "imagenet_likeness_to_anchor",
    "imagenet_anchor_member",
    "imagenet_worst_frame",
    "motion_certainty",
)
BOUGHT = ("imagenet_subject_consistency", "imagenet_anchor_member")  # with seconds
MARKERS = dict(zip(COMPUTE, "osD^vPX", strict=True))
STEADINESS = (
    "imagenet_subject_consistency",
    "imagenet_main_member",
    "imagenet_identity_changes",
    "main_member",
)
SHORT = (
    "imagenet_subject_consistency",
    "imagenet_likeness_to_anchor",
    "anchor_member",
    "identity_changes",
    "worst_frame",
    "motion_right",
    FLOW,
)
"""The figures of tables that have a row for every method."""
LOWER_IS_BETTER = ("identity_changes", "imagenet_identity_changes")


def sign_of(name: str) -> int:
    """-1 for a figure of which less is better. A gain is always an improvement."""
    return -1 if name in LOWER_IS_BETTER else 1


def mean_title(name: str) -> str:
    return title_of(name) + (" (lower is better)" if name in LOWER_IS_BETTER else "")


def gain_title(name: str) -> str:
    return title_of(name) + (", less by" if name in LOWER_IS_BETTER else "")


def summarise(methods: Sequence[str], measured: Measured) -> dict[str, dict]:
    """By method: of every figure its mean with its interval, that of the difference to vanilla, and wins."""
    found: dict[str, dict] = {}
    names = dict.fromkeys(name for method in methods for name in figures_of(measured, method))
    for method in methods:
        rows = found[method] = {}
        for name in names:
            values = table_of(measured, method, name)
            rows[name] = {"mean": asdict(mean_of(values))}
            if method != BASELINE and BASELINE in methods:
                baseline = table_of(measured, BASELINE, name)
                sign = sign_of(name)
                rows[name] |= {
                    "gain": asdict(mean_of(sign * (values - baseline))),
                    "wins": wins(sign * values, sign * baseline),
                }
        of_method = [by_method[method] for by_method in measured.values() if method in by_method]
        rows["videos"] = {"mean": len(of_method)}
        # The work is the same for all, so the fastest had the machine to itself.
        rows["seconds"] = {"mean": min(row.seconds for row in of_method)}
    return found


def markdown(methods: list[str], summary: Mapping[str, Mapping], about: Mapping) -> str:
    names = [name for name in summary[methods[0]] if name not in ("videos", "seconds")]
    words = (
        extent(len(about["prompts"]), len(about["seeds"]), about)
        + " In brackets: 95 % bootstrap intervals over prompts."
        + accuracy("The judge", about.get("accuracy", {}))
        + accuracy("The probe on ImageNet's features", about.get("probe_accuracy", {}))
    )
    rows = [["videos", *(str(summary[m]["videos"]["mean"]) for m in methods)]]
    rows += [
        [
            mean_title(name),
            *(cell(summary[m][name]["mean"]) for m in methods),
        ]
        for name in names
    ]
    rows.append(["seconds (fastest)", *(seconds_cell(summary[m]) for m in methods)])
    means = table(["", *(TITLES[m] for m in methods)], rows)
    return "\n\n".join([words, means, *leads(methods, summary, names)]) + "\n"


def short_table(methods: Sequence[str], summary: Mapping[str, Mapping]) -> str:
    """The most telling figures with 95 % intervals, a method in each row."""
    # ImageNet's judge takes the place of a head of ours that is not right often enough.
    measured = summary[methods[0]]
    known = [name if name in measured else f"imagenet_{name}" for name in SHORT]
    names = [name for name in known if name in measured]
    rows = [
        [
            TITLES[method],
            *(cell(summary[method][name]["mean"], digits=2) for name in names),
            seconds_cell(summary[method]),
        ]
        for method in methods
    ]
    return table(["", *map(mean_title, names), "seconds (fastest)"], rows)


def extent(prompts: int, seeds: int, drawn: Mapping[str, str]) -> str:
    """How much was drawn, and where and when (`provenance_of`)."""
    return f"{prompts} prompts x {seeds} seeds, {drawn['device']}, {drawn['date']}."


def ablations(methods: Sequence[str], measured: Measured, summary: Mapping[str, Mapping]) -> str:
    """Words and a table: all methods on the prompts and seeds that have all of them; empty if none has."""
    if not measured:
        return ""
    numbers, seeds = axes(measured)
    words = extent(len(numbers), len(seeds), provenance_of(measured, methods))
    return f"{words}\n\n{short_table(methods, summary)}\n"


def leads(methods: list[str], summary: Mapping[str, Mapping], names: list[str]) -> list[str]:
    """Every method's lead over vanilla, words and a table; nothing where there is no vanilla."""
    others = [m for m in methods if m != BASELINE]
    if BASELINE not in methods or not others:
        return []
    rows = [[gain_title(name), *(gain_cell(summary[m][name]) for m in others)] for name in names]
    return [
        "Ahead of vanilla by (95 % interval; share of paired wins):",
        table(["", *(TITLES[m] for m in others)], rows),
    ]


@dataclass(frozen=True)
class Splits:
    """The numbers of a pocket model's prompts by title: by sort, and, of those that name a kind, by motion."""

    sorts: Mapping[str, set[int]]
    motions: Mapping[str, set[int]]

    @classmethod
    def of(cls, prompts: Sequence[Shown]) -> Splits:
        sorts: dict[str, set[int]] = {}
        motions: dict[str, set[int]] = {}
        for number, shown in enumerate(prompts):
            sorts.setdefault(MEMBERS if shown.member else KINDS, set()).add(number)
            if not shown.member:
                motions.setdefault(shown.motion, set()).add(number)
        return cls(sorts, dict(sorted(motions.items())))


def detailed_tables(measured: Measured, splits: Splits) -> str:
    """I4VGen's lead over vanilla by sort of prompt, in pairs that move alike, and by motion; and of the first
    prompts that name a kind, in how many it leads.
    """
    sorts = {title: only(measured, numbers) for title, numbers in splits.sorts.items()}
    motions = {title: only(measured, numbers) for title, numbers in splits.motions.items()}
    tables = [
        "I4VGen ahead of vanilla by, by sort of prompt; and in those pairs whose mean flows differ by at most"
        f" {100 * EQUAL_FLOW:.0f} %:",
        columns(
            {title: (part, False) for title, part in sorts.items()}
            | {f"{title}, equal flow": (part, True) for title, part in sorts.items()}
        ),
        "I4VGen ahead of vanilla by, by motion, where the prompt names a kind:",
        columns({title: (part, False) for title, part in motions.items()}),
    ]
    if KINDS in sorts:
        tables.append(first_pairs(sorts[KINDS]))
    return "\n\n".join(tables) + "\n"


def first_pairs(measured: Measured) -> str:
    """In how many of the contact sheet's pairs, those of the first prompts and the first seed, I4VGen leads."""
    seed = min(seed for _, seed in measured)
    cases = sorted(case for case in measured if case[1] == seed)[:FIRST_PAIRS]
    first = {case: measured[case] for case in cases}
    leads = []
    for name in (name for name in STEADINESS if name in figures_of(first, BASELINE)):
        i4vgen, vanilla = (sign_of(name) * table_of(first, method, name) for method in ("i4vgen", BASELINE))
        leads.append(f"{title_of(name)} {(i4vgen > vanilla).sum()} (behind in {(i4vgen < vanilla).sum()})")
    return f"I4VGen is ahead in, of the first {len(first)} prompts that name a kind: {', '.join(leads)}."


def columns(parts: Mapping[str, tuple[Measured, bool]]) -> str:
    """A table of I4VGen's leads over vanilla. parts: by title what was measured; and whether pairs of unequal
    flow are left out.
    """
    figures = dict.fromkeys(name for part, _ in parts.values() for name in figures_of(part, BASELINE))
    gains: dict[str, list[str]] = {name: [] for name in figures}
    titles = []
    for title, (part, equal) in parts.items():
        flow = {method: table_of(part, method, FLOW) for method in ("i4vgen", BASELINE)}
        unequal = np.abs(flow["i4vgen"] / flow[BASELINE] - 1) > EQUAL_FLOW
        left_out = unequal if equal else np.zeros_like(unequal)
        titles.append(f"{title} ({(~left_out).sum()} pairs)")
        for name, cells in gains.items():
            gain = sign_of(name) * (table_of(part, "i4vgen", name) - table_of(part, BASELINE, name))
            cells.append(gain_cell({"gain": asdict(mean_of(np.where(left_out, np.nan, gain)))}))
    return table(["", *titles], [[gain_title(name), *cells] for name, cells in gains.items()])


def accuracy(judge: str, right: Mapping[str, float]) -> str:
    """What a judge is worth, in words."""
    if not right:
        return ""
    shares = ", ".join(f"{head} {100 * share:.1f} %" for head, share in right.items())
    return f" {judge} is right about real clips that it has not seen in: {shares}."


def cell(interval: Mapping, digits: int = 3) -> str:
    """A mean, with its interval if it has one; empty where nothing was measured."""
    if interval["mean"] is None or np.isnan(interval["mean"]):
        return ""
    mean, *ends = (f"{interval[name]:.{digits}f}" for name in ("mean", "low", "high") if name in interval)
    return f"{mean} ({' to '.join(ends)})" if ends else mean


def seconds_cell(rows: Mapping) -> str:
    """Of a method; real clips take none."""
    seconds = rows["seconds"]["mean"]
    return "" if seconds is None or np.isnan(seconds) else f"{seconds:.1f}"


def gain_cell(row: Mapping) -> str:
    if np.isnan(row["gain"]["mean"]):
        return ""
    text = "{mean:+.3f} ({low:+.3f} to {high:+.3f})".format(**row["gain"])
    return text + (f"; {100 * row['wins']:.0f} %" if "wins" in row else "")


def draw_gains(methods: list[str], summary: Mapping[str, Mapping], path: Path) -> None:
    """A chart of every method's lead over vanilla, with its interval."""
    others = [m for m in methods if m != BASELINE]
    rows = summary[others[0]]
    names = [name for name in CHARTED if name in rows]
    names = names or [name for name, row in rows.items() if "wins" in row and name not in MERELY_DIFFERENT]
    size = (2.1 * len(names) + 1.5, 0.45 * len(others) + 1.4)
    figure, axes = plt.subplots(1, len(names), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        for row, method in enumerate(others):
            gain = Interval(**summary[method][name]["gain"])
            axis.plot([gain.low, gain.high], [row, row], color="#3b6fd4", linewidth=2)
            axis.plot([gain.mean], [row], "o", color="#3b6fd4", markersize=5)
        axis.axvline(0, color="#999", linewidth=1)
        axis.set_title(title_of(name), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks(range(len(others)), [TITLES[m] for m in others], fontsize=8)
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    save(figure, path)


def draw_compute(methods: list[str], summary: Mapping[str, Mapping], path: Path) -> None:
    """A chart of what every second buys."""
    shown = [method for method in COMPUTE if method in methods]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for axis, name in zip(axes, BOUGHT, strict=True):
        for method in shown:
            seconds, value = summary[method]["seconds"]["mean"], summary[method][name]["mean"]
            (line,) = axis.plot([seconds, seconds], [value["low"], value["high"]], alpha=0.5, zorder=1)
            style = {"color": line.get_color(), "marker": MARKERS[method], "s": 40, "zorder": 2}
            axis.scatter([seconds], [value["mean"]], label=TITLES[method].replace("`", ""), **style)
        axis.set_xlabel("seconds per video", fontsize=9)
        axis.set_title(title_of(name), fontsize=10)
        axis.tick_params(labelsize=8)
        axis.set_xlim(left=0)
        axis.spines[["top", "right"]].set_visible(False)
    places = {"loc": "outside lower center", "ncols": 2, "frameon": False, "fontsize": 8}
    figure.legend(*axes[0].get_legend_handles_labels(), **places)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a chart, the same bytes on any day."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write_report(
    out: Path,
    measured: Measured,
    about: Mapping,
    splits: Splits | None = None,
    further: Sequence[str] = (),
) -> None:
    """Writes a report to a folder that is named by the numbers of prompts and seeds.

    Its tables have the methods that every prompt and seed has. The ablations have all methods, and the prompts
    and seeds that have all of these.

    Args:
        out: Where the folder goes.
        measured: What is reported.
        about: What else results.json has, among it the prompts.
        splits: Sorts of prompts that are looked at on their own too.
        further: Tables that follow.
    """
    numbers, seeds = axes(measured)
    out = out / f"{len(numbers)}-prompts-{len(seeds)}-seeds"
    out.mkdir(parents=True, exist_ok=True)
    counts = Counter(method for by_method in measured.values() for method in by_method)
    found = [method for method in TITLES if counts[method]]
    most = max(counts[method] for method in found)
    methods = [method for method in found if counts[method] == most]
    summary = summarise(methods, measured)
    about = {**about, "seeds": seeds, **provenance_of(measured, methods)}
    results = without_nan({**about, "summary": summary})
    (out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_rows(measured, out / "rows.csv")
    tables = [markdown(methods, summary, about)]
    if splits and {BASELINE, "i4vgen"} <= set(methods):
        tables.append(detailed_tables(measured, splits))
    (out / "table.md").write_text("\n".join([*tables, *further]))
    of_all = having(measured, found)
    compared = summarise(found, of_all or measured)
    (out / "ablations.md").write_text(ablations(found, of_all, compared))
    if BASELINE in methods and len(methods) > 1:
        draw_gains(methods, summary, out / "gains.svg")
        if set(BOUGHT) <= summary[BASELINE].keys():
            draw_compute(found, compared, out / "compute.svg")
    print((out / "table.md").read_text())
    print((out / "ablations.md").read_text())


def provenance_of(measured: Measured, methods: Sequence[str]) -> dict[str, str]:
    """Where and when the videos of these methods were drawn."""
    rows = (row for by in measured.values() for method, row in by.items() if method in methods)
    known = [row.provenance for row in rows if row.provenance]
    devices, dates = (sorted({each[name] for each in known}) for name in ("device", "date"))
    return {"device": " and ".join(devices), "date": " to ".join(dict.fromkeys((dates[0], dates[-1])))}


def without_nan(value: Any) -> Any:
    """JSON has no nan: null says that nothing was measured."""
    if isinstance(value, Mapping):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and np.isnan(value) else value
