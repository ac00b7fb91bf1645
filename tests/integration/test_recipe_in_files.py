"""What pictures and videos say about how they were made: written, read back, and never trusted."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from i4vgen.bounds import MAX_JSON
from i4vgen.cli.main import main
from i4vgen.errors import InvalidInputError
from i4vgen.events import HIGHEST_REWARD, PICKED, UPLOADED, Selected
from i4vgen.media import read_comment, write_gif, write_image, write_video
from i4vgen.storage.recipe import Recipe
from i4vgen.storage.runs import open_run

AWKWARD = "a = b; # \\ \"q\" 's' \n\t é 日本 😀 %d ${HOME} <b>"
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 32, 24, 3), np.uint8)
WRITERS = {
    "a.mp4": lambda path, comment: write_video(path, FRAMES, 8, comment=comment),
    "a.gif": lambda path, comment: write_gif(path, FRAMES, 8, comment=comment),
    "a.png": lambda path, comment: write_image(path, FRAMES[0], comment),
    "a.webp": lambda path, comment: write_image(path, FRAMES[0], comment),
}


@pytest.fixture
def recipe(make_config, runtime) -> Recipe:
    config = make_config(prompt=AWKWARD, negative_prompt=AWKWARD * 30, seed=2**63 - 1)
    return Recipe(config, runtime.describe(), Selected(1, FRAMES[0], PICKED))


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_carries_it_and_gives_it_back(tmp_path, recipe, runtime, name):
    WRITERS[name](tmp_path / name, recipe.to_json(["vanilla"]))
    run = open_run(tmp_path / name)
    assert run.is_recipe and run.config == recipe.config and run.spec == runtime.spec
    assert (run.compare, run.anchor_index, run.chosen()) == (("vanilla",), 1, 1)
    assert run.file.versions == runtime.describe()["versions"]
    assert run.candidates() == () and run.videos() == {}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_recipe_gives_the_same_bytes_and_none_gives_those_of_before(tmp_path, recipe, name):
    for folder, comment in (("one", recipe.to_json()), ("two", recipe.to_json()), ("bare", "")):
        (tmp_path / folder).mkdir()
        WRITERS[name](tmp_path / folder / name, comment)
    one, two, bare = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two", "bare"))
    assert one == two and len(one) - len(bare) >= len(json.dumps(AWKWARD))
    assert read_comment(tmp_path / "bare" / name, MAX_JSON) is None
    with pytest.raises(InvalidInputError, match="does not say how it was made"):
        open_run(tmp_path / "bare" / name)


def test_an_uploaded_image_leaves_its_digest(tmp_path, make_config, runtime):
    recipe = Recipe(make_config(), runtime.describe(), Selected(None, FRAMES[0], UPLOADED))
    write_image(tmp_path / "a.png", FRAMES[0], recipe.to_json())
    run = open_run(tmp_path / "a.png")
    assert len(run.file.anchor_sha256) == 64 and run.file.anchor_reason == UPLOADED
    with pytest.raises(InvalidInputError, match="--anchor-image"):
        run.chosen()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    ("comment", "words"),
    [
        ("made with love", "is not valid JSON"),
        ("[1]", "holds no run"),
        ('{"request": {"prompt": "a"}}', "model is not as a run writes it"),
        ('{"request": {"prompt": "a", "sed": 1}, "model": "pocket"}', "unknown setting 'sed'"),
        ('{"request": {"prompt": "a"}, "model": "pocket", "anchor_sha256": "../../etc"}', "anchor_sha256"),
        ("[" * 9000, "is not valid JSON"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, name, comment, words):
    WRITERS[name](tmp_path / name, comment)
    with pytest.raises(InvalidInputError, match=words.replace("[", r"\[")) as refused:
        open_run(tmp_path / name)
    assert len(str(refused.value)) < 500


def test_recipes_are_limited_in_size(tmp_path):
    long = json.dumps("x" * 100_000)
    for name, write in WRITERS.items():
        write(tmp_path / name, long[:60_000] if name == "a.webp" else long)
        with pytest.raises(InvalidInputError, match="has a longer comment"):
            read_comment(tmp_path / name, 10_000)


def png_with(chunk: bytes, data: bytes) -> bytes:
    """A PNG of one pixel with a chunk of its own."""

    def pack(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = pack(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + pack(chunk, data)
        + pack(b"IDAT", zlib.compress(b"\0\0\0\0"))
        + pack(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        png_with(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2**26)),  # 64 MB in 64 KB
        png_with(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 2**26)),
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 100,
        b"\0\0\0\x18ftypisom" + b"\xff" * 100,
        b"GIF89a" + b"\xff" * 3,
        b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 100,
        b"\0\0\0\x18ftyp",
    ],
)
def test_damaged_and_hostile_files_are_refused_in_a_line(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InvalidInputError) as refused:
        open_run(tmp_path / "a")
    assert "\n" not in str(refused.value)


# From end to end

RUN = ("a red rocket rising", "--seed", "7", "--candidates", "2", "--steps", "2", "--device", "cpu")


def test_a_video_repeats_its_run(tmp_path, tiny_model_dir, monkeypatch, capsys, picture):
    monkeypatch.chdir(tmp_path)
    model = ("--model", str(tiny_model_dir))
    assert main([*RUN, *model, "--out", "one", "--compare", "vanilla", "--anchor", "1", "--p-re", "0.5"]) == 0
    assert main(["--from", "one/vanilla.mp4", "--out", "two", "--device", "cpu"]) == 0
    names = ["anchor.png", "candidates/00.png", "i4vgen.mp4", "ni_vsds.mp4", "vanilla.mp4"]
    assert [
        name
        for name in names
        if (tmp_path / "one" / name).read_bytes() != (tmp_path / "two" / name).read_bytes()
    ] == []
    of_candidate, of_anchor = (
        open_run(tmp_path / "one" / name).file for name in ("candidates/00.png", "anchor.png")
    )
    assert (of_candidate.anchor_reason, of_anchor.anchor_reason) == (None, PICKED)
    assert of_candidate.belongs_to(of_anchor) and not of_anchor.belongs_to(of_candidate)
    assert not open_run(tmp_path / "one" / "i4vgen.mp4").file.has_compare

    Image.fromarray(picture).save("mine.png")
    assert main([*RUN, *model, "--out", "own", "--anchor-image", "mine.png"]) == 0
    capsys.readouterr()
    assert main(["--from", "own/i4vgen.mp4", "--out", "again", "--device", "cpu"]) == 2
    assert "--anchor-image" in capsys.readouterr().err
    assert (
        main(["--from", "own/i4vgen.mp4", "--out", "again", "--device", "cpu", "--anchor-image", "mine.png"])
        == 0
    )
    assert capsys.readouterr().err == ""
    assert (tmp_path / "again" / "i4vgen.mp4").read_bytes() == (tmp_path / "own" / "i4vgen.mp4").read_bytes()
    Image.fromarray(picture[::-1]).save("mine.png")
    main(["--from", "own/i4vgen.mp4", "--out", "again", "--device", "cpu", "--anchor-image", "mine.png"])
    assert "not the picture that the run was animated from" in capsys.readouterr().err


def test_without_metadata_nothing_is_said(tmp_path, tiny_model_dir, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a rocketship of secrets\n")
    model = ("--model", str(tiny_model_dir), "--no-metadata", "--candidates", "1", "--steps", "2")
    assert main(["batch", "prompts.txt", "--out", "study", "--device", "cpu", *model]) == 0
    pictures = [*tmp_path.glob("study/*/*.mp4"), *tmp_path.glob("study/*/**/*.png")]
    assert len(pictures) == 4
    for path in pictures:
        assert read_comment(path, MAX_JSON) is None and b"secrets" not in path.read_bytes()


def test_only_what_the_run_has_decides_whether_a_file_is_of_it(tmp_path, make_config, runtime):
    def file_of(config, anchor, **made):
        path = tmp_path / "a.png"
        write_image(path, FRAMES[0], Recipe(config, runtime.describe() | made, anchor).to_json())
        return open_run(path).file

    best, picked = Selected(0, FRAMES[0], HIGHEST_REWARD), Selected(0, FRAMES[0], PICKED)
    mine, other = Selected(None, FRAMES[0], UPLOADED), Selected(None, FRAMES[1], UPLOADED)
    run = file_of(make_config(), best)
    assert file_of(make_config(), None).belongs_to(run) and file_of(
        make_config(), best, device="toaster"
    ).belongs_to(run)
    assert not file_of(make_config(), picked).belongs_to(run)
    assert not file_of(make_config(seed=9), best).belongs_to(run)
    assert not file_of(make_config(), best, versions={"i4vgen": "9"}).belongs_to(run)
    assert not file_of(make_config(), mine).belongs_to(file_of(make_config(), other))
