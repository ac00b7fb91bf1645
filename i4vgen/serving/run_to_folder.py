"""Runs the pipeline and writes the results to a folder, for the command line, batches and queued prompts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

from i4vgen.config import GenerationConfig
from i4vgen.errors import ModelError
from i4vgen.events import Event, Loading, LoraFit, Result
from i4vgen.method.anchor import Anchor
from i4vgen.metrics import measure
from i4vgen.serving.runtime import Runtime
from i4vgen.storage.recipe import Recipe
from i4vgen.storage.run_place import check_room, room_for
from i4vgen.storage.runs import RunFolder


def run_to_folder(
    runtime: Runtime,
    config: GenerationConfig,
    anchor: Anchor | int | None,
    compare: Sequence[str],
    path: Path,
    listen: Callable[[Event, Path | None], object],
    metadata: bool = True,
) -> Path:
    """Makes a run with `stream_run`, which describes the other arguments and the errors.

    Args:
        listen: Called with each event and the path of its file; None if no file was written. An error that it
            raises ends the run.

    Returns:
        The path of run.json.
    """
    try:
        with closing(stream_run(runtime, config, anchor, compare, path, metadata)) as steps:
            while True:
                listen(*next(steps))
    except StopIteration as end:
        return end.value


def stream_run(
    runtime: Runtime,
    config: GenerationConfig,
    anchor: Anchor | int | None,
    compare: Sequence[str],
    path: Path,
    metadata: bool = True,
) -> Generator[tuple[Event, Path | None], None, Path]:
    """Makes a run step by step, measures its videos and writes everything to a folder.

    Changes nothing on disk until the run has started: a failed start does not replace an earlier run.

    Args:
        runtime: The runtime of the model.
        config: The settings of the run.
        anchor: The anchor to animate or the index of its candidate; None for the highest reward.
        compare: Names from `COMPARISONS`.
        path: The folder.
        metadata: Whether to embed the recipe in pictures and videos (`Recipe`).

    Yields:
        Each event and the path of its file; None if no file was written.

    Returns:
        The path of run.json.

    Raises:
        InvalidInputError: The model does not support the run, or the folder or a video cannot be written.
        ModelError: The model cannot be loaded or computes invalid values.
        OutOfMemoryError: The device has too little memory.
        StorageError: The disk has too little room or cannot be written to. Finished files stay in the folder.
    """
    check_room(path, room_for(config, compare))
    folder, measures = None, {}
    stream = runtime.stream(lambda pipeline: pipeline.run(config, anchor, compare, judge=True))
    with closing(stream) as events:  # closing the stream releases the device
        for event in events:
            if isinstance(event, Loading | LoraFit):
                yield event, None
                continue
            if folder is None:
                folder = RunFolder(path, Recipe(config, runtime.describe()) if metadata else None)
            yield event, folder.record(event)
            if isinstance(event, Result) and folder.anchor:
                figures = measure(event.frames, folder.anchor.image, event.scores, event.steadiness)
                measures[event.name] = figures.to_dict()
    if folder is None:
        raise ModelError("the run ended before it started")
    return folder.finish(config, compare, {**runtime.describe(), "measures": measures})
