"""What a browser remembers of the runs of its tabs: in its local storage, as JSON.

All tabs share it. So a tab that has a new run reads before it writes, and the others are told.
"""

from __future__ import annotations

import base64
import io
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from i4vgen.bounds import MAX_TEXT
from i4vgen.ui import pictures

STORAGE_KEY = "i4vgen-runs"

REMEMBER = 24
"""Number of runs that a browser remembers."""

THUMBNAIL = 96  # pixels

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Setting = Text | bool | int | float | Annotated[list[Text], Field(max_length=32)] | None
"""What a browser may remember of a field of the form."""

# Functions of the page. Storage may be forbidden or full; then the tab knows what it shows.

RECALL = f"""(shown) => {{
  try {{
    const runs = JSON.parse(localStorage.getItem("{STORAGE_KEY}"));
    return [Array.isArray(runs) ? runs : []];
  }} catch {{
    return [shown ?? []];
  }}
}}"""
"""Gives what is remembered."""

ADD = f"""(added, shown) => {{
  const [known] = ({RECALL})(shown);
  const newest = [added ?? []].flat();
  if (!newest.length) return [known];
  const others = known.filter((each) => !newest.some((one) => one.run === each?.run));
  const runs = [...newest, ...others].slice(0, {REMEMBER});
  try {{
    localStorage.setItem("{STORAGE_KEY}", JSON.stringify(runs));
  }} catch {{}}
  return [runs];
}}"""
"""Remembers a run, or several of which the first is the newest, and gives all that is remembered."""

FORGET = f"""() => {{
  try {{
    localStorage.removeItem("{STORAGE_KEY}");
  }} catch {{}}
  return [[]];
}}"""
"""Forgets all, and gives nothing."""

WATCH = f"""() => window.addEventListener("storage", (event) => {{
  if (event.key === "{STORAGE_KEY}") document.getElementById("recall").click();
}})"""
"""Clicks the button `recall` when another tab has remembered or forgotten something."""


class RememberedForm(BaseModel):
    """The form's values. Nothing is asked of the further fields yet, but their size: see `Form.fitted`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting] = Field(init=False)

    prompt: Text
    seed: int
    model: Text


class RememberedRun(BaseModel):
    """What a browser remembers of a run: a few kilobytes.

    Attributes:
        run: Its token.
        picture: Its thumbnail: WebP, in base64.
        settings: The form's values.
    """

    run: Text
    picture: Annotated[str, Field(max_length=2**15)]
    settings: RememberedForm

    def thumbnail(self) -> Image.Image:
        """Raises `ValueError` or `OSError` if it is none: a few bytes can be a huge picture."""
        picture = Image.open(io.BytesIO(base64.b64decode(self.picture)), formats=["WEBP"])
        if max(picture.size) > THUMBNAIL:
            raise ValueError("larger than a thumbnail")
        picture.load()
        return picture


def entry(token: str, picture: np.ndarray, settings: dict) -> dict:
    """A `RememberedRun` as JSON types.

    picture: uint8 [H, W, 3]. settings: the form's values.
    """
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return {"run": token, "picture": pictures.webp(image, quality=80), "settings": settings}
