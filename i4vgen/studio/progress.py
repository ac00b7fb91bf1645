"""Tracks the progress of a run and estimates the time left. Does not import Gradio."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

from i4vgen.method.comparisons import COMPARISONS
from i4vgen.studio import strings

WINDOW = 8
"""Number of latest steps whose median duration is the pace."""

SHOW_EVERY = 0.1
"""Minimum seconds between two progress updates. Steps can be faster than a browser draws."""


class RunProgress:
    """Tracks the progress of a run through its stages, for one anchor or several in turn.

    Args:
        plans: The number of steps by stage, one mapping per anchor. A `Stage` event may correct a number.
    """

    def __init__(self, *plans: Mapping[str, int]) -> None:
        self._plans = [dict(plan) for plan in plans]
        self._done = [dict.fromkeys(plan, 0) for plan in plans]
        self._part = 0
        self.stage: str | None = None
        self._paces: dict[str, list[float]] = {}
        self._shown = 0.0

    def begin_part(self, part: int) -> None:
        """Begins the plan with this index."""
        self._part, self.stage = part, None

    def begin(self, stage: str, total: int) -> None:
        """Begins a stage."""
        self.stage = stage
        self._plans[self._part][stage] = total
        self._done[self._part][stage] = 0

    def step(self, stage: str, step: int, seconds: float) -> bool:
        """Records a denoising step and its duration. Returns whether to show it now."""
        self.stage = stage
        self._done[self._part][stage] = step
        self._paces.setdefault(stage, []).append(seconds)
        now = time.monotonic()
        if step > 1 and now - self._shown < SHOW_EVERY:
            return False
        self._shown = now
        return True

    def seconds_left(self) -> float | None:
        """Estimates the seconds until the last planned stage ends; None before the first step."""
        measured = {stage: median(paces[-WINDOW:]) for stage, paces in self._paces.items()}
        if not measured:
            return None
        slowest = max(measured.values())
        ahead = zip(self._plans[self._part :], self._done[self._part :], strict=True)
        return sum(
            (total - done[stage]) * measured.get(stage, slowest)
            for plan, done in ahead
            for stage, total in plan.items()
        )

    @property
    def fraction(self) -> float:
        """The completed share of all planned steps, 0 to 1."""
        total = sum(sum(plan.values()) for plan in self._plans)
        return sum(sum(done.values()) for done in self._done) / total if total else 0.0

    @property
    def total(self) -> int:
        """Number of steps of the current stage."""
        return 0 if self.stage is None else self._plans[self._part].get(self.stage, 0)

    def words(self) -> str:
        """Returns the progress line."""
        if self.stage is None:
            return strings.STARTING
        done, left = self._done[self._part][self.stage], strings.seconds_left(self.seconds_left())
        words = f"{strings.stage(self.stage)}: step {done} of {self.total}, {left}"
        return f"Anchor {self._part + 1} of {len(self._plans)}. {words}" if len(self._plans) > 1 else words

    def stages(self) -> list[dict]:
        """Returns the stages of the current anchor with their completed shares, for the live view."""
        done = self._done[self._part]
        return [
            {
                "name": stage,
                "label": stage_label(stage),
                "fraction": done[stage] / total if total else 0.0,
                "now": stage == self.stage,
            }
            for stage, total in self._plans[self._part].items()
        ]


def stage_label(name: str) -> str:
    """Returns the short label of a stage."""
    if name in COMPARISONS:
        return COMPARISONS[name].label
    return {"ni_vsds": "NI-VSDS", "regeneration": "Regeneration"}.get(name, name)
