"""Tables, charts and results.json of what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.evidence.methods import COMPUTE, TITLES
from benchmarks.evidence.statistics import Interval, bootstrap, frechet_distance, mean_of, wins

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

Measured = dict[tuple[int, int], dict[str, dict]]
"""By number of the prompt and seed, then by method: figures, seconds and, beside real clips, features."""

BASELINE = "vanilla"
FEATURES = 48  # principal components of the features that the Frechet distance is taken of
DISTANCE_RESAMPLES = 300
DISTANCE = "frechet_distance"
MERELY_DIFFERENT = ("dynamic_degree", "mean_flow")  # figures of which more is not better


def figures_of(measured: Measured) -> list[str]:
    """The names of all figures of a video."""
    by_method = next(iter(measured.values()))
    return list(next(iter(by_method.values()))["figures"])


def title_of(name: str) -> str:
    return name.replace("_", " ")


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
                rows[name] |= {"gain": asdict(mean_of(values - baseline)), "wins": wins(values, baseline)}
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
    lines = [
        f"{len(about['prompts'])} prompts x {len(about['seeds'])} seeds, {about['device']}, {about['date']}."
        " In brackets: 95 % bootstrap intervals over prompts." + accuracy(about.get("accuracy", {})),
        "",
        "| | " + " | ".join(TITLES[m] for m in methods) + " |",
        "| --- " * (len(methods) + 1) + "|",
    ]
    for name in names:
        title = title_of(name) + (" (lower is better)" if name == DISTANCE else "")
        lines.append(f"| {title} | " + " | ".join(cell(summary[m][name]["mean"]) for m in methods) + " |")
    lines.append("| seconds | " + " | ".join(seconds_cell(summary[m]) for m in methods) + " |")
    others = [m for m in methods if m != BASELINE]
    if BASELINE in methods and others:
        lines += [
            "",
            "Ahead of vanilla by (95 % interval; share of paired wins):",
            "",
            "| | " + " | ".join(TITLES[m] for m in others) + " |",
            "| --- " * (len(others) + 1) + "|",
        ]
        for name in names:
            title = title_of(name) + (", less by" if name == DISTANCE else "")
            cells = [gain_cell(summary[m][name]) for m in others]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def accuracy(right: Mapping[str, float]) -> str:
    """What the judge is worth, in words."""
    if not right:
        return ""
    shares = ", ".join(f"{head} {100 * share:.1f} %" for head, share in right.items())
    return f" The judge is right about real clips that it has not seen in: {shares}."


def cell(interval: Mapping, digits: int = 3) -> str:
    """A mean, with its interval if it has one."""
    mean, *ends = (f"{interval[name]:.{digits}f}" for name in ("mean", "low", "high") if name in interval)
    return f"{mean} ({' to '.join(ends)})" if ends else mean


def seconds_cell(rows: Mapping) -> str:
    """Of a method; real clips take none."""
    seconds = rows["seconds"]["mean"]
    return f"{seconds:.1f}" if seconds else ""


def gain_cell(row: Mapping) -> str:
    text = "{mean:+.3f} ({low:+.3f} to {high:+.3f})".format(**row["gain"])
    return text + (f"; {100 * row['wins']:.0f} %" if "wins" in row else "")


def draw_gains(methods: list[str], summary: Mapping[str, Mapping], path: Path) -> None:
    """A chart of every method's lead over vanilla, with its interval."""
    others = [m for m in methods if m != BASELINE]
    names = [n for n, row in summary[others[0]].items() if "wins" in row and n not in MERELY_DIFFERENT]
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
    out: Path, methods: list[str], measured: Measured, real: np.ndarray | None, about: Mapping
) -> None:
    """real: as in `summarise`."""
    summary = summarise(methods, measured, real)
    rows = [
        {"prompt": number, "seed": seed, "method": method, "seconds": by["seconds"], **by["figures"]}
        for (number, seed), by_method in measured.items()
        for method, by in by_method.items()
    ]
    (out / "results.json").write_text(
        json.dumps({**about, "summary": summary, "videos": rows}, indent=1) + "\n"
    )
    (out / "table.md").write_text(markdown(methods, summary, about))
    if BASELINE in methods and len(methods) > 1:
        draw_gains(methods, summary, out / "gains.svg")
        if real is not None:
            draw_compute(methods, summary, out / "compute.svg")
    print((out / "table.md").read_text())
