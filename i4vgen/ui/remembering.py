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
QUEUE_KEY = "i4vgen-queue"

REMEMBER = 24
"""Number of runs that a browser remembers."""

THUMBNAIL = 96  # pixels

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Setting = Text | bool | int | float | Annotated[list[Text], Field(max_length=32)] | None
"""What a browser may remember of a field of the form."""

# Functions of the page. Storage may be forbidden or full; then the tab knows what it shows.

_READ = """(shown) => {
  try {
    const list = JSON.parse(localStorage.getItem("KEY"));
    return [Array.isArray(list) ? list : []];
  } catch {
    return [shown ?? []];
  }
}"""

RECALL = _READ.replace("KEY", STORAGE_KEY)
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
  const button = {{ "{STORAGE_KEY}": "recall", "{QUEUE_KEY}": "look" }}[event.key];
  document.getElementById(button)?.click();
}})"""
"""Clicks the button `recall` when another tab has remembered or forgotten something, and `look` when it has
queued prompts or taken some out.
"""

RECALL_QUEUE = _READ.replace("KEY", QUEUE_KEY)
"""Gives the queued prompts that are remembered."""

CHANGE_QUEUE = f"""(changes, shown) => {{
  const {{ added = [], over = [] }} = changes ?? {{}};
  const [known] = ({RECALL_QUEUE})(shown);
  if (!added.length && !over.length) return [known];
  const queued = [...known.filter((each) => !over.includes(each?.run)), ...added];
  try {{
    localStorage.setItem("{QUEUE_KEY}", JSON.stringify(queued));
  }} catch {{}}
  return [queued];
}}"""
"""Remembers queued prompts and forgets others (`changes`), and gives all that are remembered."""

COME_BACK = f"""() => {{
  if (({RECALL_QUEUE})()[0].length) document.getElementById("come-back").click();
}}"""
"""Clicks the button `come-back` where prompts were queued from this browser."""


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


class RememberedPrompt(BaseModel):
    """What a browser remembers of a prompt that it has queued.

    Attributes:
        run: The name that its run will have.
    """

    run: Text
    prompt: Text


def entry(token: str, picture: np.ndarray, settings: dict) -> dict:
    """A `RememberedRun` as JSON types.

    picture: uint8 [H, W, 3]. settings: the form's values.
    """
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return {"run": token, "picture": pictures.webp(image, quality=80), "settings": settings}
