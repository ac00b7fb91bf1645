"""The runs and prompts that a browser stores (remembering.js). The server does not trust them."""

from __future__ import annotations

import base64
import io
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from i4vgen.bounds import MAX_TEXT
from i4vgen.errors import InvalidInputError
from i4vgen.media import UNREADABLE
from i4vgen.studio import pictures

REMEMBER = 24
"""Maximum number of runs that a browser stores."""

THUMBNAIL = 96  # pixels

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Setting = Text | bool | int | float | Annotated[list[Text], Field(max_length=32)] | None
"""A stored value of a form field."""


class RememberedForm(BaseModel):
    """The form's values. Further fields are checked for type and size only; `Form.fitted` fits their values."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting] = Field(init=False)

    prompt: Text
    seed: int
    model: Text


class RememberedRun(BaseModel):
    """A run that a browser stores, in a few kilobytes.

    Attributes:
        run: The run's token.
        picture: The thumbnail, WebP in base64.
        settings: The form's values.
    """

    run: Text
    picture: Annotated[str, Field(max_length=2**15)]
    settings: RememberedForm

    def thumbnail(self) -> Image.Image:
        """Decodes the thumbnail.

        Raises:
            InvalidInputError: The thumbnail is no WebP picture in base64, damaged, or larger than `THUMBNAIL`.
        """
        try:
            picture = Image.open(io.BytesIO(base64.b64decode(self.picture)), formats=["WEBP"])
            if max(picture.size) > THUMBNAIL:
                raise InvalidInputError(f"it has more than {THUMBNAIL} pixels a side")
            picture.load()
        except UNREADABLE as error:
            raise InvalidInputError(f"the thumbnail cannot be read ({error})") from None
        return picture


class RememberedPrompt(BaseModel):
    """A queued prompt that a browser stores.

    Attributes:
        run: The name of the prompt and of its run.
        prompt: The prompt.
    """

    run: Text
    prompt: Text


def remembered_run(token: str, picture: np.ndarray, settings: dict) -> dict:
    """Returns a `RememberedRun` as JSON types.

    Args:
        token: The run's token.
        picture: The picture for the thumbnail, uint8 [H, W, 3].
        settings: The form's values.
    """
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return {"run": token, "picture": pictures.webp(image, quality=80), "settings": settings}
