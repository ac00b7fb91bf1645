"""A batch whose folder is behind a URL: the same runs as on a disk, and none that is not whole."""

from __future__ import annotations

import csv
import io
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from i4vgen.cli.batch.folder import TOKEN, BatchFolder, find_folder
from i4vgen.cli.batch.prompts import PromptLine
from i4vgen.cli.batch.tasks import plan
from i4vgen.cli.batch.worker import Site, Worker
from i4vgen.cli.main import main
from i4vgen.errors import InvalidInputError, StorageError

PROMPTS = "a blue car\na red car\na rocket\n"
BLUE, RED, ROCKET = PROMPTS.splitlines()
SETTINGS = ("--device", "cpu", "--candidates", "2", "--steps", "1", "--frames", "2")
TIMES = ("run.json", "summary.csv", "index.html")
"""Files that say how long a run took: the same runs have different ones."""


@pytest.fixture(scope="module")
def disk(tiny_model_dir, tmp_path_factory) -> dict[str, bytes]:
    """What the batch leaves on a disk, by its name from the folder."""
    folder = tmp_path_factory.mktemp("disk")
    (folder / "prompts.txt").write_text(PROMPTS)
    call = ["batch", str(folder / "prompts.txt"), "--out", str(folder / "study"), *SETTINGS]
    assert main([*call, "--model", str(tiny_model_dir)]) == 0
    files = [path for path in (folder / "study").rglob("*") if path.is_file()]
    return {path.relative_to(folder / "study").as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def batch(tiny_model_dir, tmp_path, monkeypatch, capsys):
    """batch(url, arguments...): of three runs, with the tiny model; gives (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "prompts.txt").write_text(PROMPTS)

    def call(url: str, *arguments: str):
        status = main(
            ["batch", "prompts.txt", "--out", url, "--model", str(tiny_model_dir), *SETTINGS, *arguments]
        )
        assert not list((tmp_path / "temporary").iterdir()), "drafts are gone"
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def bucket() -> str:
    """The URL of an empty one."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    return "memory://bucket/study"


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path, bucket) -> str:
    """Of a folder that is not there yet."""
    return f"file://{tmp_path}/remote/study" if request.param == "file" else bucket


def fill(url: str, files: dict[str, bytes], *without: str) -> None:
    """Puts runs there, without those of some prompts."""
    folders = tuple(prompt.replace(" ", "-") for prompt in without)
    fs, root = fsspec.url_to_fs(url, auto_mkdir=True)
    for name, data in files.items():
        if not name.startswith(folders or "?"):
            fs.pipe_file(f"{root}/{name}", data)


def contents(url: str) -> dict[str, bytes]:
    """What is there, by its name from the folder."""
    fs, root = fsspec.url_to_fs(url)
    return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


def finished(url: str) -> list[str]:
    """The prompts of runs that count as finished."""
    names = sorted(name for name in contents(url) if name.endswith("/run.json"))
    return [re.sub(r"-\d+-\w+/run.json", "", name).replace("-", " ") for name in names]


def states(url: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(contents(url)["summary.csv"].decode(), newline=""))
    return [row["status"] for row in rows]


def without_times(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: b"" if Path(name).name in TIMES else data for name, data in files.items()}


def test_a_url_gets_what_a_disk_gets(batch, url, disk):
    status, out, err = batch(url)
    assert status == 0 and f"3 runs done, 0 failed: {url}/index.html" in out and "Traceback" not in err
    assert without_times(contents(url)) == without_times(disk)
    assert states(url) == ["done"] * 3 and b"a rocket" in contents(url)["index.html"]


def test_what_is_finished_stays_and_what_is_broken_is_made_again(batch, url, disk):
    blue, red, rocket = sorted(name for name in disk if name.endswith("/run.json"))
    video = blue.replace("run.json", "i4vgen.mp4")
    fill(url, disk | {video: disk[video][:-9], red: b""})
    status, out, _ = batch(url)
    assert status == 0 and "1 of 3 runs are there already" in out
    after = contents(url)
    assert after[rocket] == disk[rocket] and after[blue] != disk[blue], "another run took another time"
    assert without_times(after) == without_times(disk)


def failing(monkeypatch, method: str, pattern: str, error: BaseException) -> None:
    """Makes the bucket fail, where a path matches."""
    work = getattr(MemoryFileSystem, method)

    def fail(self, *args, **kwargs):
        if any(isinstance(path, str) and re.search(pattern, path) for path in args):
            raise error
        return work(self, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, method, fail)


@pytest.mark.parametrize("file", ["i4vgen.mp4", ".run.json"])
def test_a_run_that_cannot_be_put_there_is_recorded(batch, bucket, disk, monkeypatch, file):
    fill(bucket, disk, BLUE, ROCKET)
    with monkeypatch.context() as patched:
        failing(patched, "put_file", f"study/a-blue-car.*/{file}", ConnectionError("gone"))
        status, out, err = batch(bucket)
    assert status == 1 and states(bucket) == ["failed", "done", "done"] and "Traceback" not in err
    assert f"cannot write to {bucket} (ConnectionError: gone): check the address" in out
    assert finished(bucket) == [RED, ROCKET]
    assert batch(bucket)[0] == 0 and without_times(contents(bucket)) == without_times(disk)


def test_ctrl_c_while_a_run_is_put_there(batch, bucket, disk, monkeypatch):
    fill(bucket, disk, BLUE)
    with monkeypatch.context() as patched:
        failing(patched, "put_file", "study/a-blue-car.*/i4vgen.mp4", KeyboardInterrupt())
        status, _, err = batch(bucket)
    assert (status, err) == (130, "i4vgen: stopped\n") and finished(bucket) == [RED, ROCKET]
    assert states(bucket) == ["waiting", "done", "done"]
    assert batch(bucket)[0] == 0 and without_times(contents(bucket)) == without_times(disk)


def test_a_broken_run_is_none_while_it_is_replaced(batch, bucket, disk, monkeypatch):
    video = next(name for name in disk if re.search("a-blue-car.*/i4vgen.mp4", name))
    fill(bucket, disk | {video: b"broken"})
    failing(monkeypatch, "put_file", "a-blue-car.*/i4vgen.mp4", ConnectionError("gone"))
    assert batch(bucket)[0] == 1 and finished(bucket) == [RED, ROCKET], "half of its files are new"


def test_a_table_that_cannot_be_written_now_is_written_later(batch, bucket, disk, monkeypatch):
    fill(bucket, disk, BLUE)
    failures = []
    write = BatchFolder.write

    def fail_once(self, name, text):
        if "waiting" not in text and not failures:
            failures.append(name)
            raise StorageError("busy")
        write(self, name, text)

    monkeypatch.setattr("i4vgen.cli.batch.summary.WRITE_EVERY", 0)
    monkeypatch.setattr(BatchFolder, "write", fail_once)
    assert batch(bucket)[0] == 0 and failures and states(bucket) == ["done"] * 3


def test_a_run_that_cannot_be_read_is_not_taken_for_none(batch, bucket, disk, monkeypatch):
    fill(bucket, disk)
    failing(monkeypatch, "_open", "a-red-car.*/run.json", PermissionError("Forbidden"))
    status, out, err = batch(bucket)
    assert status == 2 and out == "" and err.count("\n") == 1
    assert err.startswith(f"i4vgen: error: cannot read {bucket} (PermissionError: Forbidden): check the")
    monkeypatch.undo()
    assert contents(bucket) == disk


def test_a_run_that_is_removed_once_it_is_made_is_a_failed_one(batch, bucket, disk, monkeypatch):
    fill(bucket, disk, BLUE, RED)
    publish = BatchFolder.publish

    def publish_and_remove(self, run, task):
        publish(self, run, task)
        if task.config.prompt == BLUE:
            self._fs.rm(self._path(task.name), recursive=True)

    monkeypatch.setattr(BatchFolder, "publish", publish_and_remove)
    status, out, _ = batch(bucket)
    assert status == 1 and "2 runs done, 1 failed" in out
    assert states(bucket) == ["failed", "done", "done"]


def test_a_folder_that_cannot_be_written_to(batch, tmp_path):
    status, out, err = batch(f"file://{tmp_path}/prompts.txt/study")
    assert status == 2 and out == "" and err.count("\n") == 1
    assert "prompts.txt/study (NotADirectoryError: " in err


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense://bucket/study", "nonsense:// is not a protocol that fsspec knows: give a folder, or a URL"),
        ("s3://bucket/study", "s3:// needs another package (Install s3fs to access S3): pip install s3fs"),
        ("smb://host/share", "pip install 'fsspec[smb]'"),
        ("memory://bucket/study-[1]", "memory://bucket/study-[1] holds one of the characters *?[]"),
    ],
)
def test_a_url_that_means_nothing_here(batch, monkeypatch, url, words):
    for package in ("s3fs", "smbprotocol", "smbclient"):
        monkeypatch.setitem(sys.modules, package, None)
    status, out, err = batch(url)
    assert status == 2 and out == "" and words in err and err.count("\n") == 1


def test_vbench_reads_from_a_disk_which_a_copy_may_be_on(batch, bucket, disk):
    fill(bucket, disk)
    status, _, err = batch(bucket, "--layout", "vbench")
    assert status == 2 and "copy that folder to a disk" in err and contents(bucket) == disk
    for name, data in contents(bucket).items():
        Path("copy", name).parent.mkdir(parents=True, exist_ok=True)
        Path("copy", name).write_bytes(data)
    status, out, _ = batch("copy", "--layout", "vbench")
    assert status == 0 and "3 of 3 runs are there already" in out
    assert len(list(Path("copy/vbench/i4vgen").iterdir())) == 3


def test_messages_hide_passwords():
    folder = BatchFolder("sftp://me:secret@host/study/")
    assert folder.locate("index.html") == "sftp://host/study/index.html"


# A worker on another machine


@pytest.fixture
def task(runtime):
    (planned,) = plan([PromptLine(1, {"prompt": "a car", "num_candidates": 2})], None, {}, runtime)
    return planned


class Post(list):
    """Collects what a worker says."""

    put_nowait_batch = list.extend


@pytest.fixture(params=["disk", "url"])
def shared(request, tmp_path, monkeypatch):
    """A folder as another machine gets it."""
    monkeypatch.chdir(tmp_path)
    with find_folder("study" if request.param == "disk" else f"file://{tmp_path}/study").shared() as folder:
        monkeypatch.chdir("/")
        yield pickle.loads(pickle.dumps(folder))
    assert not (tmp_path / "study" / TOKEN).exists()


def test_a_worker_writes_to_a_folder_that_it_shares(runtime, task, tmp_path, shared):
    url, folder = f"file://{tmp_path}/study", shared
    site = Site(runtime.spec, "cpu", False, runtime.describe()["versions"], Path.cwd(), folder, True)
    post = Post()
    Worker(site).make(post, task, None)
    assert folder.find(task) and {str(file) for _, _, file in post if file} <= contents(url).keys()
    before, post = contents(url), Post()
    Worker(site).make(post, task, None)
    assert post == [] and contents(url) == before, "finished, but not reported"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    folder.publish(tmp_path / "run", task)
    assert contents(url) == before, "who finishes second leaves the first alone"

    for other in (replace(folder, place=f"{tmp_path}/elsewhere"), replace(folder, token="of another batch")):
        with pytest.raises(InvalidInputError, match="is not the same folder on"):
            Worker(replace(site, folder=other)).prepare(post, True)


def test_an_error_of_another_machine_names_it(bucket, monkeypatch):
    failing(monkeypatch, "_open", TOKEN, PermissionError("Forbidden"))
    with pytest.raises(StorageError, match=r"^\S+: cannot read memory://bucket/study \(PermissionError: Forb"):
        find_folder(bucket).check_shared()
