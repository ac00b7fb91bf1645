"""A run of the app on disk, and back: what `i4vgen.runs` writes and reads, in the states of a tab."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from i4vgen.errors import RequestError
from i4vgen.events import Selected
from i4vgen.media import read_video, side_by_side, write_gif, write_video
from i4vgen.metrics import Measures
from i4vgen.runs import RunFolder, SavedRun
from i4vgen.ui import files, texts, watch
from i4vgen.ui.choose import save_picture
from i4vgen.ui.session import Clip, Pick, Round, Take


def pack_round(round_: Round, pick: Pick, path: Path) -> Path:
    """The candidates as they were curated: without what was dropped."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(place)
        _record(folder, round_)
        anchor = watch.make_anchor(round_, pick)
        folder.record(Selected(anchor.index, np.asarray(anchor.image), anchor.reason))
        folder.finish(round_.request, (), round_.made, _stars(round_))
        return folder.pack(path)


def pack_take(take: Take, path: Path) -> Path:
    """A finished animation with its candidates, its videos and its figures."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(place)
        _record(folder, take.round)
        folder.record(take.anchor)
        for clip in take.videos:
            target = folder.path / f"{clip.name}.mp4"
            target.write_bytes(Path(clip.path).read_bytes())
            write_gif(target.with_suffix(".gif"), clip.frames, clip.fps)
            folder.seconds[clip.name] = clip.seconds
        write_side_by_side(take, folder.path / "side_by_side.mp4")
        measures = {name: asdict(figures) for name, figures in take.measures.items()}
        folder.finish(take.request, take.compare, {**take.made, "measures": measures}, _stars(take.round))
        return folder.pack(path)


def write_side_by_side(take: Take, path: Path) -> None:
    """The videos next to each other, with their names above them."""
    frames = side_by_side([(texts.CLIP_LABELS[clip.name], clip.frames) for clip in take.videos])
    write_video(path, frames, take.videos[0].fps)


def unpack(run: SavedRun) -> tuple[Round, Pick, Take | None]:
    """What a tab remembers of a run that was read back. No take, if no video is in it."""
    made = {name: run.values[name] for name in ("device", "dtype", "memory", "versions") if name in run.values}
    made = run.choice.to_dict() | made
    candidates = run.candidates()
    round_ = Round(
        run.request,
        run.choice,
        made,
        candidates,
        tuple(save_picture(candidate.image) for candidate in candidates),
        judged_by=run.request.prompt,
        stars=run.stars,
    )
    picture = run.anchor_picture()
    pick = Pick(run.anchor_index if run.picked else None, picture if run.anchor_index is None else None)
    videos = run.videos()
    if not videos or picture is None:
        return round_, pick, None
    anchor = Selected(run.anchor_index, picture, run.values.get("anchor_reason") or "picked")
    clips = {name: _clip(name, data, run) for name, data in videos.items()}
    if len({clip.frames.shape[1:] for clip in clips.values()}) > 1:
        raise RequestError("the videos of this run are not of one size")
    measures = {name: Measures(**figures) for name, figures in run.values.get("measures", {}).items()}
    panes = watch.in_order(watch.save_picture(picture), clips)
    return round_, pick, Take(round_, run.request, run.choice, made, anchor, run.compare, panes, measures)


def _clip(name: str, data: bytes, run: SavedRun) -> Clip:
    path = files.fresh(f"{name}.mp4")
    path.write_bytes(data)
    request = run.request
    frames, fps = read_video(path, (request.num_frames, request.height, request.width))
    seconds = run.values.get("seconds", {}).get(name, 0.0)
    return Clip(name, str(path), len(frames), round(fps), seconds, frames)


def _record(folder: RunFolder, round_: Round) -> None:
    for candidate in sorted(round_.kept, key=lambda c: c.index):
        folder.record(candidate)


def _stars(round_: Round) -> frozenset[int]:
    return round_.stars - round_.dropped
