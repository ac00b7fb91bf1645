"""The command line: what it writes, what it prints, how it fails."""

import io
import json
import os
import resource
import shutil
import sys
from unittest.mock import Mock

import pytest
from PIL import Image

from i4vgen.cli.listeners import warn_of_words
from i4vgen.cli.main import main
from i4vgen.errors import I4VGenError, OutOfMemoryError
from i4vgen.media import read_video
from i4vgen.weights.hub import fastest_dtype
from tests.support.imports import run_and_list_imports


@pytest.fixture
def cli(tiny_model_dir, tmp_path, monkeypatch, capsys):
    """cli(arguments...): runs in an empty folder with the tiny model; gives (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, model: str | None = str(tiny_model_dir)):
        extra = ["--model", model] if model else []
        try:
            status = main([*arguments, *extra, "--device", "cpu"])
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    call.model = ("--model", str(tiny_model_dir), "--device", "cpu")
    return call


DTYPE = str(fastest_dtype("cpu")).removeprefix("torch.")
RUN = ("a red rocket rising", "--seed", "7", "--candidates", "3")
FILES = ("candidates/00.png", "anchor.png", "ni_vsds.mp4", "i4vgen.mp4")


def bytes_of(folder, names=FILES):
    return {name: (folder / name).read_bytes() for name in names}


def test_a_run_leaves_everything(cli, tmp_path):
    status, out, err = cli(*RUN, "--out", "run", "--compare", "vanilla")
    assert status == 0 and err == ""
    assert "vanilla.mp4" in out and "run.json" in out
    names = sorted(str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*.*"))
    assert names == [
        "anchor.png", "candidates.safetensors", "candidates/00.png", "candidates/01.png", "candidates/02.png",
        "i4vgen.mp4", "ni_vsds.mp4", "run.json", "scores.csv", "vanilla.mp4",
    ]  # fmt: skip
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["request"]["prompt"] == RUN[0] and run["request"]["seed"] == 7
    assert set(run["versions"]) == {"i4vgen", "torch", "diffusers", "transformers", "python"}
    assert len(run["candidate_scores"]) == 3
    assert run["anchor_index"] == run["candidate_scores"].index(max(run["candidate_scores"]))
    assert set(run["seconds"]) == {"candidates", "ni_vsds", "regeneration", "vanilla"}
    assert (run["device"], run["dtype"], run["compare"]) == ("cpu", DTYPE, ["vanilla"])
    frames, fps = read_video(tmp_path / "run" / "i4vgen.mp4")
    assert len(frames) == 4 and fps == 8


def test_from_repeats_a_run_byte_for_byte(cli, tmp_path):
    cli(*RUN, "--out", "one", "--p-ni-vsds", "0.4")
    status, *_ = cli("--from", "one/run.json", "--out", "two", model=None)
    assert status == 0
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    changed, *_ = cli("--from", "one/run.json", "--out", "three", "--seed", "8", model=None)
    assert changed == 0
    assert json.loads((tmp_path / "three" / "run.json").read_text())["request"]["p_ni_vsds"] == 0.4
    assert bytes_of(tmp_path / "one")["i4vgen.mp4"] != bytes_of(tmp_path / "three")["i4vgen.mp4"]


@pytest.mark.slow
def test_from_repeats_a_run_in_its_own_folder(cli, tmp_path):
    cli(*RUN, "--out", "one", "--compare", "vanilla")
    before = bytes_of(tmp_path / "one")
    assert cli("--from", "one/run.json", "--out", "one", model=None)[0] == 0
    assert bytes_of(tmp_path / "one") == before
    fewer = ("--from", "one/run.json", "--out", "one", "--compare", "none")
    assert cli(*fewer, model=None)[0] == 2 and (tmp_path / "one" / "vanilla.mp4").exists()
    assert cli(*fewer, "--overwrite", model=None)[0] == 0
    assert bytes_of(tmp_path / "one") == before and not (tmp_path / "one" / "vanilla.mp4").exists()


def test_a_picked_anchor_is_repeated(cli, tmp_path):
    cli(*RUN, "--out", "one", "--anchor", "1")
    run = json.loads((tmp_path / "one" / "run.json").read_text())
    assert (run["anchor_index"], run["anchor_reason"]) == (1, "picked")
    cli("--from", "one/run.json", "--out", "two", model=None)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["anchor_index"] == 1
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_own_picture_as_anchor_and_repeated_without_the_picture(cli, tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "mine.png")
    assert cli(*RUN, "--out", "one", "--anchor-image", "mine.png")[0] == 0
    run = json.loads((tmp_path / "one" / "run.json").read_text())
    assert (run["anchor_index"], run["candidate_scores"]) == (None, [])
    (tmp_path / "mine.png").unlink()
    names = ("anchor.png", "ni_vsds.mp4", "i4vgen.mp4")
    cli("--from", "one/run.json", "--out", "two", model=None)
    assert bytes_of(tmp_path / "one", names) == bytes_of(tmp_path / "two", names)


def test_json_lines(cli):
    status, out, err = cli(*RUN, "--out", "run", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and err == ""
    assert lines[0] == {"event": "stage", "name": "candidates", "total": 5}
    assert lines[1]["event"] == "progress" and lines[1]["step"] == 1
    kinds = [line["event"] for line in lines]
    assert kinds.count("candidate") == 3 and kinds.count("result") == 2
    assert lines[-1]["event"] == "done" and lines[-1]["file"].endswith("run.json")


def test_default_folder_is_named_after_the_run(cli, tmp_path):
    assert cli(*RUN)[0] == 0
    assert (tmp_path / "outputs" / "a-red-rocket-rising-7" / "run.json").is_file()


@pytest.mark.slow
def test_another_run_of_the_same_name_gets_a_folder_of_its_own(cli, tmp_path):
    few = ("--candidates", "1", "--steps", "1", "--seed", "7")
    for arguments in (
        ("a car", *few),
        ("a car", *few, "--guidance-scale", "4"),
        ("a car", *few, "--anchor", "0"),
    ):
        assert cli(*arguments)[0] == 0
    _, out, err = cli("a car", *few, "--guidance-scale", "5")
    assert err == "i4vgen: outputs/a-car-7 holds another run: this one goes to outputs/a-car-7-4\n"
    assert "outputs/a-car-7-4/run.json" in out
    cli("a car", *few)
    cli("\N{ROCKET}", *few), cli("\N{CAT}", *few)
    runs = [json.loads(path.read_text())["request"] for path in tmp_path.glob("outputs/*/run.json")]
    assert len(runs) == 6 and sorted({run["guidance_scale"] for run in runs}) == [3, 4, 5]


def test_out_takes_no_folder_with_files_of_a_person(cli, tmp_path, picture):
    (tmp_path / "mine").mkdir()
    Image.fromarray(picture).save(tmp_path / "mine" / "anchor.png")
    before = (tmp_path / "mine" / "anchor.png").read_bytes()
    few = ("--candidates", "1", "--steps", "1", "--out", "mine")
    status, out, err = cli(*RUN, *few)
    assert (status, out, err.count("\n")) == (2, "", 1) and "--overwrite" in err
    assert (tmp_path / "mine" / "anchor.png").read_bytes() == before
    assert cli(*RUN, *few, "--overwrite")[0] == 0
    assert cli(*RUN, *few, "--seed", "8")[0] == 2, "nor one with a finished run of another request"
    assert cli(*RUN, *few)[0] == 0
    assert cli(*RUN, "--overwrite")[0] == 2
    status, _, err = cli(*RUN, "--out", "clip.mp4")
    assert status == 2 and "named like a file" in err and not (tmp_path / "clip.mp4").exists()


def test_the_files_have_the_permissions_of_the_umask(cli, tmp_path):
    earlier = os.umask(0o027)
    try:
        assert cli("a car", "--candidates", "1", "--steps", "1", "--out", "run")[0] == 0
    finally:
        os.umask(earlier)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*")}
    assert modes.pop("candidates") == 0o750 and len(modes) == 7
    assert set(modes.values()) == {0o640}


@pytest.mark.parametrize("most", [1000, 4000], ids=["a picture", "a video"])
def test_a_disk_that_fills_up_is_one_line_and_leaves_no_half_of_a_file(cli, tmp_path, most):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        status, _, err = cli("a car", "--candidates", "2", "--steps", "1", "--out", "run", "--no-metadata")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2 and err.count("\n") == 1 and "room on the disk" in err
    files = [path for path in (tmp_path / "run").rglob("*.*") if path.name != ".unfinished.json"]
    assert len(files) == (0 if most == 1000 else 3)
    for path in files:
        Image.open(path).load()


def test_a_run_that_the_disk_has_no_room_for_does_not_begin(cli, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    status, out, err = cli(*RUN, "--out", "run")
    assert (status, out, err.count("\n")) == (2, "", 1) and "not enough room for run" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_run_goes_on_when_its_output_is_no_longer_read(cli, tmp_path, monkeypatch, json_lines):
    reads, writes = os.pipe()
    os.close(reads)
    stdout = open(writes, "w")  # noqa: SIM115  as `| head` leaves it
    monkeypatch.setattr(sys, "stdout", stdout)
    arguments = ("a car", "--candidates", "1", "--steps", "1", "--out", "run")
    assert main([*arguments, *cli.model, *(["--json"] if json_lines else [])]) == 0
    stdout.close()  # nor does the end of the process fail
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_run_goes_on_where_its_name_cannot_be_printed(cli, tmp_path, monkeypatch, encoding):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["красная ракета \N{ROCKET}", "--candidates", "1", "--steps", "1", *cli.model]) == 0
    (run,) = tmp_path.glob("outputs/*/run.json")
    assert b"run.json" in stdout.buffer.getvalue()
    assert json.loads(run.read_text(encoding="utf-8"))["request"]["prompt"].endswith("\N{ROCKET}")


def test_unknown_words_are_told(cli):
    _, _, err = cli("a red zeppelin", "--candidates", "1", "--steps", "1", "--out", "run")
    assert err == "i4vgen: the model does not know: zeppelin\n"


def test_what_is_not_read_of_a_long_prompt_is_told(runtime, make_config, capsys):
    long = "a red rocket over the sea in the night rising over the sea"
    prompts = [("a red car", ""), (long, ""), (long, ""), ("a red car", long)]
    warn_of_words(runtime, [make_config(prompt=p, negative_prompt=n) for p, n in prompts])
    words = f"is too long, the model does not read: {runtime.unread(long)}\n"
    assert capsys.readouterr().err == f"i4vgen: the prompt {words}i4vgen: the negative prompt {words}"


def test_what_is_read_as_words_is_told(runtime, make_config, capsys):
    warn_of_words(runtime, [make_config(prompt="a (red:1.2) car <lora:sea:0.8>", negative_prompt="[a|a]")])
    assert capsys.readouterr().err.splitlines()[-1] == (
        "i4vgen: the model reads as plain words: <lora:sea:0.8>, [a|a]"
        " (give a LoRA as an option: --lora sea@0.8)"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "a prompt is missing"),
        ((" ",), "prompt is empty"),
        ((*RUN, "--candidates", "0"), "num_candidates must be"),
        ((*RUN, "--candidates", "many"), "invalid int value: 'many'"),
        ((*RUN, "--anchor", "3"), "from 0 to 2, not 3"),
        ((*RUN, "--anchor", "1", "--anchor-image", "a.png"), "not allowed with"),
        ((*RUN, "--anchor-image", "none.png"), "none.png does not exist"),
        ((*RUN, "--frames", "9"), "at most 8"),
        ((*RUN, "--frames", "1"), "num_frames must be"),
        ((*RUN, "--height", "30"), "multiple of 4"),
        ((*RUN, "--steps", "0"), "num_inference_steps"),
        ((*RUN, "--guidance-scale", "nan"), "guidance_scale"),
        ((*RUN, "--p-ni-vsds", "2"), "p_ni_vsds"),
        ((*RUN, "--p-re", "0"), "nothing to regenerate"),
        ((*RUN, "--compare", "chocolate"), "cannot compare with 'chocolate'"),
        ((*RUN, "--preset", "slow"), "preset must be one of"),
        ((*RUN, "--sampler", "ddpm"), "sampler must be one of"),
        ((*RUN, "--reward", "mine"), "there is no reward 'mine'"),
        ((*RUN, "--nonsense"), "unrecognized arguments"),
        (("--from", "none.json"), "cannot read none.json"),
        (("--from", "broken.json"), "not valid JSON"),
        (("--from", "other.json"), "holds no run"),
        (("--from", "unknown.json"), "unknown setting 'sed'"),
        ((*RUN, "--out", "broken.json"), "cannot write to broken.json"),
    ],
)
def test_wrong_values_are_one_line_and_status_2(cli, tmp_path, arguments, words):
    (tmp_path / "broken.json").write_text('{"request": ')
    (tmp_path / "other.json").write_text("[1, 2]")
    run = {"request": {"prompt": "a", "sed": 1}, "compare": [], "model": "pocket", "anchor_reason": "picked"}
    (tmp_path / "unknown.json").write_text(json.dumps(run))
    status, out, err = cli(*arguments)
    assert status == 2 and out == ""
    assert err.startswith("i4vgen: error: ") and err.count("\n") == 1
    assert words in err


def test_a_run_that_cannot_start_leaves_the_earlier_one_alone(cli, tmp_path):
    cli(*RUN, "--out", "run")
    before = bytes_of(tmp_path / "run")
    assert cli(*RUN, "--out", "run", "--anchor", "99")[0] == 2
    assert bytes_of(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("error", "status"), [(I4VGenError("its worker died"), 2), (OutOfMemoryError("too little memory"), 1)]
)
def test_every_error_of_the_package_is_one_line(monkeypatch, capsys, error, status):
    monkeypatch.setattr("i4vgen.cli.main.run", Mock(side_effect=error))
    assert main(["a rocket"]) == status
    assert capsys.readouterr().err == f"i4vgen: error: {error}\n"


def test_a_device_that_is_not_there(capsys):
    assert main(["a rocket", "--device", "toaster"]) == 2
    assert capsys.readouterr().err.startswith("i4vgen: error: device 'toaster' is not available here: use cpu")


def test_without_a_reward_an_anchor_is_asked_for_before_anything_is_loaded(cli, tiny_model_dir, tmp_path):
    model = shutil.copytree(tiny_model_dir, tmp_path / "model", ignore=shutil.ignore_patterns("reward"))
    (model / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    (tmp_path / "prompts.txt").write_text("a red car")
    status, _, err = cli(*RUN, model=str(model))
    assert status == 2 and "no reward model: pick the anchor" in err and err.count("\n") == 1
    cli("batch", "prompts.txt", "--out", "study", model=str(model))
    assert "no reward model: pick the anchor" in (tmp_path / "study" / "summary.csv").read_text()


@pytest.mark.parametrize("model", ["nowhere", "./nowhere"])
def test_a_missing_model(cli, model):
    status, _, err = cli(*RUN, model=model)
    assert status == 2 and "there is no model" in err and err.count("\n") == 1


def test_a_damaged_model(cli, tiny_model_dir, tmp_path):
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    status, _, err = cli(*RUN, model=str(model))
    assert status == 2 and "vae" in err and "download it again" in err and err.count("\n") == 1


def test_help_is_quick_and_readable():
    text, imports = run_and_list_imports("-m", "i4vgen", "--help")
    assert "--anchor-image" in text
    assert "torch" not in imports, "--help must not wait for torch"


@pytest.mark.slow
def test_the_embedded_model_end_to_end(cli, pocket_dir, tmp_path):
    """The README's command, with fewer candidates and steps."""
    prompt = "a rocket rising in a starry night"
    arguments = (prompt, "--seed", "7", "--candidates", "2", "--steps", "3", "--compare", "vanilla")
    status, _, err = cli(*arguments, "--out", "run", model=None)
    assert status == 0 and err == "", err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["model"] == "pocket" and len(run["candidate_scores"]) == 2
    frames, _ = read_video(tmp_path / "run" / "vanilla.mp4")
    assert len(frames) == run["request"]["num_frames"]


@pytest.mark.slow
def test_the_embedded_model_repeats_itself(cli, pocket_dir, tmp_path):
    cli("a rocket", "--candidates", "2", "--steps", "2", "--out", "one", model=None)
    cli("--from", "one/run.json", "--out", "two", model=None)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
