"""A run of the app on disk, and back: what `i4vgen.runs` writes and reads, in the states of a tab."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from i4vgen.errors import InvalidInputError
from i4vgen.events import PICKED, Selected
from i4vgen.media import read_video, side_by_side, write_gif, write_video
from i4vgen.recipe import Recipe, comment_of
from i4vgen.runs import RunFolder, SavedRun
from i4vgen.ui import files, recipes
from i4vgen.ui.captions import clip_label
from i4vgen.ui.state import AnchorSelection, Animation, CandidateSet, Clip, in_order, make_anchor

FRESH = 8 * 3600
"""Seconds for which the files of an unpacked run are handed on; the cache keeps them for a day."""


@dataclass(frozen=True)
class OpenedRun:
    """A run that was read back, as a tab remembers it."""

    run: SavedRun
    candidate_set: CandidateSet
    selection: AnchorSelection
    animation: Animation | None

    @classmethod
    def of(cls, run: SavedRun) -> OpenedRun:
        """Raises `InvalidInputError` for a run whose parts do not fit together."""
        return cls(run, *unpack(run))

    @property
    def is_served(self) -> bool:
        """Whether the browser can fetch its files for a good while yet: Gradio's cache is cleaned up."""
        clips = self.animation.clips if self.animation else ()
        paths = [Path(file) for file in (*self.candidate_set.files, *(clip.path for clip in clips))]
        return all(path.is_file() and time.time() - path.stat().st_ctime < FRESH for path in paths)


def pack_candidates(candidate_set: CandidateSet, selection: AnchorSelection, path: Path) -> Path:
    """The candidates as they were curated: without what was dropped."""
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        folder = RunFolder(temporary, recipes.of_candidates(candidate_set))
        _record(folder, candidate_set)
        if anchor := make_anchor(candidate_set, selection):
            folder.record(Selected(anchor.index, np.asarray(anchor.image), anchor.reason))
        config, _ = candidate_set.asked
        folder.finish(config, (), candidate_set.made, _stars(candidate_set))
        return folder.pack(path)


def pack_animation(animation: Animation, path: Path) -> Path:
    """A finished animation with its candidates, its videos and its figures."""
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
            folder.seconds[clip.name] = clip.seconds
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
    """The videos next to each other, with their names above them."""
    frames = side_by_side([(clip_label(clip), clip.frames) for clip in videos])
    comment = comment_of(recipe, [clip.name for clip in videos])
    write_video(path, frames, videos[0].fps, comment=comment)


def unpack(run: SavedRun) -> tuple[CandidateSet, AnchorSelection, Animation | None]:
    """What a tab remembers of a run that was read back. No animation if no video is in it."""
    made = run.spec.to_dict() | run.file.origin()
    candidates, recipe = run.candidates(), recipes.recipe(run.config, made)
    candidate_set = CandidateSet(
        run.config,
        run.spec,
        made,
        candidates,
        tuple(files.save_picture(candidate.image, recipe) for candidate in candidates),
        judged_by=run.config.prompt,
        stars=run.stars,
    )
    picture = run.anchor_picture()
    selection = AnchorSelection(
        run.anchor_index if run.picked else None, picture if run.anchor_index is None else None
    )
    videos = run.videos()
    if not videos or picture is None:
        return candidate_set, selection, None
    anchor = Selected(run.anchor_index, picture, run.file.anchor_reason or PICKED)
    clips = {name: _clip(name, data, run) for name, data in videos.items()}
    if len({clip.frames.shape[1:] for clip in clips.values()}) > 1:
        raise InvalidInputError("the videos of this run are not of one size")
    measures = {name: figures.measures() for name, figures in run.file.measures.items()}
    panes = in_order(files.save_anchor(picture, recipe and replace(recipe, anchor=anchor)), clips)
    return (
        candidate_set,
        selection,
        Animation(candidate_set, run.config, run.spec, made, anchor, run.compare, panes, measures),
    )


def last_frame(run: SavedRun) -> np.ndarray:
    """The end of I4VGen's video, uint8 [H, W, 3].

    Raises:
        LookupError: There is no such video.
    """
    return _clip("i4vgen", run.videos()["i4vgen"], run).frames[-1]


def _clip(name: str, data: bytes, run: SavedRun) -> Clip:
    path = files.fresh(f"{name}.mp4")
    path.write_bytes(data)
    config = run.config
    frames, fps = read_video(path, (config.num_frames, config.height, config.width))
    seconds = run.file.seconds.get(name, 0.0)
    return Clip(name, str(path), len(frames), round(fps), seconds, frames)


def _record(folder: RunFolder, candidate_set: CandidateSet) -> None:
    for candidate in sorted(candidate_set.kept, key=lambda c: c.index):
        folder.record(candidate)


def _stars(candidate_set: CandidateSet) -> frozenset[int]:
    return candidate_set.stars - candidate_set.dropped
