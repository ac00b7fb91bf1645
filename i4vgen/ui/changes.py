"""Of an event's outputs, those that change.

Handlers name what they change, of everything that they could. Gradio fills in the others, and makes each of
them anew for the session as well: about a millisecond per component, of the one thread that answers all
visitors, and that at each step of a run.

Of a handler that answers several times, Gradio sends what differs from the answer before, by which its client
edits that one in place, even if the page has not applied it yet. What the earlier answer changed and the later
one does not name would be lost where both arrive together, so a value that loses a part is sent as a whole.
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


def lose_no_change(demo: gr.Blocks) -> None:
    """Lets no answer of a handler take back what its answer before has changed."""
    blocks: Any = demo  # nor has Gradio one to send an answer as it is
    blocks.handle_streaming_diffs = by_whole_values(blocks.handle_streaming_diffs)


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


def by_whole_values(differences: Callable[..., list]) -> Callable[..., list]:
    """`Blocks.handle_streaming_diffs`, which sends as a whole each value that would lose something."""

    @functools.wraps(differences)
    def whole(function: BlockFunction, answer: list, *, final: bool, **named: Any) -> list:
        values = list(answer)
        sent = differences(function, answer, final=final, **named)
        if final:
            return sent
        return [
            [["replace", [], value]] if edits is not value and takes_away(edits) else edits
            for edits, value in zip(sent, values, strict=True)
        ]

    return whole


def takes_away(edits: list[list]) -> bool:
    return any(action == "delete" for action, *_ in edits)
