"""Torch checkpoints: how weights are read that nobody published as safetensors, and put into a network.

Nothing in a file is ever executed, and on the CPU the weights stay where they are, in a file that is mapped
into memory, until they are converted.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from i4vgen.errors import ModelError


def read(file: Path, remedy: str, entry: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, on the CPU and in the precision of the file.

    Args:
        file: The checkpoint.
        remedy: What to do about a file that cannot be used, in the imperative.
        entry: The part of the checkpoint that holds the tensors; a checkpoint without it is taken whole.

    Raises:
        ModelError: The file is damaged, or there is anything but tensors in it.
    """
    try:
        # weights_only: no code in the file is ever run. Only torch's zip format can be mapped into memory.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError) as error:
        raise ModelError(f"cannot read {file}: it is damaged, or holds more than tensors; {remedy}") from error
    weights = content.get(entry, content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(weight, torch.Tensor) for key, weight in weights.items()
    ):
        raise ModelError(f"{file} is not a table of tensors: {remedy}")
    return weights


def renamed(key: str, table: Iterable[tuple[str, str]]) -> str:
    """The name of a weight in another library.

    Args:
        key: Its name in the file.
        table: Patterns of how names begin, and what takes their place, applied one after the other.
    """
    for pattern, name in table:
        key = re.sub(f"^{pattern}", name, key)
    return key


@contextlib.contextmanager
def building(file: Path, config: str) -> Iterator[None]:
    """Networks that are built in this context take neither memory nor random numbers, until `fill`.

    Args:
        file: The checkpoint that is to fill them.
        config: What the file with their sizes is called.

    Raises:
        ModelError: There is no such network.
    """
    try:
        with torch.device("meta"):
            yield
    except (LookupError, ValueError, TypeError, RuntimeError, ArithmeticError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{file} and {config} do not fit together ({reason}): download both again") from error


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor], file: Path, config: str) -> None:
    """Makes these tensors the weights of the network, without a copy, and freezes it in evaluation mode.

    Args:
        network: From `building`.
        weights: By the network's names, on one device.
        file, config: What the weights were read from and what the network was built by, for the message.

    Raises:
        ModelError: Weights are missing, unknown or of the wrong shape.
    """
    wanted = {key: tuple(weight.shape) for key, weight in network.state_dict().items()}
    given = {key: tuple(weight.shape) for key, weight in weights.items()}
    if wrong := sorted(key for key in wanted | given if wanted.get(key) != given.get(key)):
        key = wrong[0]
        what = "not there" if key not in given else "unknown" if key not in wanted else f"of shape {given[key]}"
        raise ModelError(
            f"{file} does not fit {config} ({len(wrong)} weights differ, such as {key}: {what}): download both"
            " again"
        )
    network.load_state_dict(weights, assign=True)
    device = next(iter(weights.values())).device
    for module in network.modules():
        # transformers counts positions with a table of 0, 1, 2, ... that it does not save.
        if isinstance(table := getattr(module, "position_ids", None), torch.Tensor):
            module.position_ids = torch.arange(table.shape[-1], device=device)[None]
    network.requires_grad_(False).eval()
