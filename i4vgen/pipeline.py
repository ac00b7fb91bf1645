"""The I4VGen method (arXiv 2406.02230) as iterators of events.

Stage 1, anchor image synthesis (equations 3 and 4): N candidate images are denoised and scored; the best one,
or the one that a person picks or brings, is the anchor. Stage 2, anchor image-guided video synthesis
(equation 5): NI-VSDS sets the still anchor in motion, then the video is regenerated from a noised copy.

Nothing happens until an iterator is advanced, and it can be closed between any two events. Every random
number is drawn on the CPU from the request's seed, so a request gives the same video wherever the networks
run, up to their rounding.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch
from PIL import Image

from i4vgen.backbones.base import Backbone, PromptEmbeds, Sampler
from i4vgen.errors import InvalidInputError
from i4vgen.events import Candidate, Event, Result, Scores, Selected, best
from i4vgen.free_init import ITERATIONS, FrequencyMixer
from i4vgen.generation_config import GenerationConfig, Sampling
from i4vgen.media import fit_picture
from i4vgen.ni_vsds import ni_vsds
from i4vgen.noise import SeedNoise
from i4vgen.rewards.base import Reward
from i4vgen.sampling import DenoiseStep, denoise
from i4vgen.tracking import StageTracker


@dataclass(frozen=True)
class Anchor:
    """The image that is set in motion. Made by `from_candidate` or `from_image`.

    image: uint8 [H, W, 3] of a candidate, or a picture of any size and mode, not yet fitted and encoded.
    latents: float32 [C, 1, h, w] of a candidate, None for a picture.
    index: the candidate's index, None for a picture.
    """

    image: np.ndarray | Image.Image
    latents: np.ndarray | None
    index: int | None
    reason: str

    @classmethod
    def from_candidate(cls, candidate: Candidate, reason: str = "picked") -> Anchor:
        """The anchor is this candidate: its own latents are animated, nothing is encoded again."""
        return cls(candidate.image, candidate.latents, candidate.index, reason)

    @classmethod
    def from_image(cls, image: Image.Image) -> Anchor:
        """The anchor is one's own picture: turned upright, flattened on white, cropped in the middle,
        resized, encoded.
        """
        return cls(image, None, None, "own picture")


COMPARISONS = ("vanilla", "freeinit")

SCORED_AT_ONCE = 16  # images


class I4VGenPipeline:
    """The method on any backbone with any reward models. `run` is the chain, the other methods its links.

    Every method takes a `GenerationConfig` and returns an iterator of events (see `events.py`), which raises
    `InvalidInputError` when it is first advanced if the backbone cannot serve the request.
    previews: the share of its time, on top, that a video may spend on being decoded for a `Preview`, which then
    follow as often as that allows; 0 is never.
    """

    def __init__(self, backbone: Backbone, rewards: Sequence[Reward] = (), noise=SeedNoise):
        """rewards: the first one selects, the others are shown beside it; without any, only people select.
        noise: makes a run's noise, called as `SeedNoise` is.
        """
        self.backbone = backbone
        self.rewards = tuple(rewards)
        self._make_noise = noise
        self._encoded: tuple[tuple[str, str], PromptEmbeds] | None = None

    def run(
        self,
        config: GenerationConfig,
        anchor: Anchor | int | None = None,
        compare: Sequence[str] = ("vanilla",),
        previews: float = 0.0,
        judge: bool = False,
    ) -> Iterator[Event]:
        """The chain: candidates, selection, NI-VSDS, regeneration, and what they are to be compared with.

        anchor: None selects the highest reward; an int picks that candidate; an `Anchor` needs no candidates,
        so none are made. compare: any of `COMPARISONS`. judge: whether the reward models look at every finished
        video.
        """
        if unknown := [name for name in compare if name not in COMPARISONS]:
            raise InvalidInputError(
                f"cannot compare with {unknown[0]!r}: only with {' and '.join(COMPARISONS)}"
            )
        if not isinstance(anchor, Anchor):
            self._check_choice(config, anchor)
            candidates: dict[int, Candidate] = {}
            for event in self.candidates(config):
                if isinstance(event, Candidate):
                    candidates[event.index] = event
                yield event
            if anchor is None:
                anchor = Anchor.from_candidate(best(candidates.values()), "highest reward")
            else:
                anchor = Anchor.from_candidate(candidates[anchor])
        yield from self.animate(config, anchor, previews, compare, judge)

    def candidates(self, config: GenerationConfig, first: int = 0) -> Iterator[Event]:
        """Stage 1. For each chunk Progress for every step, then a Candidate for each of its images.

        With `GenerationConfig.sketch_steps` and a reward model, all come as sketches first, and then the best
        once more, finished.

        first: the index to begin with, where the ones before it are there already: the noise goes on where
        theirs ended.
        """
        prompt, noise = self._prepare(config)
        indices, steps = range(first, config.num_candidates), config.sampling.steps
        latents = dict(zip(indices, noise.frames(first, config.num_candidates), strict=True))
        # One stream per candidate: what a candidate looks like must not depend on its chunk.
        streams = {index: noise.generator(f"candidate {index}") for index in indices}
        chunks = partial(_chunks, size=config.candidate_batch_size)
        finished = config.finished_candidates(len(indices)) if self.rewards else len(indices)
        screening = config.sketch_steps if finished < len(indices) else 0

        def denoised(chunk: Sequence[int], last: int) -> Iterator[DenoiseStep]:
            return denoise(
                self.backbone,
                torch.stack([latents[index] for index in chunk]).to(self.backbone.device),
                self._sampler(config.sampling, last),
                prompt,
                config.guidance_scale,
                [streams[index] for index in chunk],
            )

        total = screening * len(chunks(indices)) + (steps - screening) * len(chunks(indices[:finished]))
        tracker = StageTracker("candidates", total)
        yield tracker.begin()
        if screening:
            sketches: list[Candidate] = []
            for chunk in chunks(indices):
                step = yield from tracker.follow(islice(denoised(chunk, steps), screening))
                latents |= zip(chunk, step.latents.cpu(), strict=True)
                seen = self._see(config.prompt, chunk, step.predict_x0(), sketch=True)
                sketches += seen
                yield from seen
            sketches.sort(key=lambda sketch: sketch.rank_key)
            indices = sorted(sketch.index for sketch in sketches[:finished])
        for chunk in chunks(indices):
            step = yield from tracker.follow(denoised(chunk, steps - screening))
            yield from self._see(config.prompt, chunk, step.latents)

    def _see(
        self, prompt: str, indices: Sequence[int], latents: torch.Tensor, sketch: bool = False
    ) -> list[Candidate]:
        """The candidates whose clean latents [B, C, 1, h, w] these are, scored."""
        images = self.backbone.decode(latents)[:, 0]
        scores, arrays = self._score(prompt, images), latents.cpu().numpy()
        found = zip(indices, images, scores, arrays, strict=True)
        return [Candidate(*candidate, sketch=sketch) for candidate in found]

    def score(self, prompt: str, images: Sequence[np.ndarray]) -> Iterator[Scores]:
        """Judges pictures uint8 [H, W, 3] against a prompt: a `Scores` for each, in order."""
        if not self.rewards:
            raise InvalidInputError("this model has no reward model: choose one, or another model")
        for start in range(0, len(images), SCORED_AT_ONCE):
            for scores in self._score(prompt, images[start : start + SCORED_AT_ONCE]):
                yield Scores(scores)

    def animate(
        self,
        config: GenerationConfig,
        anchor: Anchor,
        previews: float = 0.0,
        compare: Sequence[str] = (),
        judge: bool = False,
    ) -> Iterator[Event]:
        """Stage 2. Selected, then Stage, Progress and Result of NI-VSDS, then those of the regeneration and of
        every comparison. judge: as in `run`.
        """
        prompt, _ = self._prepare(config)
        image, still = self._anchor_latents(config, anchor)
        yield Selected(anchor.index, image, anchor.reason)
        prompt = self.backbone.condition(prompt, still)
        watch = partial(self._judged, config.prompt) if judge else iter
        latents = yield from watch(self.distill(config, still, previews, prompt))
        yield from watch(self.regenerate(config, latents, previews, prompt))
        if "vanilla" in compare:
            yield from watch(self.vanilla(config, previews, prompt))
        if "freeinit" in compare:
            yield from watch(self.freeinit(config, previews, prompt))

    def distill(
        self,
        config: GenerationConfig,
        latents: torch.Tensor,
        previews: float = 0.0,
        prompt: PromptEmbeds | None = None,
    ) -> Generator[Event, None, torch.Tensor]:
        """Stage 2-1: NI-VSDS moves the anchor's latents [1, C, 1, h, w]. Returns [1, C, F, h, w].

        prompt: here and below, a prompt that was conditioned on the anchor; by default the request's.
        """
        text, noise = self._prepare(config)
        timesteps = self._sampler(config.sampling).timesteps[: config.ni_vsds_steps]
        steps = ni_vsds(
            self.backbone,
            self.backbone.still_video(latents, config.num_frames),
            noise.fresh("ni_vsds", config.num_frames).to(self.backbone.device),
            timesteps,
            prompt or text,
            config.guidance_scale,
        )
        return (yield from self._video("ni_vsds", "ni_vsds", steps, len(timesteps), previews))

    def regenerate(
        self,
        config: GenerationConfig,
        latents: torch.Tensor,
        previews: float = 0.0,
        prompt: PromptEmbeds | None = None,
    ) -> Generator[Event, None, torch.Tensor]:
        """Stage 2-2: the video latents [1, C, F, h, w] are noised to the first of the last steps * p_re
        timesteps and denoised again. Returns [1, C, F, h, w].
        """
        text, noise = self._prepare(config)
        sampler = self._sampler(config.sampling, config.regeneration_steps)
        fresh = noise.fresh("regeneration", config.num_frames).to(self.backbone.device)
        steps = denoise(
            self.backbone,
            self.backbone.add_noise(latents, fresh, sampler.timesteps[0]),
            sampler,
            prompt or text,
            config.guidance_scale,
            [noise.generator("regeneration sampler")],
        )
        return (yield from self._video("regeneration", "i4vgen", steps, len(sampler.timesteps), previews))

    def vanilla(
        self, config: GenerationConfig, previews: float = 0.0, prompt: PromptEmbeds | None = None
    ) -> Generator[Event, None, torch.Tensor]:
        """The backbone without I4VGen, from the same video noise that the candidates start from."""
        text, noise = self._prepare(config)
        latents, total = self._video_noise(config, noise), config.baseline_sampling.steps
        steps = self._denoise_video(config, latents, prompt or text, noise, "vanilla")
        return (yield from self._video("vanilla", "vanilla", steps, total, previews))

    def freeinit(
        self, config: GenerationConfig, previews: float = 0.0, prompt: PromptEmbeds | None = None
    ) -> Generator[Event, None, torch.Tensor]:
        """The backbone with FreeInit, from the same video noise as the vanilla video."""
        text, noise = self._prepare(config)
        total = ITERATIONS * config.baseline_sampling.steps
        steps = self._free_init_steps(config, prompt or text, noise)
        return (yield from self._video("freeinit", "freeinit", steps, total, previews))

    def _free_init_steps(
        self, config: GenerationConfig, prompt: PromptEmbeds, noise: SeedNoise
    ) -> Iterator[DenoiseStep]:
        initial = latents = self._video_noise(config, noise)
        mixer = FrequencyMixer(initial.shape, initial.device)
        for iteration in range(ITERATIONS):
            if iteration:
                noisy = self.backbone.add_noise(latents, initial, self.backbone.noisiest)
                fresh = noise.fresh(f"freeinit {iteration}", config.num_frames).to(initial.device)
                latents = mixer.mix(noisy, fresh)
            for step in self._denoise_video(config, latents, prompt, noise, f"freeinit {iteration}"):
                latents = step.latents
                yield step

    def _video_noise(self, config: GenerationConfig, noise: SeedNoise) -> torch.Tensor:
        """The run's video noise, [1, C, F, h, w]."""
        frames = noise.frames(0, config.num_frames).to(self.backbone.device)  # [F, C, 1, h, w]
        return frames.permute(2, 1, 0, 3, 4)

    def _denoise_video(
        self, config: GenerationConfig, latents: torch.Tensor, prompt: PromptEmbeds, noise: SeedNoise, name: str
    ) -> Iterator[DenoiseStep]:
        return denoise(
            self.backbone,
            latents,
            self._sampler(config.baseline_sampling),
            prompt,
            config.guidance_scale,
            [noise.generator(f"{name} sampler")],
        )

    def _sampler(self, sampling: Sampling, last: int | None = None) -> Sampler:
        return self.backbone.sampler(sampling.sampler, sampling.steps, last)

    def _video(
        self, stage: str, name: str, steps: Iterator, total: int, previews: float
    ) -> Generator[Event, None, torch.Tensor]:
        tracker = StageTracker(stage, total)
        yield tracker.begin()
        step = yield from tracker.follow(steps, previews, self.backbone.decode)
        latents = step.latents
        start = time.perf_counter()
        frames = self.backbone.decode(latents)[0]
        seconds = tracker.seconds + time.perf_counter() - start
        yield Result(name, frames, self.backbone.defaults.fps, seconds, latents[0].cpu().numpy())
        return latents

    def _prepare(self, config: GenerationConfig) -> tuple[PromptEmbeds, SeedNoise]:
        """The encoded prompt, kept for all stages of a run, and the run's noise."""
        config.check(self.backbone.defaults)
        key = (config.prompt, config.negative_prompt)
        if self._encoded is None or self._encoded[0] != key:
            self._encoded = (key, self.backbone.encode_prompt(*key))
        shape = self.backbone.latent_shape(config.height, config.width)
        return self._encoded[1], self._make_noise(config.seed, shape)

    def _score(self, prompt: str, images: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """The scores of every image by the names of the reward models."""
        pictures = [Image.fromarray(image) for image in images]
        by_reward = {reward.name: reward.score(prompt, pictures) for reward in self.rewards}
        return [{name: scores[i] for name, scores in by_reward.items()} for i in range(len(images))]

    def _judged(
        self, prompt: str, events: Generator[Event, None, torch.Tensor]
    ) -> Generator[Event, None, torch.Tensor]:
        """The same events, but every Result with the mean scores of its frames."""

        def judge(event: Event) -> Event:
            if not isinstance(event, Result):
                return event
            scores = self._score(prompt, event.frames)
            means = {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}
            return replace(event, scores=means)

        while True:
            try:
                event = next(events)
            except StopIteration as end:
                return end.value
            yield judge(event)

    def _check_choice(self, config: GenerationConfig, anchor: int | None) -> None:
        if anchor is None and not self.rewards:
            raise InvalidInputError(
                "this model has no reward model: pick the anchor by its index or bring a picture"
            )
        if anchor is not None and (type(anchor) is not int or anchor not in range(config.num_candidates)):
            last = config.num_candidates - 1
            raise InvalidInputError(
                f"the anchor must be the index of a candidate, from 0 to {last}, not {anchor}"
            )

    def _anchor_latents(self, config: GenerationConfig, anchor: Anchor) -> tuple[np.ndarray, torch.Tensor]:
        """The anchor as the model sees it: uint8 [H, W, 3] and latents [1, C, 1, h, w]."""
        if anchor.latents is None:
            image = fit_picture(anchor.image, config.height, config.width)
            return image, self.backbone.encode(image)
        channels, height, width = self.backbone.latent_shape(config.height, config.width)
        if anchor.latents.shape != (channels, 1, height, width):
            raise InvalidInputError("the anchor was made for another model or size: make the candidates again")
        return anchor.image, torch.from_numpy(anchor.latents)[None].to(self.backbone.device)


def _chunks(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]
