"""I4VGen (arXiv 2406.02230): a video from a prompt, through an image.

Stage 1, anchor image synthesis:
    `draw_candidates`   equation 3: N candidate images are denoised from the frames of the run's noise
    `select_anchor`     equation 4: the one with the highest reward is the anchor, unless a person chooses
Stage 2, anchor image-guided video synthesis:
    `distill`           equation 5: NI-VSDS sets the still anchor in motion
    `regenerate`        the moving video is noised and denoised again

`run` chains these links, as an iterator of events (see `events.py`): nothing happens until it is advanced, and
it can be closed between any two events. Every random number is drawn on the CPU from the seed, so the same
configuration gives the same video on any device, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice

import numpy as np
import torch

from i4vgen.anchor import Anchor, Choice, check_choice, encode_anchor, select_anchor
from i4vgen.backbones.base import Backbone
from i4vgen.candidates import CandidateLatents
from i4vgen.comparisons import Comparison, find_comparisons
from i4vgen.errors import InvalidInputError
from i4vgen.events import Candidate, Event, Scores, Selected, latest
from i4vgen.generation_config import GenerationConfig
from i4vgen.inputs import RunInputs
from i4vgen.ni_vsds import ni_vsds
from i4vgen.noise import Noise, SeedNoise, video_noise
from i4vgen.outputs import I4VGenOutput, collect
from i4vgen.rewards.base import Reward
from i4vgen.rewards.scoring import judged, score_images
from i4vgen.sampling import denoise, make_sampler
from i4vgen.tracking import StageTracker, decode, track_video

__all__ = ["Anchor", "I4VGenPipeline"]

SCORED_AT_ONCE = 16  # images


class I4VGenPipeline:
    """The method on any backbone with any reward models.

    Calling it makes a video. `run` is the whole chain as an iterator of events; `candidates`, `animate`,
    `comparison` and `score` are parts of it that can be run by themselves. These five take plain data and can
    be called across processes. The links of the chain take `RunInputs`, which `prepare` makes once per run.

    Common arguments:
        config: Checked when an iterator is first advanced, which raises `InvalidInputError` if the backbone
            cannot run it.
        previews: The share of its time, on top, that a video may spend on being decoded for `Preview` events,
            which follow as often as that allows; 0 means none.
        judge: Whether the reward models score every finished video.
    """

    def __init__(
        self,
        backbone: Backbone,
        rewards: Sequence[Reward] = (),
        noise: Callable[[int, tuple[int, int, int]], Noise] = SeedNoise,
    ):
        """
        Args:
            backbone: Draws the images and the videos.
            rewards: The first one selects the anchor, the others are shown beside it; without any, only people
                select.
            noise: Makes the noise of a run; called with a seed and the shape (C, h, w), as `SeedNoise` is.
        """
        self.backbone = backbone
        self.rewards = tuple(rewards)
        self._make_noise = noise

    # The chain

    def run(
        self,
        config: GenerationConfig,
        anchor: Anchor | int | None = None,
        compare: Sequence[str] = ("vanilla",),
        previews: float = 0.0,
        judge: bool = False,
    ) -> Iterator[Event]:
        """Both stages, and what the result is to be compared with.

        Args:
            anchor: None selects the highest reward, an int that candidate; an `Anchor` needs no candidates, so
                none are drawn.
            compare: Names from `COMPARISONS`.

        Raises:
            InvalidInputError: Before anything is computed, for a configuration that the backbone cannot run, an
                anchor that will not be among the candidates, or an unknown comparison.
        """
        comparisons = find_comparisons(compare)
        if not isinstance(anchor, Anchor):
            check_choice(anchor, config, judged=bool(self.rewards))
        inputs = self.prepare(config)
        if not isinstance(anchor, Anchor):
            candidates = yield from self.draw_candidates(inputs)
            anchor = select_anchor(candidates, anchor)
        yield from self._animate(inputs, anchor, comparisons, previews, judge)

    def candidates(self, config: GenerationConfig, first: int = 0) -> Iterator[Event]:
        """Stage 1 without the selection.

        Args:
            first: The index to begin with, if the candidates before it are there already. They stay the same:
                the noise continues where theirs ended.
        """
        yield from self.draw_candidates(self.prepare(config), first)

    def animate(
        self,
        config: GenerationConfig,
        anchor: Anchor,
        previews: float = 0.0,
        compare: Sequence[str] = (),
        judge: bool = False,
    ) -> Iterator[Event]:
        """Stage 2, and what its result is to be compared with. Arguments as in `run`."""
        comparisons = find_comparisons(compare)
        yield from self._animate(self.prepare(config), anchor, comparisons, previews, judge)

    def comparison(
        self, name: str, config: GenerationConfig, previews: float = 0.0
    ) -> Generator[Event, None, torch.Tensor]:
        """One comparison by itself.

        Args:
            name: From `COMPARISONS`.

        Returns:
            The latents of its video, [1, C, F, h, w].
        """
        (comparison,) = find_comparisons([name])
        return (yield from self._compare(comparison, self.prepare(config), previews))

    def score(self, prompt: str, images: Sequence[np.ndarray]) -> Iterator[Scores]:
        """Scores images, uint8 [H, W, 3], against a prompt: one `Scores` per image, in order.

        Raises:
            InvalidInputError: The pipeline has no reward model.
        """
        if not self.rewards:
            raise InvalidInputError("this model has no reward model: choose one, or another model")
        for start in range(0, len(images), SCORED_AT_ONCE):
            yield from map(Scores, score_images(self.rewards, prompt, images[start : start + SCORED_AT_ONCE]))

    # Its links

    def prepare(self, config: GenerationConfig) -> RunInputs:
        """What the links of one run share: the encoded prompt and the noise.

        Raises:
            InvalidInputError: The backbone cannot run this configuration.
        """
        config.check(self.backbone.defaults)
        prompt_embeds = self.backbone.encode_prompt(config.prompt, config.negative_prompt)
        latent_frames = self.backbone.defaults.latent_frames(config.num_frames)
        return RunInputs(config, prompt_embeds, self._noise(config), latent_frames)

    def draw_candidates(
        self, inputs: RunInputs, first: int = 0
    ) -> Generator[Event, None, dict[int, Candidate]]:
        """Equation 3: candidate i is denoised as a single image from frame i of the run's noise.

        Where the preset sketches and a reward model judges, all candidates are looked at after a part of their
        steps (`Candidate.sketch`), and only the best ones are finished.

        Yields:
            `Progress` for every step of every chunk, and a `Candidate` for each of its images.

        Returns:
            The candidates by their index.
        """
        config = inputs.config
        drawing = CandidateLatents(self.backbone, inputs, first)
        to_finish = config.finished_candidates(len(drawing.indices)) if self.rewards else len(drawing.indices)
        sketch_steps = config.sketch_steps if to_finish < len(drawing.indices) else 0
        finish_steps = config.sampling.steps - sketch_steps

        indices = drawing.indices
        sketched, finished = len(drawing.chunks(indices)), len(drawing.chunks(indices[:to_finish]))
        tracker = StageTracker("candidates", sketch_steps * sketched + finish_steps * finished)
        drawn: list[Candidate] = []
        yield tracker.begin()
        if sketch_steps:
            for chunk in drawing.chunks(indices):
                steps = islice(drawing.denoise(chunk, config.sampling.steps), sketch_steps)
                step = yield from tracker.follow(steps)
                drawing.latents |= zip(chunk, step.latents.cpu(), strict=True)
                sketches = self._look_at(inputs, chunk, step.clean, sketch=True)
                drawn += sketches
                yield from sketches
            ranked = sorted(drawn, key=lambda sketch: sketch.rank_key)
            indices = sorted(sketch.index for sketch in ranked[:to_finish])
        for chunk in drawing.chunks(indices):
            step = yield from tracker.follow(drawing.denoise(chunk, finish_steps))
            candidates = self._look_at(inputs, chunk, step.latents)
            drawn += candidates
            yield from candidates
        return {candidate.index: candidate for candidate in latest(drawn)}

    def distill(
        self, inputs: RunInputs, latents: torch.Tensor, previews: float = 0.0
    ) -> Generator[Event, None, torch.Tensor]:
        """Equation 5: NI-VSDS over the first `ni_vsds_steps` noise levels, from the anchor as a still video.

        Args:
            latents: The anchor, [1, C, 1, h, w].

        Returns:
            The moving video, [1, C, F, h, w].
        """
        config, backbone = inputs.config, self.backbone
        sampling = config.sampling
        levels = backbone.ni_vsds_levels(sampling.sampler, sampling.steps)[: config.ni_vsds_steps]
        steps = ni_vsds(
            backbone,
            backbone.still_video(latents, config.num_frames),
            inputs.fresh_noise("ni_vsds").to(backbone.device),
            levels,
            inputs.prompt_embeds,
            config.guidance_scale,
            Fraction(config.baseline_sampling.steps, config.sampling.steps),
        )
        return (yield from track_video(backbone, "ni_vsds", "ni_vsds", steps, len(levels), previews))

    def regenerate(
        self, inputs: RunInputs, latents: torch.Tensor, previews: float = 0.0
    ) -> Generator[Event, None, torch.Tensor]:
        """Noises the video to the first of the last `regeneration_steps` noise levels and denoises it again.

        Args:
            latents: The video, [1, C, F, h, w].

        Returns:
            The result, [1, C, F, h, w].
        """
        config, backbone = inputs.config, self.backbone
        sampler = make_sampler(backbone, config.sampling, config.regeneration_steps, noised=True)
        fresh = inputs.fresh_noise("regeneration").to(backbone.device)
        steps = denoise(
            backbone,
            sampler.levels[0].add_noise(latents, fresh),
            sampler,
            inputs.prompt_embeds,
            config.guidance_scale,
            [inputs.noise.generator("regeneration sampler")],
        )
        total = len(sampler.levels)
        return (yield from track_video(backbone, "regeneration", "i4vgen", steps, total, previews))

    def _noise(self, config: GenerationConfig) -> Noise:
        return self._make_noise(config.seed, self.backbone.latent_shape(config.height, config.width))

    def _animate(
        self,
        inputs: RunInputs,
        anchor: Anchor,
        comparisons: Sequence[Comparison],
        previews: float,
        judge: bool,
    ) -> Iterator[Event]:
        """`Selected`, then the events of NI-VSDS, of the regeneration and of every comparison."""
        config = inputs.config
        image, latents = encode_anchor(self.backbone, anchor, config.height, config.width)
        yield Selected(anchor.index, image, anchor.reason, latents[0].cpu().numpy())
        inputs = replace(inputs, prompt_embeds=self.backbone.condition(inputs.prompt_embeds, latents))
        watch = partial(judged, self.rewards, config.prompt) if judge else iter
        moving = yield from watch(self.distill(inputs, latents, previews))
        yield from watch(self.regenerate(inputs, moving, previews))
        for comparison in comparisons:
            yield from watch(self._compare(comparison, inputs, previews))

    def _compare(
        self, comparison: Comparison, inputs: RunInputs, previews: float
    ) -> Generator[Event, None, torch.Tensor]:
        """The events of a comparison. Returns its video, [1, C, F, h, w]."""
        steps, total = comparison.sample(self.backbone, inputs), comparison.steps(inputs.config)
        return track_video(self.backbone, comparison.name, comparison.name, steps, total, previews)

    def _look_at(
        self, inputs: RunInputs, indices: Sequence[int], latents: torch.Tensor, sketch: bool = False
    ) -> list[Candidate]:
        """The candidates whose clean latents [B, C, 1, h, w] these are, decoded and scored."""
        images = decode(self.backbone, latents)[:, 0]
        scores, arrays = score_images(self.rewards, inputs.config.prompt, images), latents.cpu().numpy()
        found = zip(indices, images, scores, arrays, strict=True)
        return [Candidate(*candidate, sketch=sketch) for candidate in found]

    # From Python

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        rewards: Sequence[str] | None = None,
        base: str | None = None,
        loras: Sequence[str] = (),
        compiled: bool = False,
    ) -> I4VGenPipeline:
        """Loads a model, after downloading what is missing of it.

        Args:
            model: A name from the catalogue, a folder or hub id in the diffusers layout, or
                BASE+MOTION_ADAPTER.
            device: "cuda", "mps" or "cpu"; None takes the best there is.
            dtype: Of the networks that draw; None takes the fastest that the device computes in.
            rewards: Names from the catalogue, of which the first one selects; None takes the model's own.
            base: Another Stable Diffusion 1.5 checkpoint, for models that take one.
            loras: LoRAs for the model, each with @WEIGHT after it if need be, for models that take them.
            compiled: Whether to compile the networks.

        Raises:
            InvalidInputError: There is no such device or reward, or the model does not take what was given.
            ModelError: The model cannot be found, or something of it is missing or damaged.
        """
        from i4vgen import catalog, loading  # not above: the method itself depends on no particular model

        chosen = None if rewards is None else tuple(rewards)
        entry = catalog.find(catalog.ModelSpec(os.fspath(model), base, tuple(loras), chosen))
        loading.download_in_terminal(entry)
        return cls(*loading.load(entry, device, dtype, compiled))

    def __call__(
        self, prompt: str, *, anchor: Choice = None, compare: str | Sequence[str] = (), **settings: object
    ) -> I4VGenOutput:
        """Makes a video.

        Args:
            prompt: What it should show.
            anchor: None selects the highest reward. See `Anchor.choose` for what else it can be.
            compare: Names from `COMPARISONS`: also make these videos.
            settings: Any field of `GenerationConfig`; what is left out is the model's default.

        Raises:
            InvalidInputError: Any of these is unknown or wrong.
        """
        config, choice = self.make_config(prompt, **settings), Anchor.choose(anchor)
        given = choice if isinstance(choice, Anchor) else None
        return collect(config, self.run(config, choice, compare), given)

    def stream(
        self,
        prompt: str,
        *,
        anchor: Choice = None,
        compare: str | Sequence[str] = (),
        previews: float = 0.0,
        **settings: object,
    ) -> Iterator[Event]:
        """The same as an iterator of events. Arguments as for calling the pipeline, and `previews`."""
        return self.run(self.make_config(prompt, **settings), Anchor.choose(anchor), compare, previews)

    def make_config(self, prompt: str, **settings: object) -> GenerationConfig:
        """The configuration with these settings and the model's defaults for the others.

        Raises:
            InvalidInputError: A setting is unknown, wrong, or beyond the limits of the model.
        """
        return GenerationConfig.for_model(self.backbone.defaults, prompt=prompt, **settings)

    def initial_noise(self, config: GenerationConfig) -> torch.Tensor:
        """The video noise of a run, [1, C, F, h, w], float32 on the CPU.

        The vanilla video starts from it; candidate i starts from frame i of its latents.
        """
        return video_noise(self._noise(config), self.backbone.defaults.latent_frames(config.num_frames))
