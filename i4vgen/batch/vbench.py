"""The videos of a batch once more, named as the package `vbench` (Huang et al., CVPR 2024) looks for them.

It takes a folder for each method and reads the prompt of a video from its name, PROMPT-INDEX.mp4, with the
index counting the videos of one prompt from 0.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence

from i4vgen.batch.folder import BatchFolder, DiskFolder
from i4vgen.batch.tasks import Refusal, Task
from i4vgen.errors import InvalidInputError

FOLDER = "vbench"

LONGEST = 255
"""Bytes of a file's name."""


class VBenchLayout:
    """Gives the videos of finished runs their second names, as hard links where the disk has them."""

    def __init__(self, folder: BatchFolder, tasks: Sequence[Task]) -> None:
        """Removes the names that an earlier batch gave.

        Args:
            folder: Of the batch.
            tasks: All of its runs: which index a video has depends on those before it.

        Raises:
            InvalidInputError: The folder is not on a disk, from which vbench reads.
        """
        if not isinstance(folder, DiskFolder):
            raise InvalidInputError(
                f"vbench reads videos from a disk, and {folder} is not on one: copy that folder to a disk and"
                " give the copy as --out; what is finished there is not made again"
            )
        self.out = folder.path
        self.stems: dict[str, str] = {}
        seen: Counter[str] = Counter()
        for task in tasks:
            prompt = task.config.prompt
            self.stems[task.name] = f"{prompt}-{seen[prompt]}"
            seen[prompt] += 1
        for file in (self.out / FOLDER).glob("*/*.mp4"):
            file.unlink()

    def add(self, task: Task) -> None:
        """Names the videos of a finished run: I4VGen's and those that it is compared with."""
        for method in ("i4vgen", *task.compare):
            target = self.out / FOLDER / method / f"{self.stems[task.name]}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            source = self.out / task.name / f"{method}.mp4"
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)


def fitting(task: Task | Refusal) -> Task | Refusal:
    """The task, or why its prompt cannot be the name of a file."""
    if isinstance(task, Refusal):
        return task
    prompt = task.config.prompt
    long = len(f"{prompt}-999.mp4".encode()) > LONGEST
    if not long and "/" not in prompt and prompt.isprintable():
        return task
    error = (
        "vbench names videos after their prompts, and the name of a file can hold no / and 255 bytes at most"
    )
    return Refusal(task.line, prompt, str(task.config.seed), f"{error}: shorten or rewrite the prompt")
