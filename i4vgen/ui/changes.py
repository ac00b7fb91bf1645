"""Of an event's outputs, those that change.

Handlers name what they change, of everything that they could. Gradio fills in the others, and makes each of
them anew for the session as well: about a millisecond per component, of the one thread that answers all
visitors, and that at each step of a run.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.blocks import Block


def send_only_changes(demo: gr.Blocks) -> None:
    """Lets the outputs that a handler does not name cost nothing."""
    blocks: Any = demo  # Gradio has no public way to leave outputs out
    blocks.postprocess_data = of_changes(blocks.postprocess_data)


def of_changes(postprocess: Callable[..., Awaitable[list]]) -> Callable[..., Awaitable[list]]:
    """`Blocks.postprocess_data`, which is shown those outputs alone that the handler's answer names."""

    @functools.wraps(postprocess)
    async def changes(function: BlockFunction, answer: Any, *given: Any, **named: Any) -> list:
        if not names_components(answer):
            return await postprocess(function, answer, *given, **named)
        changing = copy.copy(function)
        changing.outputs = [output for output in function.outputs if output in answer]
        values = dict(zip(changing.outputs, await postprocess(changing, answer, *given, **named), strict=True))
        return [values[output] if output in values else unchanged(output) for output in function.outputs]

    return changes


def names_components(answer: Any) -> bool:
    return isinstance(answer, dict) and bool(answer) and all(isinstance(key, Block) for key in answer)


def unchanged(output: Block) -> dict | None:
    """What Gradio sends for a component that stays as it is; nothing of a `State` is ever sent."""
    return None if output.stateful else gr.skip()
