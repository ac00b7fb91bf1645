"""Pictures and videos on disk: reading, writing, and the folder that a run leaves behind."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from i4vgen.errors import RequestError
from i4vgen.events import VIDEOS, Candidate, Event, Result, Selected, Stage
from i4vgen.request import Request

MIN_SIDE = 256


def open_picture(path: str | os.PathLike) -> Image.Image:
    """A picture from a file, fully read. Raises `RequestError` if it is not there or not a picture."""
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise RequestError(f"{path} does not exist: give the path of a picture") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise RequestError(f"{path} cannot be read as a picture: use a PNG, JPEG or WebP file") from None
    return image


def fit_picture(image: Image.Image, height: int, width: int) -> np.ndarray:
    """A picture of any size and mode as uint8 RGB [height, width, 3].

    It is turned upright (EXIF), flattened on white, cropped in the middle to the aspect ratio, and resized.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS))


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3]; the suffix of the path decides the format."""
    Image.fromarray(image).save(path)


def write_video(path: str | os.PathLike, frames: np.ndarray, fps: int, scale: int = 1) -> None:
    """Writes uint8 frames [F, H, W, 3] as an H.264 mp4 that browsers play.

    Small videos are enlarged, since browsers blur them and codecs smear them: by the smallest integer factor,
    `scale` at least, that brings the short side to 256 pixels, with Lanczos interpolation. Odd sides, which
    the format does not have, are made even by repeating the last row or column.
    The same frames give the same bytes.
    """
    height, width = frames.shape[1:3]
    factor = max(scale, math.ceil(MIN_SIDE / min(height, width)))
    size = (width * factor, height * factor)
    padding = ((0, size[1] % 2), (0, size[0] % 2), (0, 0))
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (size[0] + padding[1][1], size[1] + padding[0][1]),
        fps=fps,
        codec="libx264",
        quality=None,
        macro_block_size=1,
        ffmpeg_log_level="error",
        output_params=[
            *("-crf", "14", "-preset", "medium", "-threads", "1"),
            # Said explicitly because browsers guess otherwise, and colours shift.
            *("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-color_range", "tv"),
            *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
            *("-movflags", "+faststart", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
        ],
    )
    writer.send(None)
    try:
        for frame in frames:
            image = Image.fromarray(frame)
            if factor > 1:
                image = image.resize(size, Image.Resampling.LANCZOS)
            writer.send(np.ascontiguousarray(np.pad(np.asarray(image), padding, mode="edge")))
    finally:
        writer.close()


def read_video(path: str | os.PathLike) -> tuple[np.ndarray, float]:
    """The frames of a video, uint8 [F, H, W, 3], and its frames per second."""
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    return np.stack(frames), meta["fps"]


class RunFolder:
    """What a run leaves behind: candidates/00.png ..., anchor.png, one mp4 per finished video, and run.json.

    Opening a folder removes these files of an earlier run in it, and nothing else.
    """

    def __init__(self, path: str | os.PathLike):
        """Raises `RequestError` if the folder cannot be made."""
        self.path = Path(path)
        self.candidates: list[Candidate] = []
        self.anchor: Selected | None = None
        self.seconds: dict[str, float] = {}
        self._stage: str | None = None
        self._since = 0.0
        try:
            (self.path / "candidates").mkdir(parents=True, exist_ok=True)
            earlier = [self.path / "run.json", self.path / "anchor.png"]
            earlier += [self.path / f"{name}.mp4" for name in VIDEOS]
            earlier += (self.path / "candidates").glob("[0-9][0-9].png")
            for file in earlier:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise RequestError(f"cannot write to {path} ({error.strerror}): choose another folder") from None

    def record(self, event: Event) -> Path | None:
        """Takes note of an event; the file that was written for it, if any."""
        match event:
            case Stage():
                self._close_stage()
                self._stage, self._since = event.name, time.perf_counter()
            case Candidate():
                self.candidates.append(event)
                return self._write_image(f"candidates/{event.index:02d}.png", event.image)
            case Selected():
                self._close_stage()
                self.anchor = event
                return self._write_image("anchor.png", event.image)
            case Result():
                self._close_stage()
                path = self.path / f"{event.name}.mp4"
                write_video(path, event.frames, event.fps)
                return path
        return None

    def finish(self, request: Request, compare: Sequence[str], description: dict) -> Path:
        """Writes run.json, which `python -m i4vgen --from` reads. It comes last and in one piece: a folder
        that has one holds a finished run.

        description: the model and where it ran, `Runtime.describe()`.
        """
        run = {
            "request": request.to_dict(),
            "compare": list(compare),
            "anchor_index": self.anchor.index,
            "anchor_reason": self.anchor.reason,
            "candidate_scores": [candidate.score for candidate in self.candidates],
            "scores": self._scores_by_reward(),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            **description,
        }
        path = self.path / "run.json"
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return draft.replace(path)

    def _scores_by_reward(self) -> dict[str, list[float]]:
        names = self.candidates[0].scores if self.candidates else ()
        return {name: [candidate.scores[name] for candidate in self.candidates] for name in names}

    def _close_stage(self) -> None:
        if self._stage is not None:
            self.seconds[self._stage] = time.perf_counter() - self._since
            self._stage = None

    def _write_image(self, name: str, image: np.ndarray) -> Path:
        write_image(self.path / name, image)
        return self.path / name
