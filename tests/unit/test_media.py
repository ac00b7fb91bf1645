"""Pictures and videos: fitting, writing, reading back."""

import os
import resource
import subprocess
import warnings
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image, ImageCms, ImageSequence

from i4vgen.errors import InvalidInputError
from i4vgen.media import fit_picture, is_whole, open_picture, read_video, side_by_side, write_gif, write_video

DATA = Path(__file__).parents[1] / "data"


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


def test_videos_say_what_their_colours_are(tmp_path):
    """In the stream, as a decoder reads it, and in the container, where players look first."""
    write_video(tmp_path / "a.mp4", clip(64, 64), fps=8)
    command = [get_ffmpeg_exe(), "-i", str(tmp_path / "a.mp4"), "-vf", "showinfo", "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    colours = "color_range:tv color_space:bt709 color_primaries:bt709 color_trc:bt709"
    assert colours in told
    data = (tmp_path / "a.mp4").read_bytes()
    box = data[data.index(b"colr") + 4 :][:11]
    assert box == b"nclx" + bytes([0, 1, 0, 1, 0, 1, 0])  # ISO 23001-8: 1 is BT.709; not full range


def test_the_bytes_do_not_depend_on_what_was_in_memory(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    scene = (rng.random((18, 18, 3)).repeat(16, 0).repeat(16, 1) * 255).astype(np.uint8)
    frames = np.stack([np.roll(scene, 6 * i, 1) for i in range(60)])
    frames[::7] = rng.integers(0, 256, frames[::7].shape, np.uint8)
    written = set()
    for filling in ("85", "170"):
        monkeypatch.setenv("MALLOC_PERTURB_", filling)  # glibc fills what it hands out with this
        write_video(tmp_path / "a.mp4", frames, fps=8)
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1


def test_pictures_are_cropped_in_the_middle():
    image = Image.new("RGB", (90, 30), "red")
    image.paste("blue", (30, 0, 60, 30))
    fitted = fit_picture(image, 16, 16)
    assert fitted.shape == (16, 16, 3) and fitted.dtype == np.uint8
    assert (fitted[4:-4, 4:-4] == (0, 0, 255)).all()


def test_a_fitted_picture_stays_as_it_is(picture):
    assert np.array_equal(fit_picture(Image.fromarray(picture), 20, 30), picture)


def test_a_video_of_another_size_or_length_than_promised_is_refused(tmp_path):
    write_video(tmp_path / "a.mp4", clip(64, 64, 6), fps=8)
    assert read_video(tmp_path / "a.mp4", (6, 64, 64))[0].shape == (6, 256, 256, 3)
    write_video(tmp_path / "wide.mp4", clip(300, 400), fps=8)
    for name, most in (("a", (5, 64, 64)), ("wide", (6, 300, 300))):
        with pytest.raises(InvalidInputError, match="its run says"):
            read_video(tmp_path / f"{name}.mp4", most)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(InvalidInputError, match="cannot be read as a video"):
        read_video(tmp_path / "b.mp4")


def test_no_fork_of_a_process_with_threads_runs_python(tmp_path):
    forks = []
    os.register_at_fork(before=lambda: forks.append(1))  # only where Python code runs before the exec
    write_video(tmp_path / "a.mp4", clip(64, 64), fps=8)
    read_video(tmp_path / "a.mp4")
    assert not forks


@pytest.mark.parametrize("room", [0, 100, 3000])
def test_a_video_that_the_disk_has_no_room_for_is_an_error_and_leaves_nothing(tmp_path, room):
    frames, limits = clip(64, 64, 40), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(InvalidInputError, match="make room on the disk"):
            write_video(tmp_path / "a.mp4", frames, fps=8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    write_video(tmp_path / "a.mp4", frames, fps=8)
    whole = (tmp_path / "a.mp4").read_bytes()
    assert len(whole) > 3000 and is_whole(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(whole[:-1])
    assert not is_whole(tmp_path / "a.mp4")


def disguised(path, kind):
    """A file that is not what its name says."""
    match kind:
        case "drawing":
            path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>')
        case "playlist":
            path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
        case "postscript":
            path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
        case "targa":
            Image.new("RGB", (9, 9)).save(path, "TGA")
        case "other codec":
            with imageio.get_writer(str(path), "FFMPEG", codec="mpeg4", macro_block_size=1) as writer:
                for frame in clip(64, 64):
                    writer.append_data(frame)
    return path


@pytest.mark.parametrize("kind", ["drawing", "playlist", "postscript", "targa", "other codec"])
def test_what_a_file_is_shows_in_its_content_not_in_its_name(tmp_path, kind):
    with pytest.raises(InvalidInputError, match="cannot be read as a video"):
        read_video(disguised(tmp_path / "a.mp4", kind))
    with pytest.raises(InvalidInputError, match="cannot be read as a picture"):
        open_picture(tmp_path / "a.mp4")


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (13300, 13300)).save(tmp_path / "huge.png")
    assert (tmp_path / "huge.png").stat().st_size < 100_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidInputError, match="13300 x 13300 pixels: make it smaller, to 50 million"):
            open_picture(tmp_path / "huge.png")


@pytest.mark.parametrize("size", [(12000, 9000), (16320, 12240)], ids=["108 million", "200 million"])
def test_the_large_jpegs_of_phones_are_read_reduced(tmp_path, size):
    image = Image.new("L", size, 50)
    image.paste(200, (0, 0, size[0] // 2, size[1]))
    exif = image.getexif()
    exif[0x0112] = 6  # as phones hold it
    image.save(tmp_path / "phone.jpg", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit_picture(open_picture(tmp_path / "phone.jpg"), 64, 48)
    np.testing.assert_allclose(fitted[[10, 53]].mean((1, 2)), (200, 50), atol=2)


def test_jpegs_that_would_take_much_memory_all_the_same_are_refused(tmp_path):
    Image.new("L", (9000, 6000)).save(tmp_path / "progressive.jpg", progressive=True)
    Image.new("L", (40000, 6500)).save(tmp_path / "wide.jpg")
    for name in ("progressive", "wide"):
        with pytest.raises(InvalidInputError, match="make it smaller, to 50 million"):
            open_picture(tmp_path / f"{name}.jpg")


def wide_gamut() -> ImageCms.ImageCmsProfile:
    """That of Display P3, as iPhones have it."""
    return ImageCms.ImageCmsProfile(str(DATA / "p3.icc"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tiff"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_with_a_profile_are_converted_to_srgb(tmp_path, suffix, mode):
    if (suffix, mode) == ("jpg", "RGBA"):
        mode = "RGB"
    profile = wide_gamut()
    image = Image.new(mode, (32, 32), (200, 60, 40, 255)[: len(mode)])
    image.save(tmp_path / f"a.{suffix}", icc_profile=profile.tobytes(), quality=95)
    stored = open_picture(tmp_path / f"a.{suffix}").convert("RGB")
    expected = ImageCms.profileToProfile(stored, profile, ImageCms.createProfile("sRGB"))
    fitted = fit_picture(open_picture(tmp_path / f"a.{suffix}"), 32, 32)
    np.testing.assert_allclose(fitted, np.asarray(expected), atol=2)
    assert np.abs(fitted.astype(int) - np.asarray(stored)).max() > 15, "the profile changes nothing"


def test_profiles_of_srgb_broken_ones_and_those_of_other_modes_change_nothing(picture):
    image = Image.fromarray(picture)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (srgb, lab, b"no profile"):
        image.info["icc_profile"] = profile
        assert np.array_equal(fit_picture(image, 20, 30), picture)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("avif", "RGB"), ("avif", "RGBA"), ("tiff", "RGB"), ("tiff", "CMYK"), ("tiff", "LAB"), ("tiff", "L"),
     ("bmp", "RGB"), ("gif", "P")],
)  # fmt: skip
def test_the_formats_that_people_have(tmp_path, suffix, mode):
    grey = Image.new("RGB", (40, 40), (90, 90, 90))
    image = Image.new("LAB", (40, 40), (98, 128, 128)) if mode == "LAB" else grey.convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    fitted = fit_picture(open_picture(tmp_path / f"a.{suffix}"), 16, 16)
    np.testing.assert_allclose(fitted, 90, atol=8)


def test_heic_is_read_and_what_only_says_so_is_not(tmp_path):
    photo = open_picture(DATA / "photo.heic")
    assert photo.format == "HEIF" and fit_picture(photo, 16, 16).std() > 0
    (tmp_path / "fake.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(400))
    with pytest.raises(InvalidInputError, match="cannot be read as a picture"):
        open_picture(tmp_path / "fake.heic")


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
    with pytest.raises(InvalidInputError, match="does not exist"):
        open_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(InvalidInputError, match="cannot be read as a picture"):
        open_picture(tmp_path / "text.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(InvalidInputError, match="cannot be read as a picture"):
        open_picture(tmp_path / "cut.png")


def read_gif(path) -> tuple[np.ndarray, list[int], int | None]:
    """Its frames uint8 [F, H, W, 3], how many milliseconds each one stays, and how often it loops."""
    with Image.open(path) as gif:
        shown = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(gif)
        ]
        return np.stack([frame for frame, _ in shown]), [stay for _, stay in shown], gif.info.get("loop")


def test_gifs_loop_for_ever_at_the_right_pace(tmp_path):
    write_gif(tmp_path / "a.gif", clip(64, 48), fps=8)
    back, stay, loop = read_gif(tmp_path / "a.gif")
    assert back.shape == (6, 64 * 6, 48 * 6, 3)
    assert loop == 0
    assert sum(stay) == 750 and set(stay) <= {120, 130}


def test_gifs_keep_colours_and_motion(tmp_path):
    frames = clip(300, 400)
    write_gif(tmp_path / "a.gif", frames, fps=10)
    back, stay, _ = read_gif(tmp_path / "a.gif")
    assert stay == [100] * 6
    assert np.abs(back - frames.astype(int)).mean() < 1
    assert np.abs(back - frames.astype(int)).max() < 16


def test_what_is_still_does_not_flicker_in_a_gif(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8).repeat(3, axis=0)
    for i, frame in enumerate(frames):
        frame[:128] = (80 * i, 200, 40)
    write_gif(tmp_path / "a.gif", frames, fps=8)
    back, _, _ = read_gif(tmp_path / "a.gif")
    assert len(back) == 3
    assert (back[:, 128:] == back[0, 128:]).all()


def test_same_frames_same_gif(tmp_path):
    for name in "ab":
        write_gif(tmp_path / f"{name}.gif", clip(64, 64), fps=8)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_side_by_side_shows_every_video_under_its_caption():
    sheet = side_by_side([("Vanilla", clip(64, 64)), ("I4VGen", clip(260, 131))])
    num_frames, height, width, _ = sheet.shape
    assert num_frames == 6 and height % 2 == width % 2 == 0
    top = height - 520  # where the panes begin; the right one is enlarged to 520 x 262
    right = width - 262
    for i in range(6):
        np.testing.assert_allclose(sheet[i, top + 32, 4 * (8 + 2 * i)], (240, 30, 60), atol=12)
        np.testing.assert_allclose(sheet[i, top + 16, right + 2 * (8 + 2 * i)], (240, 30, 60), atol=12)
    for caption in (sheet[0, :top, :256], sheet[0, :top, right:]):
        assert caption.min() < 100, "no caption"
    assert (sheet[:, :, 256:right] == 255).all(), "nothing belongs between the panes"


def test_shorter_videos_wait_for_longer_ones():
    short, long = clip(64, 64, num_frames=2), clip(64, 64, num_frames=5)
    sheet = side_by_side([("short", short), ("long", long)])
    assert len(sheet) == 5
    assert (sheet[2:, :, :256] == sheet[1, :, :256]).all()
    assert (sheet[1, :, :256] != sheet[0, :, :256]).any() and (sheet[4] != sheet[3]).any()


def test_long_captions_stay_above_their_video():
    sheet = side_by_side([("so many words " * 20, clip(64, 64)), ("", clip(64, 64))])
    assert (sheet[0, :20, 256:] == 255).all()


def test_side_by_side_is_the_same_every_time():
    videos = [("Vanilla", clip(64, 64)), ("I4VGen", clip(64, 64))]
    assert np.array_equal(side_by_side(videos), side_by_side(videos))
