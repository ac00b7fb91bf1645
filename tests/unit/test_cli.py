"""The command line: what it writes, what it prints, how it fails."""

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from i4vgen.__main__ import main
from i4vgen.hub import fastest_dtype
from i4vgen.listeners import warn_of_words
from i4vgen.media import read_video
from tests.conftest import ROOT


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


def test_from_repeats_a_run_in_its_own_folder(cli, tmp_path):
    cli(*RUN, "--out", "one", "--compare", "vanilla")
    before = bytes_of(tmp_path / "one")
    assert cli("--from", "one/run.json", "--out", "one", "--compare", "none", model=None)[0] == 0
    assert bytes_of(tmp_path / "one") == before
    assert not (tmp_path / "one" / "vanilla.mp4").exists()


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


def test_unknown_words_are_told(cli):
    _, _, err = cli("a red zeppelin", "--candidates", "1", "--steps", "1", "--out", "run")
    assert err == "i4vgen: the model does not know: zeppelin\n"


def test_what_is_not_read_of_a_long_prompt_is_told(runtime, capsys):
    long = "a red rocket over the sea in the night rising over the sea"
    warn_of_words(runtime, ["a red car", long, long])
    assert capsys.readouterr().err == (
        f"i4vgen: the prompt is too long, the model does not read: {runtime.unread(long)}\n"
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


def test_a_device_that_is_not_there(capsys):
    assert main(["a rocket", "--device", "toaster"]) == 2
    assert capsys.readouterr().err.startswith("i4vgen: error: device 'toaster' is not available here: use cpu")


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
    call = [sys.executable, "-X", "importtime", "-m", "i4vgen", "--help"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0 and "--anchor-image" in done.stdout
    assert "torch" not in done.stderr, "--help must not wait for torch"


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


def test_the_embedded_model_repeats_itself(cli, pocket_dir, tmp_path):
    cli("a rocket", "--candidates", "2", "--steps", "2", "--out", "one", model=None)
    cli("--from", "one/run.json", "--out", "two", model=None)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
