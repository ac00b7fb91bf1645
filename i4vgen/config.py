"""The validated configuration of a run.

Every parameter is declared once, as a field of `GenerationConfig` with its bounds, names and help. The
command-line options, the form, the endpoints' parameters and the request in run.json all follow from these
fields.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from fractions import Fraction
from functools import cache
from typing import Any, get_type_hints

from i4vgen.bounds import check_text, shown
from i4vgen.errors import InvalidInputError
from i4vgen.presets import PRESETS, Round, Sampling, fast_rounds, fast_sampling

__all__ = ["Defaults", "GenerationConfig", "InvalidInputError", "Parameter", "offered_parameters", "parameters"]

MAX_CANDIDATES = 64
MAX_ANCHORS = 4  # anchors animated in one run of the studio, as many as fit side by side
MAX_STEPS = 500  # above this, "leading" timesteps run past the end of a schedule of 1000
MAX_SIDE = 4096
MAX_SEED = 2**63 - 1

CANDIDATES, ANIMATION, BASELINES = "candidates", "animation", "baselines"


@dataclass(frozen=True)
class Parameter:
    """The description and the bounds of one field of `GenerationConfig`.

    Attributes:
        label: Name in the form.
        help: One sentence for the form, the command line and the endpoints.
        affects: The parts of a run that depend on the field.
        low: Lowest value, inclusive.
        high: Highest value, inclusive.
        slider: Lowest value, highest value (None for `high`) and step of the form's slider, if narrower than
            the bounds.
        choices: The allowed strings; empty for free text.
        option: Shorter name for the command line; empty for the field's name.
        metavar: Placeholder in the command line's help.
        advanced: Whether the form hides it under the advanced settings.
        offered: Whether users can set it in the form and on the command line.
        omit_default: Whether `to_dict` omits the default value. Set for fields added later, so that earlier
            runs keep their names and bytes.
        default: The field's default; None if it has none.
        kind: The field's type: str, int or float.
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
    omit_default: bool = False
    default: Any = None
    kind: type = str

    @property
    def range(self) -> tuple[float, float, float]:
        """The lowest value, highest value and step of the form's slider."""
        low, high, step = self.slider or (self.low, self.high, 1)
        return low, self.high if high is None else high, step

    def check(self, name: str, value: Any) -> Any:
        """Validates a value of the field `name` and converts it to `kind`.

        Raises:
            InvalidInputError: The value is of another type, out of bounds or not one of `choices`.
        """
        if self.kind is str:
            text = check_text(name, value)
            if self.choices and text not in self.choices:
                raise InvalidInputError(f"{name} must be one of {', '.join(self.choices)}, not {text!r}")
            return text
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # No bounds contain nan or an infinity. Sliders and JSON send 25.0 for 25.
        fits = number and self.low <= value <= self.high and (self.kind is float or value == int(value))
        if not fits:
            what = "number" if self.kind is float else "whole number"
            raise InvalidInputError(
                f"{name} must be a {what} from {self.low} to {self.high}, not {shown(value)}"
            )
        return self.kind(value)


def parameter(default: object = MISSING, **about: Any) -> Any:
    """Declares a field of `GenerationConfig`.

    Args:
        default: The field's default; without one, the field is required.
        about: The attributes of the field's `Parameter`.
    """
    return field(default=default, metadata={"parameter": Parameter(**about)})


@dataclass(frozen=True)
class Defaults:
    """A model's default settings and limits. The values here are AnimateDiff's at 512 x 512.

    Attributes:
        num_frames: Frames of a video.
        height: Height in pixels, a multiple of `size_multiple`.
        width: Width in pixels, a multiple of `size_multiple`.
        fps: Frames per second of playback.
        p_ni_vsds: The share of the steps that NI-VSDS runs.
        p_re: The share of the steps that the regeneration runs.
        max_frames: The longest video that the model supports.
        frames_per_latent: Video frames per latent frame. The first video frame has its own latent frame, so
            the length of a video is a multiple of this, plus 1.
        sampler: The default sampler.
        samplers: All supported samplers.
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
        """The minimum, the maximum and the step of a video's number of frames."""
        return 1 + self.frames_per_latent, self.max_frames, self.frames_per_latent

    def latent_frames(self, num_frames: int) -> int:
        """Returns the number of latent frames of a video with `num_frames` frames."""
        return (num_frames - 1) // self.frames_per_latent + 1


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """The settings that determine a run's result, except the model and the choice of the anchor.

    `preset` selects the sampling of I4VGen (module `presets`). Comparisons always use `sampler` and
    `num_inference_steps`.

    Raises:
        InvalidInputError: A value is invalid for every model. `for_model` also checks the model's limits.
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
        slider=(2, None, 1),  # the maximum depends on the model (`range_for`)
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
        help="Denoising steps: more give finer results and take longer.",
        low=1,
        high=MAX_STEPS,
        slider=(1, 100, 1),
        option="steps",
    )
    guidance_scale: float = parameter(
        label="Guidance scale",
        help="How closely to follow the prompt; 1 or less turns guidance off and halves the work.",
        low=0,
        high=100,
        slider=(1, 20, 0.5),
        metavar="X",
    )
    sampler: str = parameter(
        "ddim",
        label="Sampler",
        help="ddim, ddpm, dpm++ or unipc, if the model supports it.",
        metavar="NAME",
    )
    p_ni_vsds: float = parameter(
        0.6,
        label="NI-VSDS share",
        help="Share of the steps for NI-VSDS, which sets the anchor in motion, 0 to 1.",
        affects=frozenset({ANIMATION}),
        low=0,
        high=1,
        slider=(0, 1, 0.05),
        metavar="X",
    )
    p_re: float = parameter(
        1.0,
        label="Regeneration share",
        help="Share of the steps for the regeneration, which redraws the moving video, up to 1.",
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
    animate_best: int = parameter(
        1,
        label="Animate the best",
        help="Animate this many of the best candidates and keep the video with the highest reward: takes that"
        " many times as long.",
        affects=frozenset({ANIMATION}),
        low=1,
        high=MAX_CANDIDATES,
        slider=(1, MAX_ANCHORS, 1),
        omit_default=True,
    )
    negative_prompt: str = parameter(
        "", label="Negative prompt", help="What the video should not show.", metavar="TEXT"
    )
    candidate_batch_size: int = parameter(
        16,
        label="Candidates at once",
        help="How many candidates to denoise at once: fewer need less memory.",
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
        """The sampling of the comparisons."""
        return Sampling(self.sampler, self.num_inference_steps)

    @property
    def sampling(self) -> Sampling:
        """The sampling of I4VGen, used for the candidates, NI-VSDS and the regeneration."""
        if self.preset == "faithful":
            return self.baseline_sampling
        return fast_sampling(self.num_inference_steps)

    @property
    def stride(self) -> Fraction:
        """The average number of baseline steps per step of I4VGen."""
        return Fraction(self.num_inference_steps, self.sampling.steps)

    def candidate_rounds(self, count: int, has_reward: bool) -> list[Round]:
        """Returns the rounds that denoise `count` candidates. The best of each round advance to the next.

        Args:
            count: The number of candidates.
            has_reward: Whether there is a reward model. Without one, all candidates are finished.
        """
        if self.preset == "faithful" or not has_reward:
            return [Round(count, self.sampling.steps)]
        return fast_rounds(count, self.sampling.steps)

    def image_steps(self, count: int, has_reward: bool) -> int:
        """Returns the number of denoising steps in all `candidate_rounds`, summed over the candidates."""
        return sum(candidates * steps for candidates, steps in self.candidate_rounds(count, has_reward))

    @property
    def ni_vsds_steps(self) -> int:
        """The denoising steps of NI-VSDS: min(floor(n * p_ni_vsds) + 1, n), where n is `sampling.steps`."""
        return min(int(self.sampling.steps * self.p_ni_vsds) + 1, self.sampling.steps)

    @property
    def regeneration_steps(self) -> int:
        """The denoising steps of the regeneration: floor(n * p_re), where n is `sampling.steps`."""
        return int(self.sampling.steps * self.p_re)

    @classmethod
    def for_model(cls, defaults: Defaults, **given: object) -> GenerationConfig:
        """Returns a configuration for a model, whose defaults replace missing values and None.

        Raises:
            InvalidInputError: A value is invalid, or the model does not support it.
        """
        names = {f.name for f in fields(cls)}
        values = {k: v for k, v in asdict(defaults).items() if k in names}
        values |= {k: v for k, v in given.items() if v is not None}
        config = cls.from_dict(values)
        config.check(defaults)
        return config

    def check(self, defaults: Defaults) -> None:
        """Checks this configuration against a model's limits.

        Raises:
            InvalidInputError: The model does not support a value, or `animate_best` exceeds the number of
                candidates that the preset finishes.
        """
        if self.num_frames > defaults.max_frames:
            raise InvalidInputError(
                f"num_frames must be at most {defaults.max_frames} for this model, not {self.num_frames}"
            )
        multiple = defaults.frames_per_latent
        if surplus := (self.num_frames - 1) % multiple:
            lower = max(self.num_frames - surplus, multiple + 1)
            raise InvalidInputError(
                f"num_frames must be a multiple of {multiple}, plus 1, for this model, not {self.num_frames}:"
                f" try {lower} or {lower + multiple}"
            )
        if self.sampler not in defaults.samplers:
            known = ", ".join(defaults.samplers)
            raise InvalidInputError(f"sampler must be one of {known} for this model, not {shown(self.sampler)}")
        finished = self.candidate_rounds(self.num_candidates, has_reward=True)[-1].candidates
        if self.animate_best > finished:
            raise InvalidInputError(
                f"animate_best must be at most {finished}, as many candidates as preset {self.preset} finishes,"
                f" not {self.animate_best}: draw more candidates or animate fewer"
            )
        for name in ("height", "width"):
            value, multiple = getattr(self, name), defaults.size_multiple
            if value % multiple:
                lower = max(value // multiple, 1) * multiple
                raise InvalidInputError(
                    f"{name} must be a multiple of {multiple} for this model, not {value}:"
                    f" try {lower} or {lower + multiple}"
                )

    def to_dict(self) -> dict:
        """Returns the configuration as JSON types for run.json."""
        values, known = asdict(self), parameters()
        return {k: v for k, v in values.items() if not known[k].omit_default or v != known[k].default}

    @classmethod
    def from_dict(cls, values: dict) -> GenerationConfig:
        """Builds a configuration from the output of `to_dict`.

        Raises:
            InvalidInputError: A value is missing, unknown or invalid.
        """
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
    """Returns all parameters by field name, in order of declaration."""
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
    """Returns the lowest value, highest value and step of a number in the form, for one model."""
    return defaults.frame_range if name == "num_frames" else parameters()[name].range


def offered_parameters() -> dict[str, Parameter]:
    """Returns the parameters that users can set in the form and on the command line."""
    return {name: about for name, about in parameters().items() if about.offered}
