"""Downloads and loads the backbone and the reward models of a catalogue entry, and picks the device."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import torch
from tqdm import tqdm

from i4vgen.backbones.base import Backbone
from i4vgen.bounds import shown
from i4vgen.errors import InvalidInputError
from i4vgen.events import Loading
from i4vgen.models.catalog import OWN_REWARD, REWARDS, ModelEntry
from i4vgen.rewards.base import Reward
from i4vgen.weights import hub


def pick_device(device: str | None = None) -> str:
    """Returns the given device, such as "cuda:1", or by default the best: CUDA, Apple's MPS, or the CPU.

    Raises:
        InvalidInputError: The requested device is not available.
    """
    names = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [name for name, is_there in names.items() if is_there]
    numbered = [f"cuda:{index}" for index in range(torch.cuda.device_count() if names["cuda"] else 0)]
    if device is None:
        return available[0]
    if device in (*available, *numbered):
        return device
    why = f" ({WITHOUT_CUDA})" if device.startswith("cuda") and is_built_for_cpu() else ""
    offered = ", ".join(numbered + [name for name in available if name != "cuda"])
    raise InvalidInputError(f"device {shown(device)} is not available here{why}: use {offered}")


WITHOUT_CUDA = "this PyTorch was built without CUDA: pytorch.org/get-started says how to install one with it"


def is_built_for_cpu() -> bool:
    """Returns whether this PyTorch supports no NVIDIA or AMD GPU, like pip's default build on Windows."""
    return torch.version.cuda is None and torch.version.hip is None


def unused_gpu() -> str | None:
    """Returns a warning about an NVIDIA GPU that this PyTorch cannot use; None without such a GPU."""
    if not is_built_for_cpu() or shutil.which("nvidia-smi") is None:
        return None
    return f"the NVIDIA card of this machine is not used: {WITHOUT_CUDA}"


def download_model(entry: ModelEntry) -> Iterator[Loading]:
    """Downloads a model's missing files into the hub's cache and yields the progress.

    Raises:
        ModelError: A download fails, or a LoRA is invalid. Loading reports an unreachable hub or missing model.
    """
    for part in entry.downloads:
        for done, total in hub.download(part.repo_or_path, part.files):
            yield Loading(part.repo_or_path, done, total)


def download_in_terminal(entry: ModelEntry) -> None:
    """Downloads a model's missing files with a progress bar per part.

    Raises:
        ModelError: A download fails, or a LoRA is invalid.
    """
    bars: dict[str, tqdm] = {}
    for event in download_model(entry):
        name = event.repo_or_path
        if name not in bars:
            bars[name] = tqdm(total=event.total, desc=name, unit="B", unit_scale=True)
        bars[name].update(event.done - bars[name].n)
    for bar in bars.values():
        bar.close()


def load_model(
    entry: ModelEntry,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    compiled: bool = False,
    variant: str | None = None,
) -> tuple[Backbone, list[Reward]]:
    """Loads a model's backbone and reward models, the arguments of `I4VGenPipeline`.

    Args:
        entry: The entry from `catalog.find`.
        device: The device for `pick_device`.
        dtype: The dtype of the backbone's networks; None selects the fastest on the device.
        compiled: Whether to compile the networks.
        variant: The preferred variant of the weights, such as "fp16", if the model has any
            (`catalog.of_variant`).

    Raises:
        InvalidInputError: The device is not available.
        ModelError: A part is missing or damaged.
    """
    device = pick_device(device)
    options: dict[str, Any] = {"loras": entry.loras} if entry.loras else {}
    if variant:
        options["variant"] = variant
    backbone = entry.backbone.from_pretrained(
        **entry.sources, **options, device=device, dtype=dtype or hub.fastest_dtype(device, entry.backbone.half)
    )
    if compiled:
        backbone.compile()
    return backbone, load_rewards(entry, device)


def load_rewards(entry: ModelEntry, device: str) -> list[Reward]:
    """Loads the reward models of an entry in order, skipping `OWN_REWARD` if the model has none.

    Raises:
        ModelError: A part is missing or damaged.
    """
    rewards = []
    for name in reward_names(entry):
        sources = {key: part.repo_or_path for key, part in REWARDS[name].parts.items()}
        if name == OWN_REWARD:
            sources = {"model": entry.sources["model"]}
        rewards.append(REWARDS[name].load(**sources, device=device))
    return rewards


def reward_names(entry: ModelEntry) -> list[str]:
    """Returns the names of an entry's reward models, without `OWN_REWARD` if the model has none.

    Raises:
        ModelError: The model cannot be found, or the configuration of its own reward model is damaged.
    """

    def exists(name: str) -> bool:
        model = entry.sources.get("model")
        return name != OWN_REWARD or (
            model is not None and hub.read_json(model, "reward/config.json") is not None
        )

    return list(filter(exists, entry.rewards))
