"""How far a run is and how long it still takes, from the steps it has measured. No Gradio here."""

from __future__ import annotations

import time
from statistics import median

from i4vgen.ui import strings

WINDOW = 8
"""So many recent steps are the pace: enough to be calm, few enough to notice a machine that slows down."""

SHOW_EVERY = 0.1
"""Seconds between two lines of progress: steps can be faster than a browser draws."""


class Tracker:
    """Follows the stages of a run.

    `plan` maps the stages to come to their number of steps; a `Stage` event may correct it.
    """

    def __init__(self, plan: dict[str, int]) -> None:
        self.plan = dict(plan)
        self.done = dict.fromkeys(plan, 0)
        self.stage: str | None = None
        self._paces: dict[str, list[float]] = {}
        self._shown = 0.0

    def begin(self, stage: str, total: int) -> None:
        """A stage begins. All before it are over."""
        self.stage = stage
        self.plan[stage] = total
        self.done[stage] = 0

    def step(self, stage: str, step: int, seconds: float) -> bool:
        """One denoising step of `stage` is done and took so many seconds. Returns whether to show it now."""
        self.stage = stage
        self.done[stage] = step
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
        return sum(
            (total - self.done[stage]) * measured.get(stage, usual) for stage, total in self.plan.items()
        )

    @property
    def fraction(self) -> float:
        """Share of all planned steps that is done, 0 to 1."""
        total = sum(self.plan.values())
        return sum(self.done.values()) / total if total else 0.0

    @property
    def total(self) -> int:
        """The steps of the stage under way."""
        return 0 if self.stage is None else self.plan.get(self.stage, 0)

    def words(self) -> str:
        """The progress line."""
        if self.stage is None:
            return strings.STARTING
        left = strings.seconds_left(self.seconds_left())
        return strings.step(self.stage, self.done[self.stage], self.plan[self.stage], left)

    def stages(self) -> list[dict]:
        """Every planned stage with its share done, for the list beside the preview."""
        return [
            {
                "name": stage,
                "label": strings.stage_short(stage),
                "fraction": self.done[stage] / total if total else 0.0,
                "now": stage == self.stage,
            }
            for stage, total in self.plan.items()
        ]
