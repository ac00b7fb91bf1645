"""Pictures and videos: fitting, writing, reading back."""

import json

import numpy as np
import pytest
from PIL import Image

from i4vgen.errors import RequestError
from i4vgen.events import Candidate, Progress, Result, Selected, Stage
from i4vgen.media import RunFolder, fit_picture, open_picture, read_video, write_video


def clip(height: int, width: int, num_frames: int = 6) -> np.ndarray:
    """A bright square that moves over a gradient, uint8 [F, H, W, 3]."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(20, 200, width, dtype=np.uint8)
    for i, frame in enumerate(frames):
        frame[4:12, 4 + 2 * i : 12 + 2 * i] = (240, 30, 60)
    return frames


@pytest.mark.parametrize(
    ("size", "shown"), [((64, 64), (256, 256)), ((64, 48), (384, 288)), ((300, 401), (300, 402))]
)
def test_videos_are_enlarged_and_even(tmp_path, size, shown):
    frames = clip(*size)
    write_video(tmp_path / "a.mp4", frames, fps=8)
    back, fps = read_video(tmp_path / "a.mp4")
    assert back.shape == (6, *shown, 3) and fps == 8


def test_colours_and_motion_survive(tmp_path):
    frames = clip(64, 64)
    write_video(tmp_path / "a.mp4", frames, fps=8)
    back, _ = read_video(tmp_path / "a.mp4")
    for i in range(6):
        np.testing.assert_allclose(back[i, 32, 4 * (8 + 2 * i)], (240, 30, 60), atol=12)
        np.testing.assert_allclose(back[i, 200, 128], frames[i, 50, 32], atol=8)


def test_same_frames_same_bytes_for_browsers(tmp_path):
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", clip(64, 64), fps=8)
    a, b = (tmp_path / "a.mp4").read_bytes(), (tmp_path / "b.mp4").read_bytes()
    assert a == b
    assert b"avc1" in a, "not H.264"
    assert a.index(b"moov") < a.index(b"mdat"), "a browser would have to load all of it before it plays"


def test_pictures_are_cropped_in_the_middle():
    image = Image.new("RGB", (90, 30), "red")
    image.paste("blue", (30, 0, 60, 30))
    fitted = fit_picture(image, 16, 16)
    assert fitted.shape == (16, 16, 3) and fitted.dtype == np.uint8
    assert (fitted[4:-4, 4:-4] == (0, 0, 255)).all()


def test_a_fitted_picture_stays_as_it_is(picture):
    assert np.array_equal(fit_picture(Image.fromarray(picture), 20, 30), picture)


def test_pictures_are_turned_upright(tmp_path):
    image = Image.new("RGB", (20, 20), "red")
    image.paste("blue", (0, 0, 20, 10))
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    fitted = fit_picture(open_picture(tmp_path / "a.png"), 20, 20)
    assert tuple(fitted[2, 2]) == (255, 0, 0) and tuple(fitted[17, 2]) == (0, 0, 255)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 255, 255), (0, 0, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("I;16", 100 << 8, (100, 100, 100)),
    ],
)
def test_every_kind_of_picture(mode, colour, expected):
    assert tuple(fit_picture(Image.new(mode, (40, 40), colour), 16, 16)[8, 8]) == expected


def test_unreadable_pictures(tmp_path):
    with pytest.raises(RequestError, match="does not exist"):
        open_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(RequestError, match="cannot be read as a picture"):
        open_picture(tmp_path / "text.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(RequestError, match="cannot be read as a picture"):
        open_picture(tmp_path / "cut.png")


def test_run_folder(tmp_path, picture, make_request):
    latents = np.zeros((4, 1, 8, 6), np.float32)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "vanilla.mp4").write_text("of an earlier run")
    folder = RunFolder(tmp_path)
    assert not (tmp_path / "vanilla.mp4").exists() and (tmp_path / "notes.txt").exists()
    folder.record(Stage("candidates", 1))
    assert folder.record(Progress("candidates", 1, 1, 961, 0.1)) is None
    file = folder.record(Candidate(0, picture, {"pocket": 0.5}, latents))
    assert file == tmp_path / "candidates" / "00.png"
    assert np.array_equal(np.asarray(Image.open(file)), picture)
    folder.record(Selected(0, picture, "highest reward"))
    folder.record(Stage("ni_vsds", 1))
    folder.record(Result("ni_vsds", clip(64, 64), 8, 0.2, latents))
    run = json.loads(folder.finish(make_request(), ["vanilla"], {"device": "cpu"}).read_text())
    assert run["request"] == make_request().to_dict()
    assert (run["anchor_index"], run["candidate_scores"], run["device"]) == (0, [0.5], "cpu")
    assert set(run["seconds"]) == {"candidates", "ni_vsds"}


def test_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="choose another folder"):
        RunFolder(tmp_path / "file")
