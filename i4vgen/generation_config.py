"""One validated configuration of a run.

Every parameter is declared once, as a field of `GenerationConfig`: its bounds, its names and what people are
told about it. The command line, the form, the endpoints and run.json follow from that.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any, get_type_hints

from i4vgen.bounds import check_text, shown
from i4vgen.errors import InvalidInputError

__all__ = ["Defaults", "GenerationConfig", "InvalidInputError", "Parameter", "offered_parameters", "parameters"]

MAX_CANDIDATES = 64
MAX_STEPS = 500  # above this, "leading" timesteps run off the end of a schedule of 1000
MAX_SIDE = 4096
MAX_SEED = 2**63 - 1

CANDIDATES, ANIMATION, BASELINES = "candidates", "animation", "baselines"


@dataclass(frozen=True)
class Parameter:
    """What people are told about one field of `GenerationConfig`, and which values it takes.

    Attributes:
        label: Its name in the form.
        help: One sentence for the form, the command line and the endpoints.
        affects: Which parts of a run depend on it.
        low: Lowest value, inclusive.
        high: Highest value, inclusive.
        slider: Lowest value, highest value and step of the form's slider, where people rarely need all values.
        choices: All values of a text that is no free text.
        option: Its name on the command line, if that is shorter than the field's.
        metavar: What stands for its value in the command line's help.
        advanced: Whether the form tucks it away.
        offered: Whether people are asked for it at all.
        default: The field's default, None if it has none.
        kind: str, int or float: the field's annotation.
    """

    label: str
    help: str
    affects: frozenset[str] = frozenset({CANDIDATES, ANIMATION, BASELINES})
    low: float = -math.inf
    high: float = math.inf
    slider: tuple[float, float | None, float] | None = None
    choices: tuple[str, ...] = ()
    option: str = ""
    metavar: str = "N"
    advanced: bool = True
    offered: bool = True
    default: Any = None
    kind: type = str

    @property
    def range(self) -> tuple[float, float, float]:
        """Lowest value, highest value and step of the form's slider, or else of all values."""
        low, high, step = self.slider or (self.low, self.high, 1)
        return low, self.high if high is None else high, step

    def check(self, name: str, value: Any) -> Any:
        """The value of the field of this name, as `kind`.

        Raises:
            InvalidInputError: It is of another type or out of bounds.
        """
        if self.kind is str:
            text = check_text(name, value)
            if self.choices and text not in self.choices:
                raise InvalidInputError(f"{name} must be one of {', '.join(self.choices)}, not {text!r}")
            return text
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # Sliders and JSON hand over 25.0 for 25: the same number.
        fits = number and math.isfinite(value) and (self.kind is float or value == int(value))
        if not fits or not self.low <= value <= self.high:
            what = "number" if self.kind is float else "whole number"
            raise InvalidInputError(
                f"{name} must be a {what} from {self.low} to {self.high}, not {shown(value)}"
            )
        return self.kind(value)


def parameter(default: object = MISSING, **about: Any) -> Any:
    """A field of `GenerationConfig`. about: of `Parameter`."""
    return field(default=default, metadata={"parameter": Parameter(**about)})


@dataclass(frozen=True)
class Defaults:
    """What a model is best run with, and its limits. Unless it says otherwise: AnimateDiff's, at 512 x 512.

    num_frames, max_frames: frames of a video; the longest that the model takes.
    frames_per_latent: how many frames of a video share a frame of latents. The first has one of its own, so a
    video has a multiple of this, plus 1.
    height, width: pixels; both must be multiples of `size_multiple`.
    fps: frames per second of playback.
    p_ni_vsds, p_re: the shares of the steps that NI-VSDS and the regeneration run.
    sampler, samplers: the model's own; all that it can be run with.
    """

    num_frames: int = 16
    height: int = 512
    width: int = 512
    fps: int = 8
    num_inference_steps: int = 25
    guidance_scale: float = 7.5
    p_ni_vsds: float = 0.6
    p_re: float = 1.0
    num_candidates: int = 16
    candidate_batch_size: int = 16
    max_frames: int = 32
    frames_per_latent: int = 1
    size_multiple: int = 8
    sampler: str = "ddim"
    samplers: tuple[str, ...] = ("ddim", "dpm++")
    negative_prompt: str = ""

    @property
    def frame_range(self) -> tuple[int, int, int]:
        """Fewest and most frames of a video, and how many more make the next length."""
        each = self.frames_per_latent
        return 1 + each, self.max_frames, each

    def latent_frames(self, num_frames: int) -> int:
        """How many frames of latents stand for so many frames of a video."""
        return (num_frames - 1) // self.frames_per_latent + 1


@dataclass(frozen=True)
class Sampling:
    """A sampler by name and its number of steps."""

    sampler: str
    steps: int


PRESETS = ("faithful", "fast")
FAST_SAMPLER = "dpm++"
FAST_SHARE = 0.48  # of the steps: 12 of 25
SKETCH_SHARE = 0.6  # of the steps: then all candidates are looked at
FINISHED_SHARE = 0.25  # of the candidates: the best, which are drawn to the end


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Everything that decides what a run computes, apart from the model and the choice of the anchor.

    `preset`: "faithful" runs I4VGen with `sampler` and `num_inference_steps`, as the paper does; "fast" runs it
    with DPM-Solver++ and half the steps, and of the candidates, which it sketches first, it finishes the best.
    What it is compared with always runs with the former.

    Raises:
        InvalidInputError: A value that no model could run; `for_model` also checks one model's limits.
    """

    prompt: str = parameter(label="Prompt", help="What the video should show.", metavar="TEXT", advanced=False)
    seed: int = parameter(
        0,
        label="Seed",
        help="The same seed gives the same video.",
        low=0,
        high=MAX_SEED,
        advanced=False,
    )
    num_candidates: int = parameter(
        16,
        label="Candidates",
        help="How many images to choose from, 1 to 64.",
        affects=frozenset({CANDIDATES}),
        low=1,
        high=MAX_CANDIDATES,
        slider=(1, MAX_CANDIDATES, 1),
        option="candidates",
        advanced=False,
    )
    num_frames: int = parameter(
        label="Frames",
        help="Length of the video in frames.",
        affects=frozenset({ANIMATION, BASELINES}),
        low=2,
        high=1024,
        slider=(2, None, 1),  # of the model: `range_for`
        option="frames",
    )
    height: int = parameter(
        label="Height", help="Height of the video in pixels.", low=8, high=MAX_SIDE, metavar="PIXELS"
    )
    width: int = parameter(
        label="Width", help="Width of the video in pixels.", low=8, high=MAX_SIDE, metavar="PIXELS"
    )
    num_inference_steps: int = parameter(
        25,
        label="Denoising steps",
        help="Denoising steps: more are finer and take longer.",
        low=1,
        high=MAX_STEPS,
        slider=(1, 100, 1),
        option="steps",
    )
    guidance_scale: float = parameter(
        label="Guidance scale",
        help="How closely to follow the prompt; up to 1: no guidance, half the work.",
        low=0,
        high=100,
        slider=(1, 20, 0.5),
        metavar="X",
    )
    sampler: str = parameter(
        "ddim",
        label="Sampler",
        help="ddim, ddpm, dpm++ or unipc, of those that the model can be run with.",
        metavar="NAME",
    )
    p_ni_vsds: float = parameter(
        0.6,
        label="NI-VSDS share",
        help="Share of the steps that NI-VSDS runs, 0 to 1: they set the anchor in motion.",
        affects=frozenset({ANIMATION}),
        low=0,
        high=1,
        slider=(0, 1, 0.05),
        metavar="X",
    )
    p_re: float = parameter(
        1.0,
        label="Regeneration share",
        help="Share of the steps that the regeneration runs, up to 1: they redraw the moving video.",
        affects=frozenset({ANIMATION}),
        low=0,
        high=1,
        slider=(0.05, 1, 0.05),
        metavar="X",
    )
    preset: str = parameter(
        "faithful",
        label="Preset",
        help="faithful (the paper's settings) or fast (half the steps; only the best sketches are finished).",
        affects=frozenset({CANDIDATES, ANIMATION}),
        choices=PRESETS,
        metavar="NAME",
    )
    negative_prompt: str = parameter(
        "", label="Negative prompt", help="What the video should not show.", metavar="TEXT"
    )
    candidate_batch_size: int = parameter(
        16,
        label="Candidates at once",
        help="How many candidates are denoised at once: fewer need less memory.",
        affects=frozenset({CANDIDATES}),
        low=1,
        high=MAX_CANDIDATES,
        option="batch-size",
        offered=False,
    )

    def __post_init__(self) -> None:
        for name, about in parameters().items():
            object.__setattr__(self, name, about.check(name, getattr(self, name)))
        if not self.prompt.strip():
            raise InvalidInputError("prompt is empty: describe what the video should show")
        if self.regeneration_steps < 1:
            raise InvalidInputError(
                f"p_re {self.p_re:g} of {self.sampling.steps} steps leaves nothing to regenerate:"
                f" p_re must be at least {1 / self.sampling.steps:g}"
            )

    @property
    def baseline_sampling(self) -> Sampling:
        """How the videos that I4VGen is compared with are sampled."""
        return Sampling(self.sampler, self.num_inference_steps)

    @property
    def sampling(self) -> Sampling:
        """How I4VGen samples: its candidates, the timesteps of NI-VSDS, the regeneration."""
        if self.preset == "faithful":
            return self.baseline_sampling
        return Sampling(FAST_SAMPLER, max(1, round(self.num_inference_steps * FAST_SHARE)))

    @property
    def sketch_steps(self) -> int:
        """Denoiser steps after which the candidates are looked at and only the best go on; 0: all go on."""
        return 0 if self.preset == "faithful" else int(self.sampling.steps * SKETCH_SHARE)

    def finished_candidates(self, count: int) -> int:
        """How many of `count` candidates are drawn to the end where they are looked at before."""
        return math.ceil(count * FINISHED_SHARE) if self.sketch_steps else count

    def image_steps(self, count: int) -> int:
        """The denoiser steps of all of `count` candidates together."""
        finishing = self.sampling.steps - self.sketch_steps
        return self.sketch_steps * count + finishing * self.finished_candidates(count)

    @property
    def ni_vsds_steps(self) -> int:
        """Denoiser steps of NI-VSDS: floor(steps * p_ni_vsds) + 1, but no more than there are timesteps."""
        return min(int(self.sampling.steps * self.p_ni_vsds) + 1, self.sampling.steps)

    @property
    def regeneration_steps(self) -> int:
        """Denoiser steps of the regeneration: floor(steps * p_re)."""
        return int(self.sampling.steps * self.p_re)

    @classmethod
    def for_model(cls, defaults: Defaults, **given: object) -> GenerationConfig:
        """A request for one model: whatever is absent or None comes from its defaults.

        Raises `InvalidInputError` also for values that this model does not support.
        """
        names = {f.name for f in fields(cls)}
        values = {k: v for k, v in asdict(defaults).items() if k in names}
        values |= {k: v for k, v in given.items() if v is not None}
        config = cls.from_dict(values)
        config.check(defaults)
        return config

    def check(self, defaults: Defaults) -> None:
        """Raises `InvalidInputError` where this request goes beyond the limits of the model that `defaults`
        describes.
        """
        if self.num_frames > defaults.max_frames:
            raise InvalidInputError(
                f"num_frames must be at most {defaults.max_frames} for this model, not {self.num_frames}"
            )
        each = defaults.frames_per_latent
        if surplus := (self.num_frames - 1) % each:
            lower = max(self.num_frames - surplus, each + 1)
            raise InvalidInputError(
                f"num_frames must be a multiple of {each}, plus 1, for this model, not {self.num_frames}:"
                f" try {lower} or {lower + each}"
            )
        if self.sampler not in defaults.samplers:
            known = ", ".join(defaults.samplers)
            raise InvalidInputError(f"sampler must be one of {known} for this model, not {shown(self.sampler)}")
        for name in ("height", "width"):
            value, multiple = getattr(self, name), defaults.size_multiple
            if value % multiple:
                lower = max(value // multiple, 1) * multiple
                raise InvalidInputError(
                    f"{name} must be a multiple of {multiple} for this model, not {value}:"
                    f" try {lower} or {lower + multiple}"
                )

    def to_dict(self) -> dict:
        """The request as JSON types, for run.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> GenerationConfig:
        """The inverse of `to_dict`. Raises `InvalidInputError` for missing, unknown or wrong values."""
        if not isinstance(values, dict):
            raise InvalidInputError(f"a request must be a JSON object, not {shown(values)}")
        known = {each.name: each.default is MISSING for each in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise InvalidInputError(
                f"unknown setting {shown(unknown[0])}: known are {', '.join(sorted(known))}"
            )
        if missing := [name for name, required in known.items() if required and name not in values]:
            raise InvalidInputError(f"{missing[0]} is missing from the request")
        return cls(**values)


@cache
def parameters() -> dict[str, Parameter]:
    """All parameters, in order, by the names of their fields."""
    kinds = get_type_hints(GenerationConfig)
    return {
        each.name: replace(
            each.metadata["parameter"],
            kind=kinds[each.name],
            default=None if each.default is MISSING else each.default,
        )
        for each in fields(GenerationConfig)
    }


def range_for(name: str, defaults: Defaults) -> tuple[float, float, float]:
    """Lowest value, highest value and step of a number, as the form offers it for one model."""
    return defaults.frame_range if name == "num_frames" else parameters()[name].range


def offered_parameters() -> dict[str, Parameter]:
    """Those that people are asked for."""
    return {name: about for name, about in parameters().items() if about.offered}
