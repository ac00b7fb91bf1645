"""How much of a model lies on the GPU at once, and what happens when that was too much."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import remove_hook_from_module
from torch import nn

from i4vgen.errors import OutOfMemoryError

T = TypeVar("T")

GB = 10**9

# Beside the weights. Estimates for 16 frames of 512 x 512 in half precision, generous on purpose: a wrong guess
# costs one failed attempt, after which `leaner_when_full` takes the next mode.
ROOM_FOR_BATCHES = 5 * GB
ROOM_FOR_ONE = 2.5 * GB


class Memory(enum.Enum):
    """From generous to lean.

    FULL: every network on the device, batches computed whole. SLICED: batches entry by entry, the VAE frame
    by frame and in tiles. OFFLOADED: besides, every network waits in the computer's memory for its turn.
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
    """The most generous mode for what is free on a device. Elsewhere than on CUDA: everything at once."""
    if device.type != "cuda":
        return Memory.FULL
    weights = sum(p.numel() * p.element_size() for network in networks for p in network.parameters())
    return suggest_memory(torch.cuda.mem_get_info(device)[0], weights)


def suggest_memory(free: int, weights: int) -> Memory:
    """The most generous mode for `free` bytes and networks of `weights` bytes."""
    if free >= weights + ROOM_FOR_BATCHES:
        return Memory.FULL
    return Memory.SLICED if free >= weights + ROOM_FOR_ONE else Memory.OFFLOADED


def leaner_when_full(method: Callable[..., T]) -> Callable[..., T]:
    """Lets a backbone's method run again in a leaner mode when the device is out of memory.

    The method must not leave anything half done. Raises `OutOfMemoryError` when there is no leaner mode.
    """

    @functools.wraps(method)
    def attempt(self: PlacedNetworks, *args: object, **kwargs: object) -> T:
        while True:
            try:
                return method(self, *args, **kwargs)
            except torch.OutOfMemoryError:
                pass
            # Not inside of `except`: there the traceback still holds on to the tensors of the attempt.
            free_cache()
            if self.memory.leaner is None:
                raise OutOfMemoryError(
                    "the GPU has too little free memory even for the leanest mode: ask for fewer frames or a"
                    " smaller picture, or close what else uses the GPU"
                )
            self.set_memory(self.memory.leaner)

    return attempt


class PlacedNetworks:
    """The networks of a backbone on their device, in one of the modes of `Memory`.

    networks: in the order in which a run needs them. vae: the one that decodes. memory_format: of the networks
    on a GPU.
    """

    device: torch.device
    memory: Memory
    vae: Any
    memory_format: torch.memory_format = torch.contiguous_format

    @property
    def networks(self) -> list[nn.Module]:
        raise NotImplementedError

    def set_memory(self, memory: Memory) -> None:
        """Rearranges the networks for a mode."""
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
        if self.memory is not Memory.FULL and self.vae is not None:
            self.vae.enable_slicing()
            self.vae.enable_tiling()


def free_cache() -> None:
    """Gives memory that torch keeps for later back to the device."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
