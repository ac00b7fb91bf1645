"""A corpus of bad files, made here: opening one gives a clear error and has no other effect."""

from __future__ import annotations

import io
import json
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from safetensors.numpy import save as save_tensors

from i4vgen.config import GenerationConfig
from i4vgen.errors import InvalidInputError
from i4vgen.events import Candidate, Result
from i4vgen.media import open_picture, read_video, write_video
from i4vgen.storage.runs import RunFolder, open_run

RANDOM = np.random.default_rng(0)
FRAMES = RANDOM.integers(0, 255, (4, 32, 24, 3), np.uint8)


def saved(kind: str, size: tuple[int, int] = (64, 64), mode: str = "RGB", **options) -> bytes:
    """A picture of noise in a format."""
    buffer = io.BytesIO()
    noise = Image.fromarray(RANDOM.integers(0, 255, (size[1], size[0], 3), np.uint8)).convert(mode)
    noise.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG file that says to be of this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join((chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")))


def with_text(length: int) -> bytes:
    """A picture with so long a note, packed."""
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * length, zip=True)
    return saved("PNG", pnginfo=info)


def jpeg_of_size(height: int, width: int) -> bytes:
    """A JPEG file that says to be of this size."""
    data = bytearray(saved("JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


ANYTHING = {
    "empty": b"",
    "a byte": b"\0",
    "zeros": bytes(5000),
    "noise": RANDOM.bytes(5000),
    "words": b"not what you think",
    "html": b"<script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "pdf": b"%PDF-1.4\n%%EOF",
    "playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "concat list": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "gzip": b"\x1f\x8b\x08" + bytes(50),
    "elf": b"\x7fELF" + bytes(500),
}
"""Files that cannot be opened."""

PICTURES = {
    "half a bitmap": saved("BMP")[:-9],
    "half a tiff": saved("TIFF")[:-9],
    "half an avif": saved("AVIF")[:-9],
    "targa": saved("TGA"),
    "icon": saved("ICO"),
    "nothing but a signature": b"\x89PNG\r\n\x1a\n",
    "no pixels": png(0, 0),
    "no data": png(64, 64),
    "as large as can be said": png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "larger than its data": png(6000, 8000, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "wrong checksum": saved("PNG").replace(b"IDAT", b"IDAX", 1),
    "a long note": with_text(80 * 2**20),
    "a JPEG of a lie": jpeg_of_size(65500, 65500),
    "half a PNG": saved("PNG")[:2000],
    "half a JPEG": saved("JPEG")[:600],
    "half a WebP": saved("WEBP")[:1000],
    "half a GIF": saved("GIF")[:400],
}
"""What is no picture, though it looks like one, or is one of another kind."""


@pytest.mark.parametrize("name", [*ANYTHING, *PICTURES])
def test_pictures(tmp_path, name):
    for suffix in (".png", ".jpg"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes((ANYTHING | PICTURES)[name])
        with pytest.raises(InvalidInputError, match=r"cannot be read as a picture|make it smaller"):
            open_picture(path)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    write_video(path, FRAMES, fps=8)
    return path.read_bytes()


def spoiled(video: bytes, how: str) -> bytes:
    """A video with something wrong in it."""
    match how:
        case "half":
            return video[: len(video) // 2]
        case "without its index":
            return video.replace(b"moov", b"free")
        case "without its beginning":
            return video[200:]
        case "noise for frames":
            start = video.index(b"mdat") + 4
            end = video.index(b"moov", start) - 4 if b"moov" in video[start:] else len(video)
            return video[:start] + RANDOM.bytes(end - start) + video[end:]
    raise AssertionError(how)


@pytest.mark.parametrize("name", ANYTHING)
def test_videos_that_are_none(tmp_path, name):
    (tmp_path / "a.mp4").write_bytes(ANYTHING[name])
    with pytest.raises(InvalidInputError, match="cannot be read as a video"):
        read_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("how", ["half", "without its index", "without its beginning", "noise for frames"])
def test_videos_that_are_damaged(tmp_path, video, how):
    (tmp_path / "a.mp4").write_bytes(spoiled(video, how))
    with pytest.raises(InvalidInputError, match="cannot be read as a video"):
        read_video(tmp_path / "a.mp4")


TEXTS = {
    "a number": b"7",
    "null": b"null",
    "a list": b"[{}]",
    "deep": b'{"request":' * 50_000,
    "half": b'{"request": {"prompt": "a',
    "a long number": b'{"request": {"prompt": "a", "seed": ' + b"9" * 5000 + b"}}",
    "not a number": b'{"request": {"prompt": "a", "guidance_scale": NaN}, "compare": []}',
    "infinite": b'{"request": {"prompt": "a", "guidance_scale": 1e999}, "compare": []}',
    "half a character": b'{"request": {"prompt": "\\ud800"}, "compare": []}',
    "latin-1": '{"request": {"prompt": "\u00e9"}}'.encode("latin-1"),
    "utf-16": '{"request": {"prompt": "a"}}'.encode("utf-16"),
    "longer than a megabyte": b'{"request": {"prompt": "' + b"a" * 2**21 + b'"}}',
}
"""What is no run.json."""


@pytest.mark.parametrize("name", [*ANYTHING, *TEXTS])
def test_run_files(tmp_path, name):
    (tmp_path / "run.json").write_bytes((ANYTHING | TEXTS)[name])
    with pytest.raises(InvalidInputError):
        open_run(tmp_path / "run.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, runtime) -> dict[str, bytes]:
    """The files of a packed run, by name."""
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    folder.record(Candidate(0, FRAMES[0], {"pocket": 0.5}, np.zeros((4, 1, 8, 8), np.float32)))
    folder.record(Result("i4vgen", FRAMES, 8, 0.2, np.zeros((4, 4, 8, 8), np.float32)))
    config = GenerationConfig.for_model(runtime.defaults, prompt="a", num_candidates=1)
    folder.finish(config, [], {"model": "pocket", "device": "cpu"})
    with zipfile.ZipFile(folder.pack(folder.path.parent / "run.zip")) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def zip64(data: bytes, comment: bytes) -> bytes:
    """A zip file whose end is that of the ZIP64 format, as zip files of more than 4 GB have it."""
    directory, end = data[:-22], data[-22:-2]
    count, size, offset = struct.unpack("<HLL", end[10:])
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(directory), 1)
    return directory + record + locator + end + struct.pack("<H", len(comment)) + comment


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return buffer.getvalue()


def forged(offsets: list[int], shape: list[int], dtype: str = "F32") -> bytes:
    """A safetensors file of which the header says something else than is there."""
    header = json.dumps({"00": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(1024)


def damaged(files: dict[str, bytes], name: str, compression: int) -> bytes:
    """A packed run in which the middle of an entry is overwritten."""
    data = packed(files, compression)
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        entry = read.getinfo(name)
    middle = entry.header_offset + 30 + len(name) + entry.compress_size // 2
    return data[:middle] + b"\xff" * 16 + data[middle + 16 :]


def encrypted(data: bytes) -> bytes:
    """A packed file whose entries say to be encrypted."""
    for record, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        start = -1
        while (start := data.find(record, start + 1)) >= 0:
            data = data[: start + at] + bytes([data[start + at] | 1]) + data[start + at + 1 :]
    return data


Files = dict[str, bytes]
PACKED: dict[str, Callable[[Files], bytes]] = {
    "half": lambda files: packed(files)[:700],
    "a wrong checksum": lambda files: packed(files, zipfile.ZIP_STORED).replace(b"pocket", b"picket"),
    "encrypted": lambda files: encrypted(packed(files)),
    "in itself": lambda files: packed({"run.zip": packed(files)}),
    "somewhere else": lambda files: packed({f"../../{name}": data for name, data in files.items()}),
    "without its run.json": lambda files: packed({k: v for k, v in files.items() if "json" not in k}),
    "a header without an end": lambda files: packed(
        files | {"candidates.safetensors": struct.pack("<Q", 2**62) + b"{}"}
    ),
    "offsets beyond the end": lambda files: packed(
        files | {"candidates.safetensors": forged([0, 2**40], [4, 1, 2**19, 2**19])}
    ),
    "offsets of another shape": lambda files: packed(
        files | {"candidates.safetensors": forged([0, 1024], [4, 1, 9, 9])}
    ),
    "an unknown type": lambda files: packed(
        files | {"candidates.safetensors": forged([0, 1024], [4, 1, 8, 8], "F99")}
    ),
    "no numbers": lambda files: packed(
        files | {"candidates.safetensors": save_tensors({"00": np.full((4, 1, 8, 8), np.nan, np.float32)})}
    ),
    "a candidate of another kind": lambda files: packed(files | {"candidates/00.png": ANYTHING["svg"]}),
    "a candidate that is damaged": lambda files: packed(files | {"candidates/00.png": PICTURES["half a PNG"]}),
    "a candidate that is huge": lambda files: packed(
        files | {"candidates/00.png": PICTURES["as large as can be said"]}
    ),
    "a candidate with a long note": lambda files: packed(
        files | {"candidates/00.png": PICTURES["a long note"]}
    ),
    "ZIP64 under the longest comment": lambda files: zip64(packed(files), b"x" * 0xFFFF),
}
"""What is no packed run."""


@pytest.mark.parametrize("how", PACKED)
def test_packed_runs(tmp_path, whole, how):
    path = tmp_path / "run.zip"
    path.write_bytes(packed(whole))
    assert len(open_run(path).candidates()) == 1, "without what is done to it, it opens"
    path.write_bytes(PACKED[how](whole))
    before = peak()
    with pytest.raises(InvalidInputError):
        open_run(path).candidates()
    assert peak() - before < 200, "MB"
    assert [each.name for each in Path(tmp_path).iterdir()] == ["run.zip"]


METHODS = {"deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("name", ["run.json", "candidates.safetensors", "candidates/00.png", "i4vgen.mp4"])
def test_packed_runs_with_a_damaged_entry(tmp_path, whole, name, method):
    path = tmp_path / "run.zip"
    path.write_bytes(damaged(whole, name, method))
    with pytest.raises(InvalidInputError, match=f"{name} in run.zip cannot be unpacked"):
        (run := open_run(path)).candidates(), run.videos()


def peak() -> float:
    """The most memory that this process has taken so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
