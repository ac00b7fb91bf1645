"""The I4VGen pipeline (arXiv 2406.02230): a video from a prompt, through an image.

Stage 1, anchor image synthesis:
    `draw_candidates`   equation 3: denoises N candidate images from the frames of the run's noise
    `select_anchor`     equation 4: selects the candidate with the highest reward, unless the user picks one
Stage 2, anchor image-guided video synthesis:
    `distill`           equation 5: NI-VSDS sets the still anchor in motion
    `regenerate`        adds noise to the moving video and denoises it again

With `animate_best`, stage 2 runs for several anchors and the best video is kept (`method/search.py`).

`run` chains these steps as an iterator of events (`events.py`). It computes only when advanced and can be
closed between any two events. Every random number is drawn on the CPU from the seed, so the same configuration
gives the same video on any device, up to rounding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from i4vgen.backbones.base import Backbone
from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.events import Candidate, Event, Result, Scores, Selected, Trial
from i4vgen.method.anchor import Anchor, Choice, check_choice, encode_anchor, select_anchor
from i4vgen.method.candidates import CandidateLatents, best_indices, chunks
from i4vgen.method.comparisons import Comparison, find_comparisons
from i4vgen.method.inputs import RunInputs
from i4vgen.method.ni_vsds import ni_vsds
from i4vgen.method.noise import Noise
from i4vgen.method.outputs import I4VGenOutput, collect
from i4vgen.method.sampling import denoise
from i4vgen.method.search import best_anchors, check_search, split_result, trial_of
from i4vgen.method.tracking import ONLY, StageTracker, Turn, decode, track_video
from i4vgen.presets import joint_step_sizes
from i4vgen.rewards.base import Reward
from i4vgen.rewards.scoring import judge_results, judge_video, score_images

__all__ = ["Anchor", "I4VGenPipeline"]

SCORED_AT_ONCE = 16  # images


class I4VGenPipeline:
    """Runs I4VGen on any backbone with any reward models.

    Calling the pipeline makes a video. `run` yields the events of a whole run; `candidates`, `animate`,
    `comparison` and `score` run parts of it. These five take plain data and can be called across processes. The
    single steps take `RunInputs`, which `prepare` makes once per run. All methods that make pictures or
    videos raise `ModelError` if the model computes nan or infinity.

    Many methods share these arguments:
        config: The run's configuration. It is checked when the iterator is first advanced, which raises
            `InvalidInputError` if the backbone does not support it.
        previews: The extra time to spend on decoding `Preview` events, as a share of a video's computing
            time; 0 means no previews.
        judge: Whether the reward models score every finished video.

    Args:
        backbone: The model that draws the images and the videos.
        rewards: The reward models. The first one selects the anchor; the scores of the others are only shown.
            Without reward models, the user must choose the anchor.
        noise: The function that makes the noise of a run from a seed and the shape (C, F, h, w) of a video's
            latents.
    """

    def __init__(
        self,
        backbone: Backbone,
        rewards: Sequence[Reward] = (),
        noise: Callable[[int, tuple[int, int, int, int]], Noise] = Noise,
    ):
        self.backbone = backbone
        self.rewards = tuple(rewards)
        self._make_noise = noise

    # Runs and their parts

    def run(
        self,
        config: GenerationConfig,
        anchor: Anchor | int | None = None,
        compare: Sequence[str] = ("vanilla",),
        previews: float = 0.0,
        judge: bool = False,
    ) -> Iterator[Event]:
        """Runs both stages, then the comparisons.

        Args:
            anchor: The index of the candidate to animate; None selects the one with the highest reward. With
                an `Anchor`, no candidates are drawn.
            compare: Names from `COMPARISONS`.

        Raises:
            InvalidInputError: The backbone does not support the configuration, a comparison is unknown, or the
                anchor is not among the candidates, was made for another model or size, is given together with
                an `animate_best` above 1, or is None without reward models. Raised before any denoising.
        """
        comparisons = find_comparisons(compare)
        check_search(config, is_given=anchor is not None)
        if not isinstance(anchor, Anchor):
            check_choice(anchor, config, has_reward=bool(self.rewards))
        inputs = self.prepare(config)
        watch = partial(judge_results, self.rewards if judge else (), config.prompt)
        if config.animate_best > 1:
            candidates = yield from self.draw_candidates(inputs)
            inputs = yield from self._animate_best(
                inputs, best_anchors(candidates, config.animate_best), previews
            )
        else:
            if not isinstance(anchor, Anchor):
                anchor = select_anchor((yield from self.draw_candidates(inputs)), anchor)
            selected, inputs, latents = self._encode(inputs, anchor)
            yield selected
            moving = yield from watch(self.distill(inputs, latents, previews), selected.image)
            yield from watch(self.regenerate(inputs, moving, previews), selected.image)
        for comparison in comparisons:
            yield from watch(self._compare(comparison, inputs, previews))

    def candidates(self, config: GenerationConfig, first: int = 0, scored_prompt: str = "") -> Iterator[Event]:
        """Draws candidates without selecting one.

        Args:
            first: The index of the first candidate to draw. The noise of a candidate does not depend on the
                other candidates.
            scored_prompt: The prompt that the scores are for; empty for the prompt of `config`.
        """
        yield from self.draw_candidates(self.prepare(config), first, scored_prompt)

    def animate(
        self,
        config: GenerationConfig,
        anchor: Anchor,
        compare: Sequence[str] = (),
        previews: float = 0.0,
        judge: bool = False,
    ) -> Iterator[Event]:
        """Runs stage 2 and the comparisons for a given anchor, as `run` does. Ignores `animate_best`."""
        return self.run(replace(config, animate_best=1), anchor, compare, previews, judge)

    def comparison(
        self, name: str, config: GenerationConfig, previews: float = 0.0
    ) -> Generator[Event, None, Tensor]:
        """Runs one comparison, named in `COMPARISONS`.

        Returns:
            The latents of its video, [1, C, F, h, w].

        Raises:
            InvalidInputError: The name is unknown, or the backbone does not support the configuration.
        """
        (comparison,) = find_comparisons([name])
        return (yield from self._compare(comparison, self.prepare(config), previews))

    def score(self, prompt: str, images: Sequence[np.ndarray]) -> Iterator[Scores]:
        """Scores images, uint8 [H, W, 3], against a prompt and yields one `Scores` per image.

        Raises:
            InvalidInputError: The pipeline has no reward model.
        """
        if not self.rewards:
            raise InvalidInputError("this model has no reward model: choose one, or another model")
        for start in range(0, len(images), SCORED_AT_ONCE):
            yield from map(Scores, score_images(self.rewards, prompt, images[start : start + SCORED_AT_ONCE]))

    # The single steps

    def prepare(self, config: GenerationConfig) -> RunInputs:
        """Encodes the prompt and sets up the noise of a run.

        Raises:
            InvalidInputError: The backbone does not support this configuration.
        """
        config.check(self.backbone.defaults)
        self.backbone.begin_run()
        prompt_embeds = self.backbone.encode_prompt(config.prompt, config.negative_prompt)
        return RunInputs(config, prompt_embeds, self._noise(config))

    def draw_candidates(
        self, inputs: RunInputs, first: int = 0, scored_prompt: str = ""
    ) -> Generator[Event, None, dict[int, Candidate]]:
        """Draws the candidates (equation 3): denoises candidate i as an image from frame i of the noise.

        If the preset has several rounds, the candidates are scored after each (`Candidate.sketch`), and only
        the best go on.

        Args:
            first: The index of the first candidate to draw.
            scored_prompt: The prompt that the scores are for; empty for the prompt of the run.

        Yields:
            The `Stage`; then, chunk by chunk, `Progress` for every step and a `Candidate` for every image.

        Returns:
            The candidates by index.
        """
        config = inputs.config
        prompt = scored_prompt or config.prompt
        drawing = CandidateLatents(self.backbone, inputs, first)
        rounds = config.candidate_rounds(len(drawing.indices), has_reward=bool(self.rewards))
        size, remaining = config.candidate_batch_size, config.sampling.steps
        tracker = StageTracker("candidates", sum(steps * math.ceil(count / size) for count, steps in rounds))
        yield tracker.begin()
        candidates: dict[int, Candidate] = {}
        for count, steps in rounds:
            is_sketch = steps < remaining
            indices = best_indices(candidates.values(), count) if candidates else drawing.indices
            for chunk in chunks(indices, size):
                step = yield from tracker.follow(drawing.denoise(chunk, remaining, steps))
                clean = step.clean if is_sketch else step.latents
                for candidate in self._decode_and_score(prompt, chunk, clean, is_sketch):
                    candidates[candidate.index] = candidate
                    yield candidate
            remaining -= steps
        return candidates

    def distill(
        self, inputs: RunInputs, latents: Tensor, previews: float = 0.0, turn: Turn = ONLY
    ) -> Generator[Event, None, Tensor]:
        """Runs NI-VSDS (equation 5) over the first `ni_vsds_steps` noise levels.

        Args:
            latents: The anchor's latents, [1, C, 1, h, w].
            turn: The position among several animated anchors.

        Returns:
            The latents of the moving video, [1, C, F, h, w].
        """
        config, backbone = inputs.config, self.backbone
        levels = backbone.ni_vsds_levels(*config.sampling)[: config.ni_vsds_steps]
        steps = ni_vsds(
            backbone,
            backbone.still_video(latents, config.num_frames),
            inputs.noise.fresh("ni_vsds").to(backbone.device),
            levels,
            joint_step_sizes(backbone.ni_vsds_step_size, [level.weight for level in levels], config.stride),
            inputs.prompt_embeds,
            config.guidance_scale,
        )
        return (yield from track_video(backbone, "ni_vsds", "ni_vsds", steps, len(levels), previews, turn))

    def regenerate(
        self, inputs: RunInputs, latents: Tensor, previews: float = 0.0, turn: Turn = ONLY
    ) -> Generator[Event, None, Tensor]:
        """Adds noise to the video at the first of the last `regeneration_steps` levels and denoises it.

        Args:
            latents: The latents of the video, [1, C, F, h, w].
            turn: The position among several animated anchors.

        Returns:
            The latents of the result, [1, C, F, h, w].
        """
        config, backbone = inputs.config, self.backbone
        sampler = backbone.sampler(*config.sampling, last=config.regeneration_steps, starts_from_video=True)
        fresh = inputs.noise.fresh("regeneration").to(backbone.device)
        steps = denoise(
            backbone,
            sampler.levels[0].add_noise(latents, fresh),
            sampler,
            inputs.prompt_embeds,
            config.guidance_scale,
            [inputs.noise.generator("regeneration sampler")],
        )
        total = len(sampler.levels)
        return (yield from track_video(backbone, "regeneration", "i4vgen", steps, total, previews, turn))

    def _animate_best(
        self, inputs: RunInputs, anchors: Sequence[Anchor], previews: float
    ) -> Generator[Event, None, RunInputs]:
        """Runs stage 2 for several anchors and keeps the video with the highest `Trial.score`.

        Yields:
            The events of NI-VSDS of all anchors, then of the regeneration of each with its `Trial`, all
            without `Result`s; then `Selected` and the two `Result`s of the best one.

        Returns:
            The inputs for the best anchor's comparisons.
        """
        turns = [Turn(index, len(anchors)) for index in range(len(anchors))]
        encoded = [self._encode(inputs, anchor) for anchor in anchors]
        distilled = []
        for (_, conditioned, latents), turn in zip(encoded, turns, strict=True):
            distilled.append((yield from split_result(self.distill(conditioned, latents, previews, turn))))
        trials: list[Trial] = []
        results: list[tuple[Result, Result]] = []
        for (selected, conditioned, _), (moving, first), turn in zip(encoded, distilled, turns, strict=True):
            _, result = yield from split_result(self.regenerate(conditioned, moving, previews, turn))
            first, result = (
                judge_video(self.rewards, inputs.config.prompt, each, selected.image)
                for each in (first, result)
            )
            trials.append(trial_of(selected, first, result))
            results.append((first, result))
            yield trials[-1]
        best = max(range(len(trials)), key=lambda at: trials[at].score)
        selected, inputs, _ = encoded[best]
        yield selected
        yield from results[best]
        return inputs

    def _encode(self, inputs: RunInputs, anchor: Anchor) -> tuple[Selected, RunInputs, Tensor]:
        """Encodes an anchor.

        Returns:
            The `Selected` event, the inputs for the anchor's stage 2, and its latents, [1, C, 1, h, w].
        """
        config = inputs.config
        image, latents = encode_anchor(self.backbone, anchor, config.height, config.width)
        selected = Selected(anchor.index, image, anchor.reason, latents[0].cpu().numpy())
        prompt_embeds = self.backbone.condition(inputs.prompt_embeds, latents)
        return selected, replace(inputs, prompt_embeds=prompt_embeds), latents

    def _compare(
        self, comparison: Comparison, inputs: RunInputs, previews: float
    ) -> Generator[Event, None, Tensor]:
        """Runs a comparison and returns the latents of its video, [1, C, F, h, w]."""
        steps, total = comparison.sample(self.backbone, inputs), comparison.steps(inputs.config)
        return track_video(self.backbone, comparison.name, comparison.name, steps, total, previews)

    def _decode_and_score(
        self, prompt: str, indices: Sequence[int], latents: Tensor, sketch: bool = False
    ) -> list[Candidate]:
        """Decodes and scores candidates from their clean latents, [B, C, 1, h, w]."""
        images = decode(self.backbone, latents)[:, 0]
        scores, arrays = score_images(self.rewards, prompt, images), latents.cpu().numpy()
        columns = zip(indices, images, scores, arrays, strict=True)
        return [Candidate(*values, sketch=sketch) for values in columns]

    # The Python API

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        rewards: Sequence[str] | None = None,
        base: str | None = None,
        motion_module: str | None = None,
        vae: str | None = None,
        loras: Sequence[str] = (),
        compiled: bool = False,
        variant: str | None = None,
    ) -> I4VGenPipeline:
        """Loads a model and downloads its missing files.

        Args:
            model: A name from the catalogue, a folder or hub id in the diffusers layout, a single file (a
                Stable Diffusion 1.5 checkpoint or a Wan transformer, also as OWNER/NAME/FILE on the hub), or
                BASE+MOTION_ADAPTER.
            device: "cuda", "cuda:1", "mps" or "cpu"; None selects the best available.
            dtype: The dtype of the backbone's networks; None selects the fastest on the device.
            rewards: Names from the catalogue, the first of which selects the anchor; None uses the model's
                defaults.
            base: Another Stable Diffusion 1.5 checkpoint, if the model supports that; for a Wan transformer in
                a single file, a model with the other networks.
            motion_module: Another motion module (a file, folder or hub id), if the model supports that.
            vae: Another VAE (a file, folder or hub id), if the model supports that.
            loras: LoRAs, each optionally followed by @WEIGHT, if the model supports them.
            compiled: Whether to compile the networks.
            variant: The preferred variant of the weights, such as "fp16".

        Raises:
            InvalidInputError: The device is not available, a reward is unknown, or the model does not support
                an argument.
            ModelError: The model cannot be found or downloaded, or a part of it is missing or damaged.
        """
        from i4vgen.models import catalog, loading  # here, because the method depends on no particular model

        chosen = None if rewards is None else tuple(rewards)
        spec = catalog.ModelSpec(os.fspath(model), base, tuple(loras), chosen, motion_module, vae)
        entry = catalog.find(spec)
        if variant:
            entry = catalog.of_variant(entry, variant)
        device = loading.pick_device(device)
        loading.download_in_terminal(entry)
        return cls(*loading.load_model(entry, device, dtype, compiled, variant))

    def __call__(
        self,
        prompt: str,
        *,
        anchor: Choice = None,
        compare: str | Sequence[str] = (),
        judge: bool = True,
        **settings: object,
    ) -> I4VGenOutput:
        """Makes a video.

        Args:
            prompt: What the video should show.
            anchor: The image to animate; None selects the candidate with the highest reward. `Anchor.choose`
                lists the other choices.
            compare: Names of the `COMPARISONS` to run as well.
            judge: Whether the reward models score every video and measure its steadiness (`Result.scores`,
                `Result.steadiness`).
            settings: Fields of `GenerationConfig`; the model's defaults replace missing ones.

        Raises:
            InvalidInputError: An argument is unknown or invalid.
        """
        config, choice = self.make_config(prompt, **settings), Anchor.choose(anchor)
        given = choice if isinstance(choice, Anchor) else None
        return collect(config, self.run(config, choice, compare, judge=judge), given)

    def stream(
        self,
        prompt: str,
        *,
        anchor: Choice = None,
        compare: str | Sequence[str] = (),
        previews: float = 0.0,
        **settings: object,
    ) -> Iterator[Event]:
        """Makes a video and yields its events.

        Takes the arguments of `__call__`, but `previews` (described at `I4VGenPipeline`) instead of `judge`.
        """
        return self.run(self.make_config(prompt, **settings), Anchor.choose(anchor), compare, previews)

    def make_config(self, prompt: str, **settings: object) -> GenerationConfig:
        """Returns the configuration with these settings and the model's defaults for the others.

        Raises:
            InvalidInputError: A setting is unknown, invalid, or beyond the limits of the model.
        """
        return GenerationConfig.for_model(self.backbone.defaults, prompt=prompt, **settings)

    def initial_noise(self, config: GenerationConfig) -> Tensor:
        """Returns the video noise of a run, [1, C, F, h, w], float32 on the CPU.

        The vanilla video starts from it; candidate i starts from its frame i.
        """
        return self._noise(config).initial

    def _noise(self, config: GenerationConfig) -> Noise:
        channels, height, width = self.backbone.latent_shape(config.height, config.width)
        frames = self.backbone.defaults.latent_frames(config.num_frames)
        return self._make_noise(config.seed, (channels, frames, height, width))
