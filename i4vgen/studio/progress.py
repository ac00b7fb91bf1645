"""Words and bars for the progress of a run. Does not import Gradio."""

from __future__ import annotations

import time
from collections.abc import Mapping

from i4vgen.serving.pace import RunClock
from i4vgen.studio import strings

SHOW_EVERY = 0.1
"""Minimum seconds between two progress updates. Steps can be faster than a browser draws."""


class RunProgress:
    """Follows a run through its stages, for one anchor or several in turn.

    Args:
        clock: The clock of the run, which follows the same events.
        plans: The number of steps by stage, one mapping per anchor. A `Stage` event may correct a number.
    """

    def __init__(self, clock: RunClock, *plans: Mapping[str, int]) -> None:
        self._clock = clock
        self._plans = [dict(plan) for plan in plans]
        self._done = [dict.fromkeys(plan, 0) for plan in plans]
        self._part = 0
        self.stage: str | None = None
        self._shown = 0.0

    def begin_part(self, part: int) -> None:
        """Begins the plan with this index."""
        self._part, self.stage = part, None

    def begin(self, stage: str, total: int) -> None:
        """Begins a stage."""
        self.stage = stage
        self._plans[self._part][stage] = total
        self._done[self._part][stage] = 0

    def step(self, stage: str, step: int) -> bool:
        """Records a denoising step. Returns whether to show it now."""
        self.stage = stage
        self._done[self._part][stage] = step
        now = time.monotonic()
        if step > 1 and now - self._shown < SHOW_EVERY:
            return False
        self._shown = now
        return True

    @property
    def total(self) -> int:
        """Number of steps of the current stage."""
        return 0 if self.stage is None else self._plans[self._part].get(self.stage, 0)

    def words(self) -> str:
        """Returns the progress line."""
        if self.stage is None:
            return strings.STARTING
        done, left = self._done[self._part][self.stage], strings.seconds_left(self._clock.seconds_left)
        words = f"{strings.stage(self.stage)}: step {done} of {self.total}, {left}"
        return f"Anchor {self._part + 1} of {len(self._plans)}. {words}" if len(self._plans) > 1 else words

    def stages(self) -> list[dict]:
        """Returns the stages of the current anchor with their completed shares, for the live view."""
        done = self._done[self._part]
        return [
            {
                "name": stage,
                "label": strings.label(stage),
                "fraction": done[stage] / total if total else 0.0,
                "now": stage == self.stage,
            }
            for stage, total in self._plans[self._part].items()
        ]
