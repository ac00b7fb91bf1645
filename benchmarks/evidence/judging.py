"""Who measures the videos: the pocket model's judges, its own and ImageNet's, or VBench."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.evidence import vbench_judge
from benchmarks.evidence.drawing import Case, read_drawn
from benchmarks.evidence.identity import certainty, identity_figures, resemblance
from benchmarks.evidence.imagenet import ImageNetJudge, Probe
from benchmarks.evidence.measured import Measured, Row
from benchmarks.evidence.methods import REAL
from benchmarks.evidence.metrics import METRICS
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

    def measure(self, frames: np.ndarray, shown: Shown, anchor: np.ndarray | None) -> dict[str, float]:
        """All figures of a video.

        Args:
            frames: uint8 [F, H, W, 3].
            shown: What the prompt asks for. One that names a kind asks for no member.
            anchor: The picture that it is compared with, uint8 [H, W, 3]; None if there is none.
        """
        figures = self.judge.measure(frames, shown.asks(self.heads))
        if "member" in self.heads:
            figures.setdefault("member_right", np.nan)
            seen = None if anchor is None else self.judge.look_at_each(anchor[None])["member"][0]
            figures |= identity_figures(self.judge.look_at_each(frames)["member"], seen)
        by_imagenet = self._by_imagenet(frames, shown, anchor)
        figures |= {f"imagenet_{name}": value for name, value in by_imagenet.items()}
        return figures | {name: metric(frames) for name, metric in METRICS.items()}

    def right(self, images: np.ndarray, shown: Shown) -> dict[str, np.ndarray]:
        """Which of these pictures, uint8 [P, H, W, 3], show what a prompt asks for: 0 or 1, [P].

        `right`: all of it, by our judge, if its heads may say so. `imagenet_right`: the subject, by ImageNet's.
        """
        asked, found = shown.asks(Judge.still_heads), {}
        if set(asked) <= set(self.heads):
            said = self.judge.look_at_each(images)
            agree = [np.array(said[head]) == name for head, name in asked.items()]
            found["right"] = np.all(agree, axis=0).astype(float)
        named = self.probe.names_of(self.imagenet.features(images), head_of(shown))
        found["imagenet_right"] = (np.array(named) == shown.subject).astype(float)
        return found

    def _by_imagenet(self, frames: np.ndarray, shown: Shown, anchor: np.ndarray | None) -> dict[str, float]:
        """How alike frames are to ImageNet's network, and what a linear probe on its features sees in them."""
        features, head = self.imagenet.features(frames), head_of(shown)
        of_anchor = None if anchor is None else self.imagenet.features(anchor[None])
        seen = None if of_anchor is None else self.probe.names_of(of_anchor, "member")[0]
        members = self.probe.names_of(features, "member")
        figures = resemblance(features, of_anchor) | identity_figures(members, seen)
        asked = self.probe.names[head].index(shown.subject)
        return figures | certainty(self.probe(features)[head], asked)


def head_of(shown: Shown) -> str:
    """Which head can tell whether a prompt's subject is there."""
    return "member" if shown.member else "kind"


def judge_pocket(plan: Mapping[Case, Sequence[str]], jury: Jury, preset: Preset) -> Measured:
    """All figures of all videos, and of a real clip of every case. plan: the methods of each case."""
    measured: Measured = {}
    for case, methods in tqdm(plan.items(), desc="judging", disable=None):
        found = measured[case.key] = {}
        for method in methods:
            drawn = read_drawn(case, method)
            figures = jury.measure(drawn.frames, case.shown, drawn.anchor)
            found[method] = Row(figures, drawn.seconds, drawn.provenance)
        found[REAL] = Row(jury.measure(real_clip(case, preset), case.shown, None))
    return measured


def real_clip(case: Case, preset: Preset) -> np.ndarray:
    """Renders a new clip of the prompt, which no network was trained on: uint8 [F, H, W, 3]."""
    rng = np.random.default_rng([SEEDS["judge-test"], case.seed, case.number])
    member = case.shown.member or str(rng.choice(list(KINDS[case.shown.kind])))
    return draw_clip(rng, member, case.shown.setting, case.shown.motion, preset.num_frames, preset.size)


def accuracy_on_real_clips(judge: Judge, preset: Preset) -> dict[str, float]:
    """The accuracy of every head on clips that were not trained on.

    It is of single frames, since identity is judged by them; the motion's is of clips.
    """
    right = defaultdict(list)
    for clip in draw_all(partial(render, preset, "judge-test"), REAL_CLIPS, "drawing real clips"):
        right["motion"].append(judge.measure(clip.frames, {"motion": clip.shown.motion})["motion_right"])
        for head, said in judge.look_at_each(clip.frames).items():
            right[head].append(said.count(getattr(clip.shown, head)) / len(said))
    return {head: float(np.mean(right[head])) for head in Judge.heads}


def judge_vbench(cases: Sequence[Case], methods: Sequence[str], out: Path, device: str, fps: int) -> Measured:
    """VBench's figures of all videos. Exits with what to do where `vbench` cannot be imported."""
    if not all(vbench_judge.results_file(out, method).exists() for method in methods):
        write_videos(cases, methods, out, fps)
        try:
            vbench_judge.evaluate(out, list(vbench_judge.DIMENSIONS), device)
        except ImportError:
            raise SystemExit(NO_VBENCH.format(out=out)) from None
    measured: Measured = {}
    for method in methods:
        results = vbench_judge.read_results(out, method)
        for case in cases:
            drawn = read_drawn(case, method)
            row = Row(results[f"{case.name}.mp4"], drawn.seconds, drawn.provenance)
            measured.setdefault(case.key, {})[method] = row
    return measured


def write_videos(cases: Sequence[Case], methods: Sequence[str], out: Path, fps: int) -> None:
    """The videos as VBench reads them: a folder for each method, and which prompt each file belongs to."""
    folder = out / "videos"
    shutil.rmtree(folder, ignore_errors=True)
    for method in methods:
        (folder / method).mkdir(parents=True)
        for case in tqdm(cases, desc=f"writing {method}", disable=None):
            write_video(folder / method / f"{case.name}.mp4", read_drawn(case, method).frames, fps)
    prompts = {f"{case.name}.mp4": case.prompt for case in cases}
    (folder / "prompts.json").write_text(json.dumps(prompts, indent=1) + "\n")
