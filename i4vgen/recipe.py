"""The recipe of a picture or a video: what the file itself says about how it was made.

It is a part of what run.json says, as JSON in the comment of an mp4 or a GIF, a text chunk of a PNG, the EXIF
description of a WebP. There is no date and no machine in it: the same request gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from i4vgen.catalog import ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.events import Selected
from i4vgen.generation_config import GenerationConfig
from i4vgen.media import pixels_sha256


@dataclass(frozen=True)
class Recipe:
    """How a file was made.

    Attributes:
        config: What was run.
        made: With which model and versions, as `Runtime.describe` says it. What else is in there is ignored.
        anchor: What was set in motion; None for a file that was there before.
    """

    config: GenerationConfig
    made: Mapping[str, Any]
    anchor: Selected | None = None

    def to_json(self, videos: Sequence[str] = ()) -> str:
        """What is written into a file; `run_file.RunFile` reads it.

        Args:
            videos: The names of those in the file. What else there was is not this file's matter.
        """
        compare = [name for name in videos if name in COMPARISONS]
        values = {
            "request": self.config.to_dict(),
            **({"compare": compare} if compare else {}),
            **(describe_anchor(self.anchor) if self.anchor else {}),
            **ModelSpec.from_dict(self.made).to_dict(),
            "versions": self.made.get("versions", {}),
        }
        return json.dumps(values, ensure_ascii=False)


def comment_of(recipe: Recipe | None, videos: Sequence[str] = ()) -> str:
    """`Recipe.to_json`, and nothing where there is no recipe."""
    return recipe.to_json(videos) if recipe else ""


def describe_anchor(anchor: Selected | None) -> dict[str, Any]:
    """The anchor as JSON types: its index, or for an uploaded image the digest of its pixels."""
    if anchor is None:
        return {"anchor_index": None, "anchor_reason": None}
    digest = {} if anchor.index is not None else {"anchor_sha256": pixels_sha256(anchor.image)}
    return {"anchor_index": anchor.index, "anchor_reason": anchor.reason, **digest}
