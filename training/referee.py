"""The referee: a classifier of subject, setting and motion that takes no part in generation or selection.

It learns from rendered clips only, on a seed of its own, and judges what the model generates
(training/evaluate.py). It is not shipped.

    python -m training.referee --minutes 4
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import Preset
from training.data import render_all, to_tensor
from training.loop import Run, parse_arguments, train

TRAIN_CLIPS = 6_000
TEST_CLIPS = 1_000


class Referee(nn.Module):
    """Frames [B, F, 3, H, W] in -1..1 -> logits of subject, setting and motion. Works on single
    frames too.
    """

    def __init__(self, preset: Preset):
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for channels in (32, 64, 96, 128):
            layers += [
                nn.Conv2d(width, channels, 3, stride=2, padding=1),
                nn.GroupNorm(8, channels),
                nn.GELU(),
            ]
            width = channels
        self.eye = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, 256))
        self.subject = nn.Linear(256, len(preset.subjects))
        self.setting = nn.Linear(256, len(preset.settings))
        self.memory = nn.GRU(256, 128, batch_first=True)
        self.motion = nn.Linear(128, len(preset.motions))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = self.eye(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        whole = F.gelu(seen).mean(1)
        return self.subject(whole), self.setting(whole), self.motion(self.memory(seen)[0][:, -1])


def load_referee(run: Run) -> Referee:
    referee = Referee(run.preset)
    referee.load_state_dict(torch.load(run.folder / "referee.pt", weights_only=True, map_location="cpu"))
    return referee.eval()


def clips_of(preset: Preset, split: str, count: int) -> tuple[Tensor, Tensor]:
    """uint8 frames [N, F, H, W, 3] and the numbers of subject, setting and motion [N, 3]."""
    frames, labels = [], []
    for clip in render_all(preset, split, count):
        frames.append(torch.from_numpy(clip.frames))
        labels.append(preset.numbers(clip.subject, clip.setting, clip.motion))
    return torch.stack(frames), torch.tensor(labels)


def soften(frames: Tensor, generator: torch.Generator) -> Tensor:
    """What generated frames have and rendered ones have not: some blur, some noise, other contrast."""
    if torch.rand((), generator=generator) < 0.5:
        blurred = F.avg_pool2d(frames.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False)
        frames = blurred.unflatten(0, frames.shape[:2])
    contrast = 0.85 + 0.3 * torch.rand(len(frames), 1, 1, 1, 1, generator=generator)
    noise = 0.1 * torch.rand((), generator=generator) * torch.randn(frames.shape, generator=generator)
    return frames * contrast.to(frames.device) + noise.to(frames.device)


def main() -> None:
    run = parse_arguments("referee", __doc__)
    preset, device = run.preset, run.device
    torch.manual_seed(0)
    referee = Referee(preset).to(device)
    frames, labels = clips_of(preset, "referee", TRAIN_CLIPS)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(frames), (32,), generator=generator)
        clips = soften(to_tensor(frames[index].numpy()).to(device), generator)
        if step % 2:  # single frames: as candidates will be shown
            which = torch.randint(preset.num_frames, (), generator=generator)
            clips = clips[:, which : which + 1]
        answers = referee(clips)
        heads = answers[:2] if step % 2 else answers
        truth = labels[index].to(device)
        return sum(F.cross_entropy(head, truth[:, i]) for i, head in enumerate(heads))

    train(run, referee, loss, learning_rate=1e-3, ema_decay=0.99)
    torch.save(referee.state_dict(), run.folder / "referee.pt")
    referee.eval()
    frames, labels = clips_of(preset, "referee-test", TEST_CLIPS)
    with torch.no_grad():
        parts = [referee(to_tensor(part.numpy()).to(device)) for part in frames.split(50)]
    right = [
        (torch.cat([part[i] for part in parts]).argmax(1).cpu() == labels[:, i]).float().mean().item()
        for i in range(3)
    ]
    run.record("referee", **dict(zip(("subject", "setting", "motion"), right, strict=True)))


if __name__ == "__main__":
    main()
