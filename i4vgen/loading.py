"""Loads a model of the catalogue: its backbone and its reward models. It knows no pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from tqdm import tqdm

from i4vgen import hub
from i4vgen.backbones.base import Backbone
from i4vgen.catalog import OWN_REWARD, REWARDS, Entry
from i4vgen.errors import InvalidInputError
from i4vgen.events import Loading
from i4vgen.rewards.base import Reward


def pick_device(device: str | None = None) -> str:
    """The device to run on: the one asked for, else CUDA, else Apple's MPS, else the CPU.

    Raises:
        InvalidInputError: This machine does not have the device that was asked for.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None:
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    kind = device.partition(":")[0]
    if not available.get(kind, False):
        have = ", ".join(name for name, there in available.items() if there)
        raise InvalidInputError(f"device {device!r} is not available here: use {have}")
    return device


def download(entry: Entry) -> Iterator[Loading]:
    """Downloads what is missing of a model into the hub's cache and reports progress.

    Raises:
        ModelError: A download fails half-way. What cannot be reached at all shows when it is loaded.
    """
    for part in entry.downloads:
        for done, total in hub.download(part.repo_or_path, part.files):
            yield Loading(part.repo_or_path, done, total)


def download_in_terminal(entry: Entry) -> None:
    """The same with a progress bar for each part."""
    bars: dict[str, tqdm] = {}
    for event in download(entry):
        name = event.repo_or_path
        bar = bars.get(name) or bars.setdefault(
            name, tqdm(total=event.total, desc=name, unit="B", unit_scale=True)
        )
        bar.update(event.done - bar.n)
    for bar in bars.values():
        bar.close()


def load(
    entry: Entry, device: str | None = None, dtype: torch.dtype | None = None, compiled: bool = False
) -> tuple[Backbone, list[Reward]]:
    """Loads a model, ready for `I4VGenPipeline(*load(entry))`.

    Args:
        entry: From `catalog.find`.
        device: "cuda", "mps" or "cpu"; None takes the best there is.
        dtype: Of the networks that draw; None takes the fastest that the device computes in.
        compiled: Whether to compile the networks.

    Raises:
        InvalidInputError: This machine does not have the device.
        ModelError: Something is missing or damaged.
    """
    device = pick_device(device)
    loras = {"loras": entry.loras} if entry.loras else {}
    backbone = entry.backbone.from_pretrained(
        **entry.sources, **loras, device=device, dtype=dtype or hub.fastest_dtype(device, entry.backbone.half)
    )
    if compiled:
        backbone.compile()
    return backbone, load_rewards(entry, device)


def load_rewards(entry: Entry, device: str) -> list[Reward]:
    """The reward models of an entry, in order. A model without a reward of its own is loaded without one."""
    rewards = []
    for name in entry.rewards:
        known = REWARDS[name]
        sources = {key: part.repo_or_path for key, part in known.parts.items()}
        if name == OWN_REWARD:
            model = entry.sources.get("model")
            if model is None or hub.read_json(model, "reward/config.json") is None:
                continue
            sources = {"model": model}
        rewards.append(known.load(**sources, device=device))
    return rewards
