"""The judge of the pocket model's videos: a small network that takes no part in making or choosing them.

It learns from rendered clips only, with a seed of its own (training/judge.py), and says of any clip what it
shows. Its features stand in for the pretrained networks of VBench (CLIP, DINO), which know nothing of drawings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

FOLDER = Path(__file__).parent / "judge_weights"
STILL = "still"  # the motion of a video in which nothing moves
CENTRE = (0.2, 0.8)  # of the sides of a frame: where the subject is


class Judge(nn.Module):
    """Frames [B, F, 3, H, W] in -1..1 -> logits of kind, member, setting and, where there are three frames
    or more, motion.

    Motion is seen by an eye of its own, which looks at three frames at a time: what passes by is told by how a
    place changes, not by what is there.
    """

    still_heads = ("kind", "member", "setting")  # a single frame is enough for them
    heads = (*still_heads, "motion")

    def __init__(self, names: dict[str, Sequence[str]]):
        """names: of every head, what it can answer."""
        super().__init__()
        self.names = {head: tuple(names[head]) for head in self.heads}
        self.eye = nn.Sequential(*convolutions(3, (32, 64, 96, 128)), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.read = nn.Linear(16 * 128, 256)
        self.flow_eye = nn.Sequential(*convolutions(9, (32, 64, 96)), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.flow_read = nn.Linear(16 * 96, 192)
        self.memory = nn.GRU(192, 128, batch_first=True)
        self.answers = nn.ModuleDict(
            {head: nn.Linear(128 if head == "motion" else 256, len(self.names[head])) for head in self.heads}
        )

    def features(self, frames: Tensor) -> Tensor:
        """What a frame looks like: [B, F, 256]."""
        return self.read(self.eye(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])

    def motion_features(self, frames: Tensor) -> Tensor:
        """How a clip moves: [B, 128]."""
        small = F.avg_pool2d(frames.flatten(0, 1), 2).unflatten(0, frames.shape[:2])
        threes = torch.cat([small[:, :-2], small[:, 1:-1], small[:, 2:]], dim=2)
        seen = self.flow_read(self.flow_eye(threes.flatten(0, 1))).unflatten(0, threes.shape[:2])
        return self.memory(F.gelu(seen))[0].mean(1)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        logits = self.seen_in(self.features(frames))
        if frames.shape[1] > 2:
            logits["motion"] = self.answers["motion"](self.motion_features(frames))
        return logits

    def seen_in(self, features: Tensor) -> dict[str, Tensor]:
        """What frames with these features [B, F, 256] show: logits of all heads but the motion's."""
        whole = F.gelu(features).mean(1)
        return {head: self.answers[head](whole) for head in self.still_heads}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.half().contiguous() for name, value in self.state_dict().items()},
            folder / "model.safetensors",
        )
        (folder / "names.json").write_text(json.dumps(self.names, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Judge:
        judge = cls(json.loads((folder / "names.json").read_text()))
        judge.load_state_dict(
            {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
        )
        return judge.eval().requires_grad_(False)

    @torch.inference_mode()
    def measure(self, frames: np.ndarray, wanted: Mapping[str, str]) -> dict[str, float]:
        """Figures of a video, uint8 [F, H, W, 3].

        wanted: what the prompt asks for, by the heads that are to judge.
        `..._right`: whether the video shows it, 0 or 1.
        `motion_certainty`: the probability of the right motion.
        `worst_frame`: the lowest probability of any frame that all of it (but the motion) is right.
        `..._consistency`: how alike frames are, as in VBench: the mean cosine of their features to the first
        frame's and to the one before.
        """
        pixels = pixels_of(frames)
        looks, moves = self.features(pixels), self.motion_features(pixels)
        logits = self.seen_in(looks) | {"motion": self.answers["motion"](moves)}
        said = self._names_of(logits)
        figures = {f"{head}_right": float(said[head] == name) for head, name in wanted.items()}
        if "motion" in wanted:
            figures["motion_certainty"] = (
                logits["motion"][0].softmax(0)[self.names["motion"].index(wanted["motion"])].item()
            )
        asked = [
            single.softmax(1)[:, self.names[head].index(wanted[head])]
            for head, single in self.seen_in(looks.transpose(0, 1)).items()
            if head in wanted
        ]
        figures["worst_frame"] = torch.stack(asked).prod(0).min().item() if asked else float("nan")
        subject, background = self._parted(pixels)
        figures["subject_consistency"] = likeness(self.features(subject)[0])
        figures["background_consistency"] = likeness(self.features(background)[0])
        return figures

    @staticmethod
    def _parted(pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [..., H, W] with the middle alone, and without it; the rest is grey."""
        height, width = pixels.shape[-2:]
        mask = torch.zeros(height, width)
        low, high = CENTRE
        mask[round(low * height) : round(high * height), round(low * width) : round(high * width)] = 1
        return pixels * mask, pixels * (1 - mask)

    @torch.inference_mode()
    def look_at_each(self, frames: np.ndarray) -> dict[str, list[str]]:
        """What each of the uint8 frames [F, H, W, 3] shows on its own, by still head."""
        logits = self.seen_in(self.features(pixels_of(frames)).transpose(0, 1))
        return {
            head: [self.names[head][number] for number in values.argmax(1).tolist()]
            for head, values in logits.items()
        }

    @torch.inference_mode()
    def look(self, frames: np.ndarray) -> dict[str, str]:
        """What uint8 frames [F, H, W, 3] show, by head."""
        return self._names_of(self(pixels_of(frames)))

    def _names_of(self, logits: Mapping[str, Tensor]) -> dict[str, str]:
        return {head: self.names[head][values[0].argmax()] for head, values in logits.items()}


def likeness(features: Tensor) -> float:
    """Of frames' features [F, D]: the mean cosine of every frame with the first and with the one before it."""
    unit = F.normalize(features, dim=1)
    return ((unit[1:] @ unit[0]).mean() + (unit[1:] * unit[:-1]).sum(1).mean()).item() / 2


def convolutions(width: int, channels: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for wider in channels:
        layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1), nn.GroupNorm(8, wider), nn.GELU()]
        width = wider
    return layers


def pixels_of(frames: np.ndarray) -> Tensor:
    """uint8 [F, H, W, 3] -> [1, F, 3, H, W] in -1..1."""
    return torch.from_numpy(frames).movedim(-1, -3)[None].float() / 127.5 - 1
