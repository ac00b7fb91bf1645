"""Reads and writes pictures and videos."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import imageio.v2
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from pi_heif import register_heif_opener
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngInfo

from i4vgen.bounds import MAX_JPEG_PIXELS, MAX_PIXELS
from i4vgen.errors import InvalidInputError, reason_of

# Otherwise imageio starts ffmpeg with a preexec_fn, which runs Python in a fork of this process and can hang if
# other threads are running (github.com/imageio/imageio-ffmpeg/issues/58).
os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")

_imageio: Any = imageio.v2  # imageio's annotations reject the name of a format

COMMENT = "Comment"
"""The keyword of a PNG's text chunk, predefined by the PNG specification."""

HEADER = 2**12  # bytes of ffmpeg's metadata listing without the comment

COLOURS = "range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
"""The colour tags of videos. They are set on the frames, because ffmpeg ignores the encoder's options."""

MIN_SIDE = 256
"""The minimum shorter side of a written video, in pixels."""

# The layout of `side_by_side`, in pixels and RGB.
CAPTION_HEIGHT, CAPTION_SIZE = 36, 18
GAP = 8
PAPER, INK = (255, 255, 255), (31, 42, 46)

register_heif_opener()

PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "HEIF", "TIFF", "BMP")
"""The accepted picture formats. Pillow supports many more, some by running external programs."""

WITH_COMMENTS = ("PNG", "WEBP", "GIF")
"""The picture formats that this program writes and whose comments it reads."""

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, Image.DecompressionBombError)
"""The errors that Pillow's formats raise for damaged and oversized pictures."""

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

COLOUR_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
"""Pillow's image modes by ICC colour space."""


class PictureError(InvalidInputError):
    """A file cannot be used as a picture.

    Attributes:
        reason: The problem and the remedy, as a predicate whose subject is the file.
    """

    def __init__(self, path: str | os.PathLike, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.reason = reason


def open_picture(path: str | os.PathLike) -> Image.Image:
    """Reads a picture. Large JPEGs, such as from phones, are reduced to at most `MAX_PIXELS`.

    Raises:
        PictureError: The file is missing, not a picture, or too large.
    """
    try:
        with open(path, "rb") as file:
            image = _identify(file)
            if image.width * image.height > MAX_PIXELS:
                _reduce_while_decoding(path, image)
            image.load()
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError(path, "does not exist: give the path of a picture") from None
    except UNREADABLE:
        raise PictureError(
            path, "cannot be read as a picture: use a PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP or GIF file"
        ) from None
    return image


def _identify(file: BinaryIO) -> Image.Image:
    """Opens a picture without decoding it.

    Unlike `Image.open`, it neither warns about large pictures nor rejects JPEGs that can be reduced, because
    `open_picture` checks the size.

    Raises:
        UnidentifiedImageError: The file is in none of the formats of `PICTURES`.
    """
    Image.init()
    beginning = file.read(16)
    for name in PICTURES:
        reader, accepts = Image.OPEN[name]
        if accepts is None or accepts(beginning) is True:
            file.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # not this format after all
                return reader(file, "")
    raise UnidentifiedImageError


def _reduce_while_decoding(path: str | os.PathLike, image: Image.Image) -> None:
    """Makes the decoder of a JPEG scale each side to 1/2, 1/4 or 1/8, to bound the memory.

    Progressive JPEGs are rejected, because their decoder keeps the whole picture in memory.

    Raises:
        PictureError: The picture is too large and cannot be reduced.
    """
    pixels = image.width * image.height
    if not isinstance(image, JpegImageFile) or image.info.get("progressive") or pixels > MAX_JPEG_PIXELS:
        size = f"has {image.width} x {image.height} pixels"
        raise PictureError(path, f"{size}: make it smaller, to {MAX_PIXELS // 10**6} million at most")
    factor = next(factor for factor in (2, 4, 8) if pixels <= MAX_PIXELS * factor**2)
    image.draft(None, (image.width // factor, image.height // factor))


def pixels_sha256(image: np.ndarray) -> str:
    """Returns the SHA-256 of a picture's pixels, uint8 [H, W, 3], in hexadecimal."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def reduced(image: Image.Image, side: int) -> Image.Image:
    """Shrinks a picture so that its longer side has at most `side` pixels. May modify `image`."""
    if image.mode == "P":  # palette indices cannot be interpolated
        image = image.convert("RGBA")
    image.thumbnail((side, side))
    return image


def fit_picture(image: Image.Image, height: int, width: int, position: float = 0.5) -> np.ndarray:
    """Converts a picture of any size and mode to uint8 RGB [height, width, 3].

    The picture is turned upright (EXIF), flattened on white, cropped to the aspect ratio, and resized.

    Args:
        position: The position of the crop, from 0 (left or top) to 1 (right or bottom).
    """
    size, at = (width, height), (position, position)
    return np.array(ImageOps.fit(upright(image), size, Image.Resampling.LANCZOS, centering=at))


def upright(image: Image.Image) -> Image.Image:
    """Returns the picture in sRGB, turned upright (EXIF) and flattened on white."""
    image = ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        white = Image.new("RGB", image.size, "white")
        return Image.composite(_to_srgb(image.convert("RGB"), profile), white, alpha)
    return _to_srgb(image, profile)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts a picture without alpha to sRGB.

    Args:
        profile: The picture's ICC profile, if any. Damaged profiles and profiles for another mode are ignored.
    """
    if image.mode in ("P", "1"):
        image = image.convert("RGB")
    source = _read_profile(profile)
    if source is None and image.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    if source is not None:
        properties: Any = source.profile  # Pillow's annotation is wrong
        mode = COLOUR_SPACES.get(properties.xcolor_space.strip(), "")
        if mode == "L" and image.mode == "RGB":  # a grey picture that had alpha
            image = image.convert("L")
        with suppress(ImageCms.PyCMSError):
            if image.mode == mode:
                transformed = ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB")
                return transformed or image.convert("RGB")
    return image.convert("RGB")


def _read_profile(data: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """Parses an ICC profile; returns None if it is missing, damaged or sRGB."""
    if not data:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        return None if "sRGB" in ImageCms.getProfileDescription(profile) else profile
    except (OSError, ImageCms.PyCMSError):
        return None


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Writes a file atomically: yields a temporary path, whose file replaces `path` if the body succeeds."""
    path = Path(path)
    draft = path.with_name(f".{path.name}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_image(path: str | os.PathLike, image: np.ndarray, comment: str = "") -> None:
    """Writes an image, uint8 [H, W, 3], atomically as PNG or WebP, depending on the path's suffix.

    Args:
        comment: The text to embed, which `read_comment` returns.
    """
    options = {}
    if comment and Path(path).suffix.lower() == ".png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt(COMMENT, comment)
    elif comment:
        options["exif"] = comment_exif(comment)
    with whole_file(path) as draft:
        Image.fromarray(image).save(draft, **options)


def comment_exif(comment: str) -> Image.Exif:
    """Returns EXIF data with the comment as its description, encoded as JSON because EXIF text is ASCII."""
    exif = Image.Exif()
    if comment:
        exif[ExifTags.Base.ImageDescription] = json.dumps(comment)
    return exif


def write_video(
    path: str | os.PathLike, frames: np.ndarray, fps: int, scale: int = 1, comment: str = ""
) -> None:
    """Writes uint8 frames [F, H, W, 3] atomically as an H.264 mp4 that browsers play.

    Small videos are enlarged with Lanczos interpolation by the factor of `enlargement`, because browsers blur
    them and codecs smear them. H.264 needs even sides, so the last row or column is repeated if necessary.
    The same frames give the same bytes.

    Args:
        path: The file, with the suffix .mp4.
        scale: The minimum factor of the enlargement.
        comment: The text to embed, which `read_comment` returns.

    Raises:
        InvalidInputError: The file could not be written completely.
    """
    height, width = frames.shape[1:3]
    factor = enlargement(height, width, scale)
    padding = ((0, height * factor % 2), (0, width * factor % 2), (0, 0))
    output_params = [
        *("-f", "mp4", "-crf", "14", "-preset", "medium", "-threads", "1"),
        # No B-frames: x264 reads uninitialised memory with them.
        *("-bf", "0"),
        # Tagged explicitly, because browsers guess the wrong colours.
        *("-vf", f"scale=out_color_matrix=bt709:out_range=tv,setparams={COLOURS}"),
        *("-movflags", "+faststart", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
        *(("-metadata", f"comment={comment}") if comment else ()),
    ]
    try:
        with whole_file(path) as draft:
            with _imageio.get_writer(
                str(draft),
                "FFMPEG",
                fps=fps,
                codec="libx264",
                quality=None,
                macro_block_size=1,
                ffmpeg_log_level="quiet",
                output_params=output_params,
            ) as writer:
                for frame in frames:
                    writer.append_data(np.pad(np.asarray(_enlarged(frame, factor)), padding, mode="edge"))
            if not is_whole(draft):  # imageio discards ffmpeg's exit status
                name = Path(path).name
                raise InvalidInputError(f"{name} could not be written to the end: make room on the disk")
    except OSError as error:  # ffmpeg closed its pipe
        reason = f"{Path(path).name} could not be written ({reason_of(error)})"
        raise InvalidInputError(f"{reason}: make room on the disk") from error


def is_whole(path: Path) -> bool:
    """Returns whether an mp4 file exists and all of its boxes are complete."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return is_whole_file(file)


def is_whole_file(file: BinaryIO) -> bool:
    """Returns whether an open file is an mp4 whose boxes are all complete."""
    file.seek(0, os.SEEK_END)
    kinds, at, size = set(), 0, file.tell()
    while at < size:
        file.seek(at)
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        kinds.add(kind)
        at += max(length, 8)
    return at == size and {b"ftyp", b"moov", b"mdat"} <= kinds


def read_video(path: str | os.PathLike, limit: tuple[int, int, int] | None = None) -> tuple[np.ndarray, float]:
    """Reads the frames of a video, uint8 [F, H, W, 3], and its frames per second.

    Args:
        limit: The maximum (F, H, W) before the enlargement by `write_video`, because a small file can be a
            huge video. None means no limit.

    Raises:
        InvalidInputError: The file is not a complete H.264 mp4, or exceeds the limit.
    """
    name = Path(path).name
    if not is_whole(Path(path)):  # ffmpeg would also accept truncated videos, playlists and drawings
        raise InvalidInputError(f"{name} cannot be read as a video: it is no mp4 file, or a part of one")
    try:
        with _imageio.get_reader(str(path), "FFMPEG", input_params=["-f", "mp4"]) as reader:
            meta = reader.get_meta_data()
            width, height = meta["size"]
            if meta["codec"] != "h264":
                raise InvalidInputError(f"{name} cannot be read as a video: it is no H.264")
            if limit:
                factor = enlargement(*limit[1:])
                sides = [side * factor + side * factor % 2 for side in limit[1:]]
                if height > sides[0] or width > sides[1]:
                    raise InvalidInputError(f"{name} is larger than its run says")
            frames = list(islice(reader, limit[0] + 1 if limit else None))
    except InvalidInputError:
        raise
    except (OSError, ValueError, StopIteration, RuntimeError) as error:
        raise InvalidInputError(f"{name} cannot be read as a video") from error
    if not frames or (limit and len(frames) > limit[0]):
        raise InvalidInputError(f"{name} does not have as many frames as its run says")
    return np.stack(frames), meta["fps"]


def write_gif(path: str | os.PathLike, frames: np.ndarray, fps: int, scale: int = 1, comment: str = "") -> None:
    """Writes uint8 frames [F, H, W, 3] as a GIF that loops forever, enlarged as `write_video` does.

    All frames share one palette of 256 colours without dithering, because separate palettes and dithering
    noise would make a calm video flicker. GIF durations are in hundredths of a second, so they vary by one if
    fps does not divide 100. The same frames give the same bytes.

    Args:
        scale: The minimum factor of the enlargement.
        comment: The text to embed, which `read_comment` returns.
    """
    height, width = frames.shape[1:3]
    factor = enlargement(height, width, scale)
    stride = math.ceil(min(height, width) / MIN_SIDE)  # fewer pixels suffice to choose the colours
    palette = Image.fromarray(np.concatenate(list(frames[:, ::stride, ::stride]))).quantize(256, kmeans=1)
    first, *others = (
        _enlarged(frame, factor).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
    )
    ends = np.rint(100 * np.arange(len(frames) + 1) / fps).astype(int)
    milliseconds = (10 * np.diff(ends)).tolist()
    options = {"comment": comment.encode()} if comment else {}
    first.save(path, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0, **options)


def _is_mp4(head: bytes) -> bool:
    """Returns whether the first bytes of a file are those of an mp4."""
    return head[4:8] == b"ftyp"


def is_media(path: Path) -> bool:
    """Returns whether `read_comment` supports the file, judging by its first bytes."""
    with path.open("rb") as file:
        head = file.read(12)
    return _is_mp4(head) or head.startswith((b"\x89PNG", b"GIF8")) or head[8:12] == b"WEBP"


def read_comment(path: str | os.PathLike, max_bytes: int) -> str | None:
    """Reads the text embedded in an mp4, GIF, PNG or WebP; returns None without one.

    The text is the comment of an mp4 or GIF, a PNG's text chunk, or a WebP's EXIF description. It is untrusted.

    Raises:
        InvalidInputError: The file cannot be read, or the comment is longer than `max_bytes`.
    """
    name = Path(path).name
    try:
        with open(path, "rb") as file:
            is_video = _is_mp4(file.read(12))
        comment = _video_comment(path, max_bytes) if is_video else _picture_comment(path)
    except UNREADABLE as error:
        raise InvalidInputError(f"{name} cannot be read ({error})") from None
    if comment is not None and len(comment.encode()) > max_bytes:
        raise InvalidInputError(f"{name} has a longer comment than a run writes")
    return comment


def _picture_comment(path: str | os.PathLike) -> str | None:
    """Reads the comment of a PNG, GIF or WebP without decoding it. Pillow limits the size of text chunks."""
    with Image.open(path, formats=WITH_COMMENTS) as image:
        if image.format == "PNG":
            return image.info.get(COMMENT)
        if image.format == "GIF":
            comment = image.info.get("comment")
            return comment and comment.decode()
        comment = image.getexif().get(ExifTags.Base.ImageDescription)
        return str(json.loads(comment)) if comment else None


def _video_comment(path: str | os.PathLike, max_bytes: int) -> str | None:
    """Reads the comment of an mp4 from ffmpeg's listing of name=value lines with backslash escapes."""
    command = [get_ffmpeg_exe(), "-v", "error", "-f", "mp4", "-i", f"file:{path}", "-f", "ffmetadata", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            listed = process.stdout.read(2 * max_bytes + HEADER) if process.stdout else b""
        finally:
            process.kill()
    match = re.search(r"^comment=((?:\\.|[^\\\n])*)$", listed.decode(errors="replace"), re.M | re.S)
    return re.sub(r"\\(.)", r"\1", match[1], flags=re.S) if match else None


def side_by_side(videos: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Joins captioned videos from left to right into one, uint8 [F, H', W', 3] with even sides.

    Small videos are enlarged as by `write_video`; shorter videos repeat their last frame. Captions are cut to
    the width of their video.

    Args:
        videos: Pairs of a caption and uint8 frames [F, H, W, 3].
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
    """Draws a centred line of text, uint8 [CAPTION_HEIGHT, width, 3]."""
    line = Image.new("RGB", (width, CAPTION_HEIGHT), PAPER)
    middle = (width / 2, CAPTION_HEIGHT / 2)
    ImageDraw.Draw(line).text(middle, text, INK, ImageFont.load_default(CAPTION_SIZE), anchor="mm")
    return np.asarray(line)


def enlargement(height: int, width: int, scale: int = 1) -> int:
    """Returns the smallest integer factor from `scale` up that makes the shorter side at least `MIN_SIDE`."""
    return max(scale, math.ceil(MIN_SIDE / min(height, width)))


def _enlarged(frame: np.ndarray, factor: int) -> Image.Image:
    """Scales a frame, uint8 [H, W, 3], by an integer factor."""
    return ImageOps.scale(Image.fromarray(frame), factor, Image.Resampling.LANCZOS)
