"""Memory modes, which control how much of a model is on the device, and handling of out-of-memory errors."""

from __future__ import annotations

import contextlib
import enum
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import remove_hook_from_module
from torch import nn

from i4vgen.errors import I4VGenError, OutOfMemoryError

T = TypeVar("T")

GB = 10**9

# Memory required besides the weights: generous estimates for 16 frames of 512 x 512 in half precision. If an
# estimate is too low, one attempt fails and `leaner_when_full` switches to the next mode.
ROOM_FOR_BATCHES = 5 * GB
ROOM_FOR_ONE = 2.5 * GB

OUT_OF_MEMORY = (
    "out of memory",  # MPS, and CUDA outside PyTorch's allocator
    "invalid buffer size",  # MPS, for a single tensor that is too large
    "alloc_failed",  # cuBLAS, cuDNN
    "allocate memory",  # the CPU on Linux and macOS
    "not enough memory",  # the CPU on Windows
)
"""Phrases in the messages of out-of-memory errors, in lower case."""


class Memory(enum.Enum):
    """Memory modes, from generous to lean.

    FULL keeps the networks on the device and computes whole batches. SLICED computes batches entry by entry,
    and in the VAE also tile by tile. OFFLOADED does the same and keeps idle networks in the CPU's memory.
    """

    FULL = "full"
    SLICED = "sliced"
    OFFLOADED = "offloaded"

    @property
    def leaner(self) -> Memory | None:
        modes = list(Memory)
        index = modes.index(self) + 1
        return modes[index] if index < len(modes) else None


def choose_memory(device: torch.device, networks: Iterable[nn.Module]) -> Memory:
    """Returns the most generous mode that fits a device's free memory; always FULL without CUDA."""
    if device.type != "cuda":
        return Memory.FULL
    weights = sum(p.numel() * p.element_size() for network in networks for p in network.parameters())
    return suggest_memory(torch.cuda.mem_get_info(device)[0], weights)


def suggest_memory(free: int, weights: int) -> Memory:
    """Returns the most generous mode that fits in `free` bytes for networks of `weights` bytes."""
    if free >= weights + ROOM_FOR_BATCHES:
        return Memory.FULL
    return Memory.SLICED if free >= weights + ROOM_FOR_ONE else Memory.OFFLOADED


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that the device or the CPU ran out of memory.

    Only PyTorch's CUDA allocator raises `torch.OutOfMemoryError`, and only Python raises `MemoryError`. Other
    errors are recognised by their messages.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if not isinstance(error, RuntimeError) or isinstance(error, I4VGenError):
        return False
    return any(phrase in str(error).lower() for phrase in OUT_OF_MEMORY)


@contextlib.contextmanager
def memory_errors_in_words(device: torch.device | str) -> Iterator[None]:
    """Converts out-of-memory errors of any device to `OutOfMemoryError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Drop the traceback, which keeps the tensors of the failed attempt alive.
        raise OutOfMemoryError(too_little_memory(device)) from error.with_traceback(None)


def too_little_memory(device: torch.device | str, when: str = "") -> str:
    """Returns the message for `OutOfMemoryError`.

    Args:
        device: The device that ran out of memory.
        when: Words to insert after "memory", with a leading space.
    """
    name = "this computer" if torch.device(device).type == "cpu" else "the GPU"
    return (
        f"{name} has too little free memory{when}: ask for fewer frames or a smaller picture (height, width),"
        " or close what else uses its memory"
    )


def leaner_when_full(method: Callable[..., T]) -> Callable[..., T]:
    """Makes a backbone's method retry in a leaner mode when the device runs out of memory.

    The mode stays in effect for the rest of the run (`PlacedNetworks.begin_run`). The method must be safe to
    repeat. It raises `OutOfMemoryError` if it runs out of memory in the leanest mode.
    """

    @functools.wraps(method)
    def attempt(self: PlacedNetworks, *args: object, **kwargs: object) -> T:
        while True:
            try:
                return method(self, *args, **kwargs)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Not within `except`, where the traceback would keep the tensors of the failed attempt alive.
            free_cache()
            if self.memory.leaner is None:
                raise OutOfMemoryError(too_little_memory(self.device, " even for the leanest mode"))
            self._rearrange(self.memory.leaner)

    return attempt


class PlacedNetworks(ABC):
    """Places the networks of a backbone on a device according to a memory mode.

    Attributes:
        networks: The networks to place, in the order in which a run uses them.
        device: The device to run on.
        memory: The current memory mode.
        vae: The VAE; None if the backbone has none.
        memory_format: The memory format of the networks on a GPU.
    """

    device: torch.device
    memory: Memory
    _chosen: Memory
    vae: Any
    memory_format: torch.memory_format = torch.contiguous_format

    @property
    @abstractmethod
    def networks(self) -> list[nn.Module]: ...

    def set_memory(self, memory: Memory) -> None:
        """Sets the memory mode in which every run begins, and places the networks."""
        self._chosen = memory
        self._rearrange(memory)

    def begin_run(self) -> None:
        """Returns to the mode of `set_memory`, because this run may need less memory than the previous one."""
        if self.memory is not self._chosen:
            self._rearrange(self._chosen)

    def _rearrange(self, memory: Memory) -> None:
        self.memory = memory
        self._place()

    @leaner_when_full
    def _place(self) -> None:
        for network in self.networks:
            remove_hook_from_module(network)
            layout = self.memory_format if self.device.type == "cuda" else torch.contiguous_format
            place = torch.device("cpu") if self.memory is Memory.OFFLOADED else self.device
            network.to(place, memory_format=layout)  # pyright: ignore[reportCallIssue]  not in torch's overloads
        if self.memory is Memory.OFFLOADED:
            free_cache()
            hook = None
            for network in self.networks:
                _, hook = cpu_offload_with_hook(network, self.device, prev_module_hook=hook)
        if self.vae is not None:
            if self.memory is Memory.FULL:
                self.vae.disable_slicing()
                self.vae.disable_tiling()
            else:
                self.vae.enable_slicing()
                self.vae.enable_tiling()


def free_cache() -> None:
    """Releases the device memory that PyTorch caches."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
