"""The recipe of a picture or a video: how it was made, embedded in the file itself.

A recipe is a part of run.json, stored as JSON in the comment of an mp4 or a GIF, a text chunk of a PNG, or
the EXIF description of a WebP. It has no date, machine or folder, so that equal requests give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from i4vgen.config import GenerationConfig
from i4vgen.events import Selected
from i4vgen.media import pixels_sha256
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.models.catalog import ModelSpec


@dataclass(frozen=True)
class Recipe:
    """How a file was made.

    Attributes:
        config: The run's configuration.
        made: The output of `Runtime.describe`, of which the model, its files and the versions are used.
        anchor: The anchor; None for files from before its selection and for files with several anchors.
    """

    config: GenerationConfig
    made: Mapping[str, Any]
    anchor: Selected | None = None

    def to_json(self, videos: Sequence[str] = ()) -> str:
        """Returns the JSON to embed, which `run_file.RunFile` reads.

        Args:
            videos: The names of the videos in the file. The recipe lists the comparisons among them.
        """
        compare = [name for name in videos if name in COMPARISONS]
        values = {
            "request": self.config.to_dict(),
            **({"compare": compare} if compare else {}),
            **(describe_anchor(self.anchor) if self.anchor else {}),
            **ModelSpec.from_dict(self.made).to_dict(),
            **({"files": self.made["files"]} if self.made.get("files") else {}),
            "versions": self.made.get("versions", {}),
        }
        return json.dumps(values, ensure_ascii=False)


def comment_of(recipe: Recipe | None, videos: Sequence[str] = ()) -> str:
    """Returns the output of `Recipe.to_json`, or an empty string without a recipe."""
    return recipe.to_json(videos) if recipe else ""


def describe_anchor(anchor: Selected | None) -> dict[str, Any]:
    """Returns the anchor's index, its reason and, for an uploaded image, its digest, as in run.json.

    The index of an uploaded image is None. Without an anchor, the index and the reason are None.
    """
    if anchor is None:
        return {"anchor_index": None, "anchor_reason": None}
    digest = {} if anchor.index is not None else {"anchor_sha256": pixels_sha256(anchor.image)}
    return {"anchor_index": anchor.index, "anchor_reason": anchor.reason, **digest}
