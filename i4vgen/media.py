"""Pictures and videos on disk: reading and writing."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import subprocess
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import imageio.v2
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from i4vgen.bounds import MAX_PIXELS
from i4vgen.errors import InvalidInputError

# Else imageio starts ffmpeg with a preexec_fn, which runs Python in a fork of this process: that can hang where
# other threads are at work (github.com/imageio/imageio-ffmpeg/issues/58).
os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")

_imageio: Any = imageio.v2  # by its annotations a format has no name, and a reader reads nothing

COMMENT = "Comment"
"""The keyword of the text chunk of a PNG: one of those that its specification names."""

HEADER = 2**12  # bytes that a listing of metadata has beside the comment

MIN_SIDE = 256
"""Videos are written at least this large, in pixels of the short side."""

CAPTION_HEIGHT, CAPTION_SIZE = 36, 18
GAP = 8
PAPER, INK = (255, 255, 255), (31, 42, 46)
"""How `side_by_side` looks, in pixels and RGB."""


PICTURES = ("PNG", "JPEG", "WEBP", "GIF")
"""What pictures may be, in Pillow's names. It reads many more formats, some through other programs."""


def open_picture(path: str | os.PathLike) -> Image.Image:
    """A picture from a file, fully read.

    Raises:
        InvalidInputError: It is not there, no picture, or larger than `MAX_PIXELS`.
    """
    try:
        image = Image.open(path, formats=PICTURES)
        if image.width * image.height > MAX_PIXELS:
            raise InvalidInputError(
                f"{path} has {image.width} x {image.height} pixels: make it smaller,"
                f" to {MAX_PIXELS // 10**6} million at most"
            )
        image.load()
    except FileNotFoundError:
        raise InvalidInputError(f"{path} does not exist: give the path of a picture") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise InvalidInputError(f"{path} cannot be read as a picture: use a PNG, JPEG or WebP file") from None
    return image


def pixels_sha256(image: np.ndarray) -> str:
    """A name for what a picture shows, uint8 [H, W, 3], whatever file it comes from: SHA-256 in hexadecimal."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def reduced(image: Image.Image, side: int) -> Image.Image:
    """A picture whose longer side has at most so many pixels, in the mode that it has; `image` may change."""
    if image.mode == "P":  # the colours of a palette cannot be mixed
        image = image.convert("RGBA")
    image.thumbnail((side, side))
    return image


def fit_picture(image: Image.Image, height: int, width: int, position: float = 0.5) -> np.ndarray:
    """A picture of any size and mode as uint8 RGB [height, width, 3].

    It is turned upright (EXIF), flattened on white, cropped to the aspect ratio, and resized.
    position: where to crop, from 0, the left or the top, to 1, the right or the bottom.
    """
    size, at = (width, height), (position, position)
    return np.array(ImageOps.fit(upright(image), size, Image.Resampling.LANCZOS, centering=at))


def upright(image: Image.Image) -> Image.Image:
    """The picture in RGB, turned upright (EXIF) and flattened on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def write_image(path: str | os.PathLike, image: np.ndarray, comment: str = "") -> None:
    """Writes uint8 [H, W, 3]; the suffix of the path, .png or .webp, decides the format.

    comment: what the file says about itself, see `read_comment`.
    """
    options = {}
    if comment and Path(path).suffix.lower() == ".png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt(COMMENT, comment)
    elif comment:
        options["exif"] = described(comment)
    Image.fromarray(image).save(path, **options)


def described(comment: str) -> Image.Exif:
    """EXIF with this description, as ASCII, which is all that it has: JSON of a string."""
    exif = Image.Exif()
    if comment:
        exif[ExifTags.Base.ImageDescription] = json.dumps(comment)
    return exif


def write_video(
    path: str | os.PathLike, frames: np.ndarray, fps: int, scale: int = 1, comment: str = ""
) -> None:
    """Writes uint8 frames [F, H, W, 3] as an H.264 mp4 that browsers play.

    Small videos are enlarged, since browsers blur them and codecs smear them: by the smallest integer factor,
    `scale` at least, that brings the short side to 256 pixels, with Lanczos interpolation. Odd sides, which
    the format does not have, are made even by repeating the last row or column.
    The same frames give the same bytes. The file appears once it is whole.

    comment: what the file says about itself, see `read_comment`.

    Raises:
        InvalidInputError: It could not be written to the end.
    """
    path = Path(path)
    height, width = frames.shape[1:3]
    factor = enlargement(height, width, scale)
    padding = ((0, height * factor % 2), (0, width * factor % 2), (0, 0))
    draft = path.with_name(f".{path.stem}.mp4")  # imageio goes by the suffix
    try:
        with _imageio.get_writer(
            str(draft),
            "FFMPEG",
            fps=fps,
            codec="libx264",
            quality=None,
            macro_block_size=1,
            ffmpeg_log_level="quiet",
            output_params=[
                *("-f", "mp4", "-crf", "14", "-preset", "medium", "-threads", "1"),
                # No frames between frames: for these x264 reads memory that nobody has written.
                *("-bf", "0"),
                # Said explicitly because browsers guess otherwise, and colours shift.
                *("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-color_range", "tv"),
                *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
                *("-movflags", "+faststart", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
                *(("-metadata", f"comment={comment}") if comment else ()),
            ],
        ) as writer:
            for frame in frames:
                writer.append_data(np.pad(np.asarray(_enlarged(frame, factor)), padding, mode="edge"))
        if not is_whole(draft):  # ffmpeg's exit status is lost
            raise InvalidInputError(f"{path} could not be written to the end: make room on the disk")
        draft.replace(path)
    except OSError as error:  # ffmpeg stopped listening
        raise InvalidInputError(f"{path} could not be written ({error}): make room on the disk") from error
    finally:
        draft.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether an mp4 file is there and has all of its boxes, down to the last byte."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return is_whole_file(file)


def is_whole_file(file: BinaryIO) -> bool:
    """The same of a file that is open."""
    file.seek(0, os.SEEK_END)
    kinds, at, size = set(), 0, file.tell()
    while at < size:
        file.seek(at)
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        kinds.add(kind)
        at += max(length, 8)
    return at == size and {b"ftyp", b"moov", b"mdat"} <= kinds


def read_video(path: str | os.PathLike, most: tuple[int, int, int] | None = None) -> tuple[np.ndarray, float]:
    """The frames of a video, uint8 [F, H, W, 3], and its frames per second.

    most: (F, H, W) that it may have at most, enlarged as `write_video` does: a small file can be a huge video.
    Raises `InvalidInputError` above that, and for a file that is no video.
    """
    if not is_whole(Path(path)):  # ffmpeg reads whatever it can: half a video, playlists and drawings too
        raise InvalidInputError(
            f"{Path(path).name} cannot be read as a video: it is no mp4 file, or a part of one"
        )
    try:
        with _imageio.get_reader(str(path), "FFMPEG", input_params=["-f", "mp4"]) as reader:
            meta = reader.get_meta_data()
            width, height = meta["size"]
            if meta["codec"] != "h264":
                raise InvalidInputError(f"{Path(path).name} cannot be read as a video: it is no H.264")
            if most:
                factor = enlargement(*most[1:])
                sides = [side * factor + side * factor % 2 for side in most[1:]]
                if height > sides[0] or width > sides[1]:
                    raise InvalidInputError(f"{Path(path).name} is larger than its run says")
            frames = list(islice(reader, most[0] + 1 if most else None))
    except InvalidInputError:
        raise
    except (OSError, ValueError, StopIteration, RuntimeError) as error:
        raise InvalidInputError(f"{Path(path).name} cannot be read as a video") from error
    if not frames or (most and len(frames) > most[0]):
        raise InvalidInputError(f"{Path(path).name} has not the frames that its run says")
    return np.stack(frames), meta["fps"]


def write_gif(path: str | os.PathLike, frames: np.ndarray, fps: int, scale: int = 1, comment: str = "") -> None:
    """Writes uint8 frames [F, H, W, 3] as a GIF that loops for ever, enlarged as `write_video` does.

    All frames share the 256 colours that suit them best together, without dithering: colours of their own, and
    dots that change places, would make a calm video flicker. The format counts in hundredths of a second; where
    those do not divide evenly, frames differ by one so that the whole lasts F / fps. The same frames give the
    same bytes.

    comment: what the file says about itself, see `read_comment`.
    """
    height, width = frames.shape[1:3]
    factor = enlargement(height, width, scale)
    thin = math.ceil(min(height, width) / MIN_SIDE)  # so many pixels are enough to choose the colours by
    palette = Image.fromarray(np.concatenate(list(frames[:, ::thin, ::thin]))).quantize(256, kmeans=1)
    first, *others = (
        _enlarged(frame, factor).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
    )
    ends = np.rint(100 * np.arange(len(frames) + 1) / fps).astype(int)
    milliseconds = (10 * np.diff(ends)).tolist()
    options = {"comment": comment.encode()} if comment else {}
    first.save(path, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0, **options)


def _is_mp4(head: bytes) -> bool:
    """Whether a file that begins like this says that it is one."""
    return head[4:8] == b"ftyp"


def is_media(path: Path) -> bool:
    """Whether a file is of a kind that `read_comment` reads, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(12)
    return _is_mp4(head) or head.startswith((b"\x89PNG", b"GIF8")) or head[8:12] == b"WEBP"


def read_comment(path: str | os.PathLike, most: int) -> str | None:
    """What a file says about itself, or None: the comment of an mp4 or a GIF, the text chunk of a PNG, the EXIF
    description of a WebP. It may come from anybody.

    most: bytes that it may have.
    Raises `InvalidInputError` above that, and for a file that is damaged.
    """
    name = Path(path).name
    try:
        with open(path, "rb") as file:
            is_video = _is_mp4(file.read(12))
        comment = _video_comment(path, most) if is_video else _picture_comment(path)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInputError(f"{name} cannot be read ({error})") from None
    if comment is not None and len(comment.encode()) > most:
        raise InvalidInputError(f"{name} says more about itself than a run would")
    return comment


def _picture_comment(path: str | os.PathLike) -> str | None:
    """Of a PNG, GIF or WebP, of which nothing is decoded. Pillow bounds the chunks of text itself."""
    with Image.open(path, formats=PICTURES) as image:
        if image.format == "PNG":
            return image.info.get(COMMENT)
        if image.format == "GIF":
            comment = image.info.get("comment")
            return comment and comment.decode()
        comment = image.getexif().get(ExifTags.Base.ImageDescription)
        return str(json.loads(comment)) if comment else None


def _video_comment(path: str | os.PathLike, most: int) -> str | None:
    """Of an mp4, as ffmpeg lists it: name=value, with a backslash before some characters."""
    command = [get_ffmpeg_exe(), "-v", "error", "-f", "mp4", "-i", f"file:{path}", "-f", "ffmetadata", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            listed = process.stdout.read(2 * most + HEADER) if process.stdout else b""
        finally:
            process.kill()  # it has said enough
    found = re.search(r"^comment=((?:\\.|[^\\\n])*)$", listed.decode(errors="replace"), re.M | re.S)
    return re.sub(r"\\(.)", r"\1", found[1], flags=re.S) if found else None


def side_by_side(videos: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """One video of several, from left to right, each under its caption: uint8 [F, H', W', 3] with even sides.

    videos: (caption, uint8 frames [F, H, W, 3]). Small ones are enlarged as `write_video` does; the shorter
    ones wait on their last frame. A caption that is wider than its video is cut off.
    """
    num_frames = max(len(frames) for _, frames in videos)
    panes = []
    for caption, frames in videos:
        images = [np.asarray(_enlarged(frame, enlargement(*frames.shape[1:3]))) for frame in frames]
        line = _caption(caption, images[0].shape[1])
        pane = [np.concatenate([line, image]) for image in images]
        panes.append(np.stack(pane + pane[-1:] * (num_frames - len(pane))))
    height = max(pane.shape[1] for pane in panes)
    width = sum(pane.shape[2] + GAP for pane in panes) - GAP
    sheet = np.full((num_frames, height + height % 2, width + width % 2, 3), PAPER, np.uint8)
    left = 0
    for pane in panes:
        sheet[:, : pane.shape[1], left : left + pane.shape[2]] = pane
        left += pane.shape[2] + GAP
    return sheet


def _caption(text: str, width: int) -> np.ndarray:
    """One line of text in the middle of uint8 [CAPTION_HEIGHT, width, 3]."""
    line = Image.new("RGB", (width, CAPTION_HEIGHT), PAPER)
    middle = (width / 2, CAPTION_HEIGHT / 2)
    ImageDraw.Draw(line).text(middle, text, INK, ImageFont.load_default(CAPTION_SIZE), anchor="mm")
    return np.asarray(line)


def enlargement(height: int, width: int, scale: int = 1) -> int:
    """The smallest integer, `scale` at least, that brings the short side to `MIN_SIDE` pixels."""
    return max(scale, math.ceil(MIN_SIDE / min(height, width)))


def _enlarged(frame: np.ndarray, factor: int) -> Image.Image:
    """A frame uint8 [H, W, 3], `factor` times as large."""
    return ImageOps.scale(Image.fromarray(frame), factor, Image.Resampling.LANCZOS)
