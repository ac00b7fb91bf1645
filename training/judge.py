"""Trains the judge (pocket/judge.py) on rendered clips of its own, and counts its mistakes.

python -m training.judge --minutes 10
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pocket.judge import STILL, Judge
from pocket.presets import Preset
from training.data import render_all, to_tensor
from training.loop import parse_arguments, train

TRAIN_CLIPS = 4_000
TEST_CLIPS = 800
BATCH = 16
STILLS = 2  # of a batch


def make_judge(preset: Preset) -> Judge:
    return Judge(
        {
            "kind": preset.kinds,
            "member": preset.members,
            "setting": preset.settings,
            "motion": (*preset.motions, STILL),
        }
    )


def clips_of(preset: Preset, split: str, count: int) -> tuple[Tensor, Tensor]:
    """uint8 frames [N, F, H, W, 3] and the numbers of kind, member, setting and motion [N, 4]."""
    frames, numbers = [], []
    for clip in render_all(preset, split, count):
        frames.append(torch.from_numpy(clip.frames))
        numbers.append(preset.numbers(clip.shown))
    return torch.stack(frames), torch.tensor(numbers)


def soften(frames: Tensor, generator: torch.Generator) -> Tensor:
    """What generated frames have and rendered ones have not: some blur, some noise, other contrast."""
    if torch.rand((), generator=generator) < 0.5:
        blurred = F.avg_pool2d(frames.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False)
        frames = blurred.unflatten(0, frames.shape[:2])
    contrast = 0.85 + 0.3 * torch.rand(len(frames), 1, 1, 1, 1, generator=generator)
    noise = 0.1 * torch.rand((), generator=generator) * torch.randn(frames.shape, generator=generator)
    return frames * contrast.to(frames.device) + noise.to(frames.device)


def main() -> None:
    run = parse_arguments("judge", __doc__)
    preset, device = run.preset, run.device
    torch.manual_seed(0)
    judge = make_judge(preset).to(device)
    still = len(preset.motions)
    frames, numbers = clips_of(preset, "judge", TRAIN_CLIPS)

    def loss(_step: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(frames), (BATCH,), generator=generator)
        clips, truth = to_tensor(frames[index].numpy()), numbers[index].clone()
        clips[:STILLS] = clips[:STILLS, :1]
        truth[:STILLS, 3] = still
        answers = judge(soften(clips.to(device), generator))
        single = torch.randint(preset.num_frames, (), generator=generator)  # as candidates will be shown
        more = judge(soften(clips[:, single : single + 1].to(device), generator))
        truth = truth.to(device)
        both = [(head, logits) for said in (answers, more) for head, logits in said.items()]
        return sum(F.cross_entropy(logits, truth[:, Judge.heads.index(head)]) for head, logits in both)

    train(run, judge, loss, learning_rate=1e-3, ema_decay=0.995)
    judge.eval().save(run.folder / "judge")
    frames, numbers = clips_of(preset, "judge-test", TEST_CLIPS)
    with torch.inference_mode():
        said = [judge(to_tensor(part.numpy()).to(device)) for part in frames.split(25)]
    right = {
        head: (torch.cat([part[head] for part in said]).argmax(1).cpu() == numbers[:, i]).float().mean().item()
        for i, head in enumerate(Judge.heads)
    }
    run.record("judge", clips=len(frames), **right)


if __name__ == "__main__":
    main()
