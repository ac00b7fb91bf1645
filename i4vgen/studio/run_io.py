"""Packs a tab's state into a run, and unpacks a run into a tab's state."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from i4vgen.errors import InvalidInputError
from i4vgen.events import PICKED, Selected, stage_of
from i4vgen.media import read_video, side_by_side, write_gif, write_video
from i4vgen.storage.recipe import Recipe, comment_of
from i4vgen.storage.runs import RunFolder, SavedRun
from i4vgen.studio import files
from i4vgen.studio.captions import label_of_clip
from i4vgen.studio.recipes import Recipes
from i4vgen.studio.state import AnchorSelection, Animation, CandidateSet, Clip, make_anchor, pane_order

FRESH = 8 * 3600
"""Seconds for which the files of an unpacked run are reused. The cache keeps them for a day."""


@dataclass(frozen=True)
class OpenedRun:
    """An unpacked run as the state of a tab."""

    run: SavedRun
    candidate_set: CandidateSet
    selection: AnchorSelection
    animation: Animation | None

    @classmethod
    def of(cls, run: SavedRun, recipes: Recipes) -> OpenedRun:
        """Unpacks a run.

        Raises:
            InvalidInputError: A part of the run cannot be read, or its videos differ in size.
        """
        return cls(run, *unpack(run, recipes))

    @property
    def is_served(self) -> bool:
        """Whether the run's files are recent enough to survive the cache's clean-up for hours."""
        clips = self.animation.clips if self.animation else ()
        paths = [Path(file) for file in (*self.candidate_set.files, *(clip.path for clip in clips))]
        return all(path.is_file() and time.time() - path.stat().st_ctime < FRESH for path in paths)


def pack_candidates(
    candidate_set: CandidateSet, selection: AnchorSelection, recipes: Recipes, path: Path
) -> Path:
    """Packs the candidates with their stars and anchor, without the dropped ones."""
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        folder = RunFolder(temporary, recipes.of_candidates(candidate_set))
        _record(folder, candidate_set)
        if anchor := make_anchor(candidate_set, selection):
            folder.record(Selected(anchor.index, np.asarray(anchor.image), anchor.reason))
        config, _ = candidate_set.request
        folder.finish(config, (), candidate_set.made, _stars(candidate_set))
        return folder.pack(path)


def pack_animation(animation: Animation, recipes: Recipes, path: Path) -> Path:
    """Packs an animation with its candidates, videos and metrics. It must have a video."""
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        recipe = recipes.of_animation(animation)
        folder = RunFolder(temporary, recipe and replace(recipe, anchor=None))
        _record(folder, animation.candidate_set)
        folder.record(animation.anchor)
        for clip in animation.videos:
            target = folder.path / f"{clip.name}.mp4"
            target.write_bytes(Path(clip.path).read_bytes())
            write_gif(
                target.with_suffix(".gif"), clip.frames, clip.fps, comment=comment_of(recipe, [clip.name])
            )
            folder.seconds[stage_of(clip.name)] = clip.seconds
        write_side_by_side(animation.videos, recipe, folder.path / "side_by_side.mp4")
        measures = {name: figures.to_dict() for name, figures in animation.measures.items()}
        folder.finish(
            animation.config,
            animation.compare,
            {**animation.made, "measures": measures},
            _stars(animation.candidate_set),
        )
        return folder.pack(path)


def write_side_by_side(videos: Sequence[Clip], recipe: Recipe | None, path: Path) -> None:
    """Writes the videos side by side into one file, with labels above them."""
    frames = side_by_side([(label_of_clip(clip), clip.frames) for clip in videos])
    comment = comment_of(recipe, [clip.name for clip in videos])
    write_video(path, frames, videos[0].fps, comment=comment)


def unpack(run: SavedRun, recipes: Recipes) -> tuple[CandidateSet, AnchorSelection, Animation | None]:
    """Unpacks a run.

    Returns:
        The candidates, the selection, and the animation, which is None if the run has no video or no anchor.

    Raises:
        InvalidInputError: A part of the run cannot be read, or its videos differ in size.
    """
    made = run.file.spec().to_dict() | run.file.origin()
    candidates, recipe = run.candidates(), recipes.of(run.config, made)
    candidate_set = CandidateSet(
        replace(run.config, animate_best=1),
        run.spec,
        made,
        candidates,
        tuple(files.save_picture(candidate.image, recipe) for candidate in candidates),
        scored_prompt=run.config.prompt,
        stars=run.stars,
    )
    picture = run.anchor_picture()
    selection = AnchorSelection(
        run.anchor_index if run.picked else None,
        picture if run.anchor_index is None else None,
        best=run.config.animate_best,
    )
    videos = run.videos()
    if not videos or picture is None:
        return candidate_set, selection, None
    anchor = Selected(run.anchor_index, picture, run.file.anchor_reason or PICKED)
    clips = {name: _clip(name, data, run) for name, data in videos.items()}
    if len({clip.frames.shape[1:] for clip in clips.values()}) > 1:
        raise InvalidInputError("the videos of this run are not of one size")
    measures = {name: figures.measures() for name, figures in run.file.measures.items()}
    panes = pane_order(files.save_anchor(picture, recipe and replace(recipe, anchor=anchor)), clips)
    return (
        candidate_set,
        selection,
        Animation(candidate_set, run.config, run.spec, made, anchor, run.compare, panes, measures),
    )


def last_frame(run: SavedRun) -> np.ndarray:
    """Returns the last frame of the I4VGen video, uint8 [H, W, 3].

    Raises:
        LookupError: The run has no I4VGen video.
        InvalidInputError: The video cannot be read.
    """
    return _clip("i4vgen", run.videos()["i4vgen"], run).frames[-1]


def _clip(name: str, data: bytes, run: SavedRun) -> Clip:
    path = files.new_path(f"{name}.mp4")
    path.write_bytes(data)
    config = run.config
    frames, fps = read_video(path, (config.num_frames, config.height, config.width))
    seconds = run.file.seconds.get(stage_of(name), 0.0)
    figures = run.file.measures.get(name)
    steady = figures and figures.measures().steadiness
    if steady and len(steady.frames) != len(frames):
        steady = None
    return Clip(name, str(path), len(frames), round(fps), seconds, frames, steadiness=steady)


def _record(folder: RunFolder, candidate_set: CandidateSet) -> None:
    for candidate in sorted(candidate_set.kept, key=lambda c: c.index):
        folder.record(candidate)


def _stars(candidate_set: CandidateSet) -> frozenset[int]:
    return candidate_set.stars - candidate_set.dropped
