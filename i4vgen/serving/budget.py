"""Checks runs against the limits of the app, and estimates how long they take."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from i4vgen.config import Defaults, GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.method.comparisons import COMPARISONS, stage_work, work
from i4vgen.serving.limits import PRIVATE, Limits
from i4vgen.serving.pace import Pace, RunClock
from i4vgen.serving.runtime import Runtime

MAX_AREA = 2
"""Maximum frame area, as a multiple of the model's default: memory and time grow with it."""


class VideoTooLargeError(InvalidInputError):
    """The video's frames have more pixels than this app allows for the model.

    Attributes:
        height, width: The requested size in pixels.
        most: The maximum number of pixels of a frame.
    """

    def __init__(self, height: int, width: int, most: int) -> None:
        super().__init__(f"{height} x {width} pixels; the limit is {most}")
        self.height, self.width, self.most = height, width, most


class TooMuchWorkError(InvalidInputError):
    """The run is more work than this app allows.

    Attributes:
        times: The work of the run as a multiple of the default run (`Limits.largest_run`).
        most: The maximum work, in the same unit.
    """

    def __init__(self, times: float, most: float) -> None:
        super().__init__(f"{times:g} times the default run; the limit is {most:g}")
        self.times, self.most = times, most


class TooLongError(InvalidInputError):
    """The run would take longer than this app allows.

    Attributes:
        seconds: The estimated minimum duration in seconds.
        most: The maximum duration in seconds.
    """

    def __init__(self, seconds: float, most: float) -> None:
        super().__init__(f"at least {seconds:g} s; the limit is {most:g}")
        self.seconds, self.most = seconds, most


@dataclass(frozen=True)
class RunPlan:
    """A run requested by a visitor.

    Attributes:
        runtime: The runtime of the model.
        config: The settings of the run.
        draws: Number of candidates to draw.
        anchors: Number of anchors to animate. Those that `animate_best` selects count as one.
        compare: The names of the comparisons. All anchors share them, except with image-to-video models.
        reused: Those of the comparisons that the first anchor needs no new video for.
    """

    runtime: Runtime
    config: GenerationConfig
    draws: int = 0
    anchors: int = 0
    compare: Collection[str] = ()
    reused: Collection[str] = ()

    @classmethod
    def whole(cls, runtime: Runtime, config: GenerationConfig, compare: Collection[str] = ()) -> RunPlan:
        """Plans a run from the prompt to the video of the best candidate."""
        return cls(runtime, config, config.num_candidates, 1, compare)

    @property
    def model(self) -> str:
        """The key of the model in `Pace`: its name and base. Other parts do not affect the time per step."""
        return f"{self.runtime.spec.model} {self.runtime.spec.base}"

    def stages(self) -> tuple[dict[str, int], dict[str, int]]:
        """Returns the work of one pass through each stage, and the number of passes by stage."""
        config = replace(self.config, num_candidates=self.draws or 1)
        stages = stage_work(config, self.compare, self.runtime.defaults, self.runtime.has_reward)
        times = dict.fromkeys(stages, self.anchors) | {"candidates": min(self.draws, 1)}
        if not self.runtime.entry.backbone.image_to_video:
            times |= dict.fromkeys(stages.keys() & COMPARISONS.keys(), min(self.anchors, 1))
        return stages, times | {name: times[name] - 1 for name in self.reused}


@dataclass(frozen=True)
class Budget:
    """Checks runs against the limits and estimates how long they take.

    Attributes:
        limits: The limits of the app.
        pace: The measured durations of earlier runs.
    """

    limits: Limits = PRIVATE
    pace: Pace = field(default_factory=Pace)

    def check(self, plan: RunPlan) -> None:
        """Checks the size and the work of a run, counting at least one anchor and all candidates.

        Raises:
            VideoTooLargeError: A frame has too many pixels.
            TooMuchWorkError: The run is too much work.
        """
        defaults, has_reward, most = plan.runtime.defaults, plan.runtime.has_reward, self.limits.largest_run
        check_size(plan.config, defaults)
        if most is None:
            return
        asked = work(plan.config, plan.compare, defaults, has_reward, max(plan.anchors, 1))
        times = asked / work(default_run(defaults), ("vanilla",), defaults, has_reward)
        if times > most:
            raise TooMuchWorkError(times, most)

    def check_time(self, plan: RunPlan) -> None:
        """Checks the duration of a run, estimated from measured runs.

        Call this only when the run is submitted: later measurements must not reject an accepted run.

        Raises:
            TooLongError: The run would take too long.
        """
        if self.limits.longest_run is None:
            return
        stages, times = plan.stages()
        seconds = self.pace.lower_bound(plan.model, {name: times[name] * work for name, work in stages.items()})
        if seconds > self.limits.longest_run:
            raise TooLongError(seconds, self.limits.longest_run)

    def clock(self, plan: RunPlan) -> RunClock:
        """Returns a clock for a run."""
        defaults = plan.runtime.defaults
        whole = stage_work(default_run(defaults), COMPARISONS, defaults, plan.runtime.has_reward)
        stages, times = plan.stages()
        return RunClock(self.pace, plan.model, stages, {name: work / 2 for name, work in whole.items()}, times)


def default_run(defaults: Defaults) -> GenerationConfig:
    """Returns a configuration with a model's default settings."""
    return GenerationConfig.for_model(defaults, prompt="-")


def check_size(config: GenerationConfig, defaults: Defaults) -> None:
    """Checks the frame area of a video against `MAX_AREA`.

    Raises:
        VideoTooLargeError: A frame has too many pixels.
    """
    most = MAX_AREA * defaults.height * defaults.width
    if config.height * config.width > most:
        raise VideoTooLargeError(config.height, config.width, most)
