"""Names the videos of a batch for the `vbench` package (Huang et al., CVPR 2024).

VBench expects one folder per method with videos named PROMPT-INDEX.mp4; the index counts the videos of a
prompt from 0. The names are portable: they differ in more than case, and contain no character that Windows,
macOS or exFAT forbid.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Sequence

from i4vgen.cli.batch.folder import BatchFolder
from i4vgen.cli.batch.tasks import Refusal, Task
from i4vgen.errors import InvalidInputError

FOLDER = "vbench"

MAX_NAME_BYTES = 255
"""Maximum length of a file name in bytes."""

FULL_WIDTH = str.maketrans({char: chr(ord(char) + 0xFEE0) for char in ':?"*<>|\\'})
"""Replaces characters that some file systems forbid with their full-width forms.

VBench's text encoders treat both alike: CLIP's tokenizer converts full-width characters to ASCII.
"""


class VBenchLayout:
    """Links the videos of finished runs under VBench's names, or copies them if links are unsupported."""

    def __init__(self, folder: BatchFolder, tasks: Sequence[Task]) -> None:
        """Assigns the names and removes the videos of an earlier layout.

        Args:
            folder: The folder of the batch.
            tasks: All runs of the batch, which determine the indices.

        Raises:
            InvalidInputError: The folder is not on a local disk.
        """
        if folder.on_disk is None:
            raise InvalidInputError(
                f"vbench reads videos from a disk, and {folder} is not on one: copy that folder to a disk and"
                " give the copy as --out; finished runs are not made again"
            )
        self.out = folder.on_disk
        self.stems: dict[str, str] = {}
        seen: Counter[str] = Counter()
        for task in tasks:
            prompt = portable(task.config.prompt)
            key = folded(prompt)
            self.stems[task.name] = f"{prompt}-{seen[key]}"
            seen[key] += 1
        for file in (self.out / FOLDER).glob("*/*.mp4"):
            file.unlink()

    def add(self, task: Task) -> None:
        """Adds I4VGen's video and the comparison videos of a finished run.

        Raises:
            OSError: A video can be neither linked nor copied.
        """
        for method in ("i4vgen", *task.compare):
            target = self.out / FOLDER / method / f"{self.stems[task.name]}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            source = self.out / task.name / f"{method}.mp4"
            target.unlink(missing_ok=True)  # replaced, as it may link to another run's video
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)


def portable(prompt: str) -> str:
    """Replaces the characters of a prompt that only some file systems forbid in names (`FULL_WIDTH`)."""
    return prompt.translate(FULL_WIDTH)


def folded(name: str) -> str:
    """Returns a key for comparing names as file systems may do, ignoring case and Unicode forms."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).upper().casefold())


def fitting(task: Task | Refusal) -> Task | Refusal:
    """Returns the task, or a refusal if its prompt cannot be part of a file name."""
    if isinstance(task, Refusal):
        return task
    prompt = task.config.prompt
    long = len(f"{portable(prompt)}-999.mp4".encode()) > MAX_NAME_BYTES
    if not long and "/" not in prompt and prompt.isprintable():
        return task
    error = (
        "vbench names videos after their prompts, and the name of a file can hold no / and 255 bytes at most"
    )
    return Refusal(task.line, prompt, str(task.config.seed), f"{error}: shorten or rewrite the prompt")
