"""One validated description of a run, the same for the command line, the app and the API."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from i4vgen.errors import RequestError

__all__ = ["Defaults", "Request", "RequestError"]

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


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that decides what a run computes, apart from the model and the choice of the anchor.

    Units: `height` and `width` in pixels, `seed` any integer from 0 to 2**63 - 1. `candidate_batch_size` is
    how many candidates are denoised at once: less needs less memory.
    Raises `RequestError` for a value that no model could run; `for_model` also checks one model's limits.
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

    def __post_init__(self):
        for name in ("prompt", "negative_prompt"):
            if not isinstance(getattr(self, name), str):
                raise RequestError(f"{name} must be text, not {getattr(self, name)!r}")
        if not self.prompt.strip():
            raise RequestError("prompt is empty: describe what the video should show")
        self._whole("seed", 0, MAX_SEED)
        self._whole("num_candidates", 1, MAX_CANDIDATES)
        self._whole("num_frames", 2, 1024)
        self._whole("height", 8, MAX_SIDE)
        self._whole("width", 8, MAX_SIDE)
        self._whole("num_inference_steps", 1, MAX_STEPS)
        self._whole("candidate_batch_size", 1, MAX_CANDIDATES)
        self._real("guidance_scale", 0, 100)
        self._real("p_ni_vsds", 0, 1)
        self._real("p_re", 0, 1)
        if self.regeneration_steps < 1:
            raise RequestError(
                f"p_re {self.p_re:g} of {self.num_inference_steps} steps leaves nothing to regenerate:"
                f" p_re must be at least {1 / self.num_inference_steps:g}"
            )

    def _whole(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        # Sliders and JSON hand over 25.0 for 25: the same number, so it is taken.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise RequestError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
        object.__setattr__(self, name, value)

    def _real(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high:
            raise RequestError(f"{name} must be a number from {low} to {high}, not {value!r}")
        object.__setattr__(self, name, float(value))

    @property
    def ni_vsds_steps(self) -> int:
        """Denoiser steps of NI-VSDS: floor(steps * p_ni_vsds) + 1, but no more than there are timesteps."""
        return min(int(self.num_inference_steps * self.p_ni_vsds) + 1, self.num_inference_steps)

    @property
    def regeneration_steps(self) -> int:
        """Denoiser steps of the regeneration: floor(steps * p_re)."""
        return int(self.num_inference_steps * self.p_re)

    @classmethod
    def for_model(cls, defaults: Defaults, **given) -> Request:
        """A request for one model: whatever is absent or None comes from its defaults.

        Raises `RequestError` also for values that this model does not support.
        """
        names = {f.name for f in fields(cls)}
        values = {k: v for k, v in asdict(defaults).items() if k in names}
        values |= {k: v for k, v in given.items() if v is not None}
        request = cls.from_dict(values)
        request.check(defaults)
        return request

    def check(self, defaults: Defaults) -> None:
        """Raises `RequestError` where this request goes beyond the limits of the model that `defaults`
        describes.
        """
        if self.num_frames > defaults.max_frames:
            raise RequestError(
                f"num_frames must be at most {defaults.max_frames} for this model, not {self.num_frames}"
            )
        for name in ("height", "width"):
            value, multiple = getattr(self, name), defaults.size_multiple
            if value % multiple:
                lower = max(value // multiple, 1) * multiple
                raise RequestError(
                    f"{name} must be a multiple of {multiple} for this model, not {value}:"
                    f" try {lower} or {lower + multiple}"
                )

    def to_dict(self) -> dict:
        """The request as JSON types, for run.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Request:
        """The inverse of `to_dict`. Raises `RequestError` for missing, unknown or wrong values."""
        if not isinstance(values, dict):
            raise RequestError(f"a request must be a JSON object, not {values!r}")
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise RequestError(f"unknown setting {unknown[0]!r}: known are {', '.join(sorted(known))}")
        required = ("prompt", "num_frames", "height", "width", "guidance_scale")
        if missing := [name for name in required if name not in values]:
            raise RequestError(f"{missing[0]} is missing from the request")
        return cls(**values)
