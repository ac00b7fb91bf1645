"""One validated description of a run, the same for the command line, the app and the API."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from i4vgen.errors import InvalidInputError

__all__ = ["Defaults", "GenerationConfig", "InvalidInputError"]

MAX_CANDIDATES = 64
MAX_STEPS = 500  # above this, "leading" timesteps run off the end of a schedule of 1000
MAX_SIDE = 4096
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Defaults:
    """What a model is best run with, and its limits. Unless it says otherwise: AnimateDiff's, at 512 x 512.

    num_frames, max_frames: frames of a video; the longest that the motion modules take.
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
    size_multiple: int = 8
    sampler: str = "ddim"
    samplers: tuple[str, ...] = ("ddim", "dpm++")


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

    Units: `height` and `width` in pixels, `seed` any integer from 0 to 2**63 - 1. `candidate_batch_size` is
    how many candidates are denoised at once: less needs less memory.
    `preset`: "faithful" runs I4VGen with `sampler` and `num_inference_steps`, as the paper does; "fast" runs it
    with DPM-Solver++ and half the steps, and of the candidates, which it sketches first, it finishes the best.
    What it is compared with always runs with the former.
    Raises `InvalidInputError` for a value that no model could run; `for_model` also checks one model's limits.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    num_candidates: int = 16
    num_frames: int
    height: int
    width: int
    num_inference_steps: int = 25
    guidance_scale: float
    p_ni_vsds: float = 0.6
    p_re: float = 1.0
    candidate_batch_size: int = 16
    sampler: str = "ddim"
    preset: str = "faithful"

    def __post_init__(self):
        for name in ("prompt", "negative_prompt"):
            if not isinstance(getattr(self, name), str):
                raise InvalidInputError(f"{name} must be text, not {getattr(self, name)!r}")
        if not self.prompt.strip():
            raise InvalidInputError("prompt is empty: describe what the video should show")
        self._whole("seed", 0, MAX_SEED)
        self._whole("num_candidates", 1, MAX_CANDIDATES)
        self._whole("num_frames", 2, 1024)
        self._whole("height", 8, MAX_SIDE)
        self._whole("width", 8, MAX_SIDE)
        self._whole("num_inference_steps", 1, MAX_STEPS)
        self._whole("candidate_batch_size", 1, MAX_CANDIDATES)
        if self.preset not in PRESETS:
            raise InvalidInputError(f"preset must be one of {', '.join(PRESETS)}, not {self.preset!r}")
        self._real("guidance_scale", 0, 100)
        self._real("p_ni_vsds", 0, 1)
        self._real("p_re", 0, 1)
        if self.regeneration_steps < 1:
            raise InvalidInputError(
                f"p_re {self.p_re:g} of {self.sampling.steps} steps leaves nothing to regenerate:"
                f" p_re must be at least {1 / self.sampling.steps:g}"
            )

    def _whole(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        # Sliders and JSON hand over 25.0 for 25: the same number, so it is taken.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidInputError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
        object.__setattr__(self, name, value)

    def _real(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high:
            raise InvalidInputError(f"{name} must be a number from {low} to {high}, not {value!r}")
        object.__setattr__(self, name, float(value))

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
    def for_model(cls, defaults: Defaults, **given) -> GenerationConfig:
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
        if self.sampler not in defaults.samplers:
            raise InvalidInputError(
                f"sampler must be one of {', '.join(defaults.samplers)} for this model, not {self.sampler!r}"
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
        """The request as JSON types, for run.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> GenerationConfig:
        """The inverse of `to_dict`. Raises `InvalidInputError` for missing, unknown or wrong values."""
        if not isinstance(values, dict):
            raise InvalidInputError(f"a request must be a JSON object, not {values!r}")
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InvalidInputError(f"unknown setting {unknown[0]!r}: known are {', '.join(sorted(known))}")
        required = ("prompt", "num_frames", "height", "width", "guidance_scale")
        if missing := [name for name in required if name not in values]:
            raise InvalidInputError(f"{missing[0]} is missing from the request")
        return cls(**values)
