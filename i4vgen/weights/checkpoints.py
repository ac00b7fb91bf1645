"""Reads torch checkpoints of models that have no safetensors file, and loads them into networks.

Code in a checkpoint is never executed. On the CPU, weights in torch's zip format stay memory-mapped until they
are converted.
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
from torch import Tensor, nn

from i4vgen.errors import ModelError


def read(file: Path, remedy: str, entry: str = "") -> dict[str, Tensor]:
    """Reads the tensors of a checkpoint on the CPU, in the precision of the file.

    Args:
        file: The checkpoint.
        remedy: The advice in error messages, in the imperative.
        entry: The key of the entry that holds the tensors. Without such an entry, the whole checkpoint is used.

    Returns:
        The tensors by name.

    Raises:
        ModelError: The file cannot be read or contains program objects, or the entry is not a table of
            tensors.
    """
    try:
        # Only torch's zip format can be memory-mapped.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError) as error:
        raise ModelError(f"cannot read {file}: it is damaged, or holds more than tensors; {remedy}") from error
    weights = content.get(entry, content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(weight, Tensor) for key, weight in weights.items()
    ):
        raise ModelError(f"{file} is not a table of tensors: {remedy}")
    return weights


def renamed(key: str, table: Iterable[tuple[str, str]]) -> str:
    """Renames a weight by applying a table of (prefix pattern, replacement) pairs in order."""
    for pattern, name in table:
        key = re.sub(f"^{pattern}", name, key)
    return key


@contextlib.contextmanager
def building(file: Path, config: str) -> Iterator[None]:
    """Builds the networks in its body on the meta device, without allocating weights, for `load_into`.

    Args:
        file: The checkpoint that will be loaded, for messages.
        config: The name of the file with the networks' sizes, for messages.

    Raises:
        ModelError: The sizes do not describe a valid network.
    """
    try:
        with torch.device("meta"):
            yield
    except (LookupError, ValueError, TypeError, RuntimeError, ArithmeticError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{file} and {config} do not fit together ({reason}): download both again") from error


def describe_misfit(network: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Returns how the names and shapes of weights differ from those of a network; empty if they are equal."""
    wanted, given = (
        {key: tuple(weight.shape) for key, weight in each.items()} for each in (network.state_dict(), weights)
    )
    wrong = sorted(key for key in wanted | given if wanted.get(key) != given.get(key))
    if not wrong:
        return ""
    key = wrong[0]
    if key in wanted and key in given:
        what = f"{given[key]} instead of {wanted[key]}"
    else:
        what = "not there" if key in wanted else "unknown"
    return f"{len(wrong)} weights differ, such as {key}: {what}"


def load_into(network: nn.Module, weights: Mapping[str, Tensor], file: Path, config: str) -> None:
    """Loads weights into a network without copying them, freezes it and puts it in evaluation mode.

    Args:
        network: A network built within `building`.
        weights: The weights by their names in the network, all on one device.
        file: The checkpoint, for messages.
        config: The name of the file with the network's sizes, for messages.

    Raises:
        ModelError: Weights are missing, unknown or of the wrong shape.
    """
    if misfit := describe_misfit(network, weights):
        raise ModelError(f"{file} does not fit {config} ({misfit}): download both again")
    network.load_state_dict(weights, assign=True)
    device = next(iter(weights.values())).device
    for module in network.modules():
        # transformers does not save its table of positions 0, 1, 2, ..., so it is still on the meta device.
        if isinstance(table := getattr(module, "position_ids", None), Tensor):
            module.position_ids = torch.arange(table.shape[-1], device=device)[None]
    network.requires_grad_(False).eval()
