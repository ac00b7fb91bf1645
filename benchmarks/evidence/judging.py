"""Who measures the videos: the pocket model's judges, its own and ImageNet's, or VBench."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.evidence import vbench_judge
from benchmarks.evidence.drawing import Job, read_anchor, read_frames, read_seconds
from benchmarks.evidence.identity import certainty, identity, resemblance
from benchmarks.evidence.imagenet import ImageNetJudge, Probe
from benchmarks.evidence.methods import REAL
from benchmarks.evidence.metrics import METRICS
from benchmarks.evidence.report import Measured
from i4vgen.media import write_video
from pocket.judge import Judge
from pocket.presets import Preset
from pocket.world import KINDS, Shown, draw_clip
from training.data import SEEDS, draw_all, render

REAL_CLIPS = 400  # held out: what the judge is tried on, and what videos are compared with
RIGHT_ENOUGH = 0.97  # a head that is wrong more often judges nothing

NO_VBENCH = """\
The videos are in {out}/videos. vbench cannot be imported here: it needs an environment of its own. There, run
    pip install vbench
    python -m benchmarks.evidence.vbench_judge {out}
then this command again, which goes on from there."""


@dataclass(frozen=True)
class Jury:
    """Our judge, by its heads that may judge, and ImageNet's."""

    judge: Judge
    heads: Sequence[str]
    imagenet: ImageNetJudge
    probe: Probe

    def measure(
        self, frames: np.ndarray, shown: Shown, anchor: np.ndarray | None, began_with_it: bool = False
    ) -> tuple[dict[str, float], np.ndarray]:
        """All figures of a video, and our judge's features of it.

        Args:
            frames: uint8 [F, H, W, 3].
            shown: What the prompt asks for. One that names a kind asks for no member.
            anchor: The picture that it is compared with, uint8 [H, W, 3]; None if there is none.
            began_with_it: Whether the video began with the anchor, which is then judged too.
        """
        figures, features = self.judge.measure(frames, shown.asks(self.heads))
        if "member" in self.heads:
            figures.setdefault("member_right", np.nan)
            seen = None if anchor is None else self.judge.look_at_each(anchor[None])["member"][0]
            figures |= identity(self.judge.look_at_each(frames)["member"], seen)
        figures["anchor_right"] = self._anchor_right(shown, anchor) if began_with_it else np.nan
        figures |= {
            f"imagenet_{name}": value
            for name, value in self._by_imagenet(frames, shown, anchor, began_with_it).items()
        }
        return figures | {name: metric(frames) for name, metric in METRICS.items()}, features

    def _anchor_right(self, shown: Shown, anchor: np.ndarray) -> float:
        asked = shown.asks(Judge.still_heads)
        if not set(asked) <= set(self.heads):
            return np.nan
        said = self.judge.look(anchor[None])
        return float(all(said[head] == name for head, name in asked.items()))

    def _by_imagenet(
        self, frames: np.ndarray, shown: Shown, anchor: np.ndarray | None, began_with_it: bool
    ) -> dict[str, float]:
        """How alike frames are to ImageNet's network, and what a linear probe on its features sees in them."""
        features, head = self.imagenet.features(frames), "member" if shown.member else "kind"
        of_anchor = None if anchor is None else self.imagenet.features(anchor[None])
        said = self.probe(features)
        seen = None if of_anchor is None else self.probe.names_of(of_anchor, "member")[0]
        asked = self.probe.names[head].index(shown.subject)
        figures = resemblance(features, of_anchor) | identity(self.probe.names_of(features, "member"), seen)
        figures |= certainty(said[head], asked)
        figures["anchor_right"] = np.nan
        if began_with_it:
            figures["anchor_right"] = float(self.probe.names_of(of_anchor, head) == [shown.subject])
        return figures


def judge_pocket(jobs: Sequence[Job], methods: Sequence[str], jury: Jury, preset: Preset) -> Measured:
    """All figures of all videos, and the judge's features of them; of a real clip of every job as well.

    A method that begins with no anchor is compared with I4VGen's.
    """
    measured: Measured = {}
    for job in tqdm(jobs, desc="judging", disable=None):
        found = measured[job.number, job.seed] = {}
        of_i4vgen = read_anchor(job, "i4vgen")
        for method in methods:
            own = read_anchor(job, method)
            anchor = of_i4vgen if own is None else own
            figures, features = jury.measure(read_frames(job, method), job.shown, anchor, own is not None)
            found[method] = {"figures": figures, "seconds": read_seconds(job, method), "features": features}
        figures, features = jury.measure(real_clip(job, preset), job.shown, None)
        found[REAL] = {"figures": figures, "seconds": 0.0, "features": features}
    return measured


def real_clip(job: Job, preset: Preset) -> np.ndarray:
    """Renders a new clip of the prompt, which no network was trained on: uint8 [F, H, W, 3]."""
    rng = np.random.default_rng([SEEDS["judge-test"], job.seed, job.number])
    member = job.shown.member or str(rng.choice(list(KINDS[job.shown.kind])))
    return draw_clip(rng, member, job.shown.setting, job.shown.motion, preset.num_frames, preset.size)


def try_on_real_clips(judge: Judge, preset: Preset) -> tuple[dict[str, float], np.ndarray]:
    """Measures the accuracy of every head on clips that were not trained on, and their features [N, D].

    Accuracy is of single frames, since identity is judged by them; the motion's is of clips.
    """
    clips = draw_all(partial(render, preset, "judge-test"), REAL_CLIPS, "drawing real clips")
    right, features = defaultdict(list), []
    for clip in clips:
        figures, seen = judge.measure(clip.frames, {"motion": clip.shown.motion})
        features.append(seen)
        right["motion"].append(figures["motion_right"])
        for head, said in judge.look_at_each(clip.frames).items():
            right[head].append(said.count(getattr(clip.shown, head)) / len(said))
    return {head: float(np.mean(right[head])) for head in Judge.heads}, np.stack(features)


def judge_vbench(jobs: Sequence[Job], methods: Sequence[str], out: Path, device: str, fps: int) -> Measured:
    """VBench's figures of all videos. Exits with what to do where `vbench` cannot be imported."""
    if not all(vbench_judge.results_file(out, method).exists() for method in methods):
        write_videos(jobs, methods, out, fps)
        try:
            vbench_judge.evaluate(out, list(vbench_judge.DIMENSIONS), device)
        except ImportError:
            raise SystemExit(NO_VBENCH.format(out=out)) from None
    measured: Measured = {}
    for method in methods:
        results = vbench_judge.read_results(out, method)
        for job in jobs:
            found = {"figures": results[f"{job.name}.mp4"], "seconds": read_seconds(job, method)}
            measured.setdefault((job.number, job.seed), {})[method] = found
    return measured


def write_videos(jobs: Sequence[Job], methods: Sequence[str], out: Path, fps: int) -> None:
    """The videos as VBench reads them: a folder for each method, and which prompt each file belongs to."""
    folder = out / "videos"
    shutil.rmtree(folder, ignore_errors=True)
    for method in methods:
        (folder / method).mkdir(parents=True)
        for job in tqdm(jobs, desc=f"writing {method}", disable=None):
            write_video(folder / method / f"{job.name}.mp4", read_frames(job, method), fps)
    prompts = {f"{job.name}.mp4": job.prompt for job in jobs}
    (folder / "prompts.json").write_text(json.dumps(prompts, indent=1) + "\n")
