"""How far a run is and how long it still takes, from the steps it has measured. No Gradio here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

from i4vgen.ui import strings

WINDOW = 8
"""So many recent steps are the pace: enough to be calm, few enough to notice a machine that slows down."""

SHOW_EVERY = 0.1
"""Seconds between two lines of progress: steps can be faster than a browser draws."""


class Tracker:
    """Follows the stages of a run, of one anchor or of several that come one after the other.

    Each of `plans` maps the stages of an anchor to their number of steps; a `Stage` event may correct it.
    """

    def __init__(self, *plans: Mapping[str, int]) -> None:
        self._plans = [dict(plan) for plan in plans]
        self._done = [dict.fromkeys(plan, 0) for plan in plans]
        self._part = 0
        self.stage: str | None = None
        self._paces: dict[str, list[float]] = {}
        self._shown = 0.0

    def begin_part(self, part: int) -> None:
        """The stages of the plan at this position begin. All before them are over."""
        self._part, self.stage = part, None

    def begin(self, stage: str, total: int) -> None:
        """A stage begins. All before it are over."""
        self.stage = stage
        self._plans[self._part][stage] = total
        self._done[self._part][stage] = 0

    def step(self, stage: str, step: int, seconds: float) -> bool:
        """One denoising step of `stage` is done and took so many seconds. Returns whether to show it now."""
        self.stage = stage
        self._done[self._part][stage] = step
        self._paces.setdefault(stage, []).append(seconds)
        now = time.monotonic()
        if step > 1 and now - self._shown < SHOW_EVERY:
            return False
        self._shown = now
        return True

    def seconds_left(self) -> float | None:
        """Seconds to the end of the last planned stage; None before the first step was measured."""
        measured = {stage: median(paces[-WINDOW:]) for stage, paces in self._paces.items()}
        if not measured:
            return None
        usual = max(measured.values())
        ahead = zip(self._plans[self._part :], self._done[self._part :], strict=True)
        return sum(
            (total - done[stage]) * measured.get(stage, usual)
            for plan, done in ahead
            for stage, total in plan.items()
        )

    @property
    def fraction(self) -> float:
        """Share of all planned steps that is done, 0 to 1."""
        total = sum(sum(plan.values()) for plan in self._plans)
        return sum(sum(done.values()) for done in self._done) / total if total else 0.0

    @property
    def total(self) -> int:
        """The steps of the stage under way."""
        return 0 if self.stage is None else self._plans[self._part].get(self.stage, 0)

    def words(self) -> str:
        """The progress line."""
        if self.stage is None:
            return strings.STARTING
        left = strings.seconds_left(self.seconds_left())
        words = strings.step(self.stage, self._done[self._part][self.stage], self.total, left)
        return strings.of_anchor(self._part + 1, len(self._plans), words)

    def stages(self) -> list[dict]:
        """Every stage of the anchor under way with its share done, for the list beside the preview."""
        done = self._done[self._part]
        return [
            {
                "name": stage,
                "label": strings.stage_short(stage),
                "fraction": done[stage] / total if total else 0.0,
                "now": stage == self.stage,
            }
            for stage, total in self._plans[self._part].items()
        ]
