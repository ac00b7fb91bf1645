"""Makes one run into one folder: what the command line does once, and a batch for each of its runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from i4vgen.anchor import Anchor
from i4vgen.errors import ModelError
from i4vgen.events import Event, Loading, Result
from i4vgen.generation_config import GenerationConfig
from i4vgen.metrics import measure
from i4vgen.recipe import Recipe
from i4vgen.runs import RunFolder
from i4vgen.runtime import Runtime


def make_run(
    runtime: Runtime,
    config: GenerationConfig,
    anchor: Anchor | int | None,
    compare: Sequence[str],
    path: Path,
    listen: Callable[[Event, Path | None], object],
    metadata: bool = True,
) -> Path:
    """Makes a run, judges its videos and leaves everything in a folder.

    Nothing on the disk changes before the run has started: one that cannot start clears away no earlier one.

    Args:
        runtime: Of the model.
        config: What is run.
        anchor: See `I4VGenPipeline.run`.
        compare: Names from `COMPARISONS`.
        path: The folder.
        listen: Is called with every event and the file that was written for it. What it raises ends the run.
        metadata: Whether pictures and videos say how they were made (`Recipe`).

    Returns:
        The path of its run.json.

    Raises:
        InvalidInputError, ModelError, OutOfMemoryError: It cannot be made or written.
    """
    folder, measures = None, {}
    stream = runtime.stream(lambda pipeline: pipeline.run(config, anchor, compare, judge=True))
    with closing(stream) as events:  # closed with this, whatever ends it: then the device is free
        for event in events:
            if isinstance(event, Loading):
                listen(event, None)
                continue
            if folder is None:
                folder = RunFolder(path, Recipe(config, runtime.describe()) if metadata else None)
            listen(event, folder.record(event))
            if isinstance(event, Result) and folder.anchor:
                measures[event.name] = measure(event.frames, folder.anchor.image, event.scores).to_dict()
    if folder is None:
        raise ModelError("the run was over before it began")
    return folder.finish(config, compare, {**runtime.describe(), "measures": measures})
