"""Tables, charts and results.json of what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.evidence.methods import COMPUTE, TITLES
from benchmarks.evidence.prompts import FIRST_PAIRS
from benchmarks.evidence.statistics import Interval, bootstrap, frechet_distance, mean_of, wins

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from pocket.world import Shown
from training.markdown import table

Measured = dict[tuple[int, int], dict[str, dict]]
"""By number of the prompt and seed, then by method: figures, seconds and, beside real clips, features."""

BASELINE = "vanilla"
FEATURES = 48  # principal components of the features that the Frechet distance is taken of
DISTANCE_RESAMPLES = 300
DISTANCE = "frechet_distance"
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
STEADINESS = (
    "imagenet_subject_consistency",
    "imagenet_main_member",
    "imagenet_identity_changes",
    "main_member",
)
LOWER_IS_BETTER = (DISTANCE, "identity_changes", "imagenet_identity_changes")


def figures_of(measured: Measured) -> list[str]:
    """The names of all figures of a video."""
    by_method = next(iter(measured.values()))
    return list(next(iter(by_method.values()))["figures"])


def title_of(name: str) -> str:
    return name.replace("_", " ")


def sign_of(name: str) -> int:
    """-1 for a figure of which less is better. A gain is always an improvement."""
    return -1 if name in LOWER_IS_BETTER else 1


def gain_title(name: str) -> str:
    return title_of(name) + (", less by" if name in LOWER_IS_BETTER else "")


def table_of(measured: Measured, method: str, name: str) -> np.ndarray:
    """One figure of one method: [prompts, seeds]."""
    numbers, seeds = (sorted({job[i] for job in measured}) for i in range(2))
    return np.array([[measured[n, s][method]["figures"][name] for s in seeds] for n in numbers])


def summarise(methods: list[str], measured: Measured, real: np.ndarray | None) -> dict[str, dict]:
    """By method: of every figure its mean with its interval, that of the difference to vanilla, and wins.

    real: features of real clips, [N, D], where there are any to compare with.
    """
    found: dict[str, dict] = {}
    for method in methods:
        rows = found[method] = {}
        for name in figures_of(measured):
            values = table_of(measured, method, name)
            rows[name] = {"mean": asdict(mean_of(values))}
            if method != BASELINE and BASELINE in methods:
                baseline = table_of(measured, BASELINE, name)
                sign = sign_of(name)
                rows[name] |= {
                    "gain": asdict(mean_of(sign * (values - baseline))),
                    "wins": wins(sign * values, sign * baseline),
                }
        # The work is the same for all, so the fastest had the machine to itself.
        rows["seconds"] = {"mean": min(by_method[method]["seconds"] for by_method in measured.values())}
    for method, rows in (distances(methods, measured, real) if real is not None else {}).items():
        found[method][DISTANCE] = rows
    return found


def distances(methods: list[str], measured: Measured, real: np.ndarray) -> dict[str, dict]:
    """Realism: the Frechet distance of the judge's features to those of held-out real clips.

    Only differences have an interval: a resample holds some clips several times, which moves it away from the
    real ones, so a bootstrap of the distance itself would lie far above it.
    """
    numbers = sorted({number for number, _ in measured})
    project = principal_components(real)
    real = project(real)
    features = {
        method: [
            project(np.stack([by[method]["features"] for (n, _), by in measured.items() if n == number]))
            for number in numbers
        ]
        for method in methods
    }

    def distance(method: str, prompts: np.ndarray) -> float:
        return frechet_distance(np.concatenate([features[method][i] for i in prompts]), real)

    found = {}
    for method in methods:
        found[method] = {"mean": {"mean": distance(method, np.arange(len(numbers)))}}
        if method != BASELINE and BASELINE in methods:
            gain = bootstrap(
                len(numbers), lambda p, m=method: distance(BASELINE, p) - distance(m, p), DISTANCE_RESAMPLES
            )
            found[method]["gain"] = asdict(gain)
    return found


def principal_components(features: np.ndarray):
    """A projection on the directions in which these features vary most, each scaled to a deviation of 1."""
    mean = features.mean(0)
    _, values, vectors = np.linalg.svd(features - mean, full_matrices=False)
    count = min(FEATURES, int((values > 1e-6).sum()))
    scale = values[:count] / np.sqrt(len(features) - 1)
    return lambda others: (others - mean) @ vectors[:count].T / scale


def markdown(methods: list[str], summary: Mapping[str, Mapping], about: Mapping) -> str:
    names = [name for name in summary[methods[0]] if name != "seconds"]
    words = (
        f"{len(about['prompts'])} prompts x {len(about['seeds'])} seeds, {about['device']}, {about['date']}."
        " In brackets: 95 % bootstrap intervals over prompts."
        + accuracy("The judge", about.get("accuracy", {}))
        + accuracy("The probe on ImageNet's features", about.get("probe_accuracy", {}))
    )
    rows = [
        [
            title_of(name) + (" (lower is better)" if name in LOWER_IS_BETTER else ""),
            *(cell(summary[m][name]["mean"]) for m in methods),
        ]
        for name in names
    ]
    rows.append(["seconds", *(seconds_cell(summary[m]) for m in methods)])
    means = table(["", *(TITLES[m] for m in methods)], rows)
    return "\n\n".join([words, means, *leads(methods, summary, names)]) + "\n"


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


def only(measured: Measured, numbers: set[int]) -> Measured:
    """What was measured of these prompts."""
    return {job: by_method for job, by_method in measured.items() if job[0] in numbers}


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
    jobs = sorted(job for job in measured if job[1] == seed)[:FIRST_PAIRS]
    first = {job: measured[job] for job in jobs}
    leads = []
    for name in (name for name in STEADINESS if name in figures_of(first)):
        i4vgen, vanilla = (sign_of(name) * table_of(first, method, name) for method in ("i4vgen", BASELINE))
        leads.append(f"{title_of(name)} {(i4vgen > vanilla).sum()} (behind in {(i4vgen < vanilla).sum()})")
    return f"I4VGen is ahead in, of the first {len(first)} prompts that name a kind: {', '.join(leads)}."


def columns(parts: Mapping[str, tuple[Measured, bool]]) -> str:
    """A table of I4VGen's leads over vanilla. parts: by title what was measured; and whether pairs of unequal
    flow are left out.
    """
    gains: dict[str, list[str]] = {}
    titles = []
    for title, (part, equal) in parts.items():
        flow = {method: table_of(part, method, FLOW) for method in ("i4vgen", BASELINE)}
        unequal = np.abs(flow["i4vgen"] / flow[BASELINE] - 1) > EQUAL_FLOW
        left_out = unequal if equal else np.zeros_like(unequal)
        titles.append(f"{title} ({(~left_out).sum()} pairs)")
        for name in figures_of(measured=part):
            gain = sign_of(name) * (table_of(part, "i4vgen", name) - table_of(part, BASELINE, name))
            row = {"gain": asdict(mean_of(np.where(left_out, np.nan, gain)))}
            gains.setdefault(name, []).append(gain_cell(row))
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
    return f"{seconds:.1f}" if seconds else ""


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
    figure, axes = plt.subplots(1, len(names), figsize=size, sharey=True, squeeze=False)
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
    names = {"worst_frame": "worst frame (higher is better)", DISTANCE: "Frechet distance (lower is better)"}
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    for axis, (name, title) in zip(axes, names.items(), strict=True):
        for method in shown:
            seconds, value = summary[method]["seconds"]["mean"], summary[method][name]["mean"]
            if "low" in value:
                axis.plot([seconds, seconds], [value["low"], value["high"]], color="#b9c6e8", zorder=1)
            axis.scatter([seconds], [value["mean"]], color="#3b6fd4", s=28, zorder=2)
            axis.annotate(
                TITLES[method], (seconds, value["mean"]), (5, 5), textcoords="offset points", fontsize=8
            )
        axis.set_xlabel("seconds per video", fontsize=9)
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.margins(x=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a chart, the same bytes on any day."""
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write_report(
    out: Path,
    methods: list[str],
    measured: Measured,
    real: np.ndarray | None,
    about: Mapping,
    splits: Splits | None = None,
    further: Sequence[str] = (),
) -> None:
    """Writes a report to a folder.

    Args:
        out: The folder.
        methods: The columns.
        measured: What is reported.
        real: As in `summarise`.
        about: What else results.json has, among it prompts, seeds, device and date.
        splits: Sorts of prompts that are looked at on their own too.
        further: Tables that follow.
    """
    out.mkdir(parents=True, exist_ok=True)
    summary = summarise(methods, measured, real)
    rows = [
        {"prompt": number, "seed": seed, "method": method, "seconds": by["seconds"], **by["figures"]}
        for (number, seed), by_method in measured.items()
        for method, by in by_method.items()
    ]
    results = without_nan({**about, "summary": summary, "videos": rows})
    (out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    tables = [markdown(methods, summary, about)]
    if splits and {BASELINE, "i4vgen"} <= set(methods):
        tables.append(detailed_tables(measured, splits))
    (out / "table.md").write_text("\n".join([*tables, *further]))
    if BASELINE in methods and len(methods) > 1:
        draw_gains(methods, summary, out / "gains.svg")
        if real is not None:
            draw_compute(methods, summary, out / "compute.svg")
    print((out / "table.md").read_text())


def without_nan(value: Any) -> Any:
    """JSON has no nan: null says that nothing was measured."""
    if isinstance(value, Mapping):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and np.isnan(value) else value
