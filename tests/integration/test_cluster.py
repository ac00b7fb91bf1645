"""A batch on Ray: what a worker does and refuses, and a cluster of two nodes, of which one dies."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import Mock

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.exceptions import ActorDiedError, RayTaskError

from benchmarks import cluster as cluster_benchmark
from i4vgen.cli.batch import cluster as ray_cluster
from i4vgen.cli.batch import progress
from i4vgen.cli.batch.cluster import Share
from i4vgen.cli.batch.executor import make_run
from i4vgen.cli.batch.folder import find_folder
from i4vgen.cli.batch.prompts import PromptLine
from i4vgen.cli.batch.summary import SummaryRow
from i4vgen.cli.batch.tasks import plan
from i4vgen.cli.batch.worker import Site, Worker
from i4vgen.cli.main import main
from i4vgen.errors import I4VGenError, InvalidInputError
from i4vgen.events import Candidate, Progress, Result, Selected
from i4vgen.models.catalog import ENVIRONMENT, default_model
from i4vgen.storage.drafts import draft_folder, is_draft, remove_abandoned
from tests.conftest import ROOT
from tests.integration.test_batch import table
from tests.support.machine import interruptible
from tests.support.waiting import PATIENCE

CHEAP = ("--candidates", "2", "--steps", "2")


def test_a_worker_has_a_gpu_or_two_cores():
    gpus = [{"CPU": 64.0}, {"GPU": 8.0, "CPU": 32.0}, {"GPU": 4.0, "CPU": 12.0}]
    share = Share.of(gpus, None)
    assert share == Share(1, 3) and share.device == "cuda"
    assert [share.fits(node) for node in gpus] == [0, 8, 4]
    cores = Share.of(gpus, "cpu")
    assert cores == Share(0, 2) and cores.device == "cpu" and cores.fits(gpus[0]) == 32
    assert Share.of([{"CPU": 1.0}], None) == Share(0, 1)
    assert Share.of([{"CPU": 2.0, "GPU": 4.0}], None).fits({"CPU": 2.0, "GPU": 4.0}) == 4


@pytest.mark.parametrize(
    ("nodes", "device", "words"),
    [
        ([{"CPU": 8.0}], "cuda", "the cluster has no GPU"),
        ([{"CPU": 8.0}], "mps", "--device is cuda or cpu, not mps"),
        ([{"GPU": 1.0, "CPU": 8.0}], "cuda:1", "Ray says which GPU"),
        ([{"memory": 1.0}], None, "the cluster has no CPU"),
    ],
)
def test_a_cluster_without_the_device_is_refused(nodes, device, words):
    with pytest.raises(InvalidInputError, match=words):
        Share.of(nodes, device)


@pytest.fixture
def command(tiny_model_dir, tmp_path, monkeypatch, capsys):
    """command(prompts, arguments...): a batch in an empty folder; gives (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(prompts: str, *arguments: str, model: str = str(tiny_model_dir)):
        (tmp_path / "prompts.csv").write_text(prompts)
        status = main(["batch", "prompts.csv", "--model", model, *CHEAP, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_without_ray_the_extra_is_named(command, monkeypatch):
    monkeypatch.delitem(sys.modules, "i4vgen.cli.batch.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    status, _, err = command("prompt\na car\n", "--out", "study", "--ray", "local")
    assert status == 2 and "pip install 'i4vgen[cluster]'" in err and err.count("\n") == 1


@pytest.mark.parametrize("where", ["ray://head:10001", "head", "s3://bucket:1"])
def test_an_address_that_is_none(command, where):
    status, _, err = command("prompt\na car\n", "--out", "study", "--ray", where)
    assert status == 2 and "--ray takes local, auto or HOST:PORT" in err


def test_runs_go_to_no_unknown_protocol(command, tmp_path):
    status, _, err = command("prompt\na car\n", "--out", "s9://bucket/study", "--ray", "local")
    assert status == 2 and "s9:// is not a protocol that fsspec knows" in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.csv"]


def test_the_cluster_decides_the_default_model(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert (default_model("cuda"), default_model("cpu")) == ("animatediff", "pocket")


def test_drafts_of_another_machine_are_left_to_it(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    mine, others = (tmp_path / f"draft-{host}-{gone.pid}-a" for host in (socket.gethostname(), "else-where.7"))
    with draft_folder(tmp_path) as under_way:
        others.mkdir()
        mine.mkdir()
        assert is_draft(others.name) and is_draft(mine.name) and is_draft(under_way.name)
        remove_abandoned(tmp_path)
        assert others.is_dir() and not mine.exists()


def test_the_simulation_of_a_cluster():
    assert cluster_benchmark.simulate(10, 1, [2.0], 0.0) == 20
    assert cluster_benchmark.simulate(10, 4, [2.0], 0.0) == 6
    assert cluster_benchmark.simulate(100, 100, [1.0], 0.1) == pytest.approx(11), "they wait for the driver"


def test_a_head_that_does_not_answer(command):
    with socket.socket() as silent:  # has the port, and does not listen
        silent.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        status, _, err = command("prompt\na car\n", "--out", "study", "--ray", where)
    assert status == 2 and "there is no Ray cluster to join" in err and err.count("\n") == 1


def died(cause: ModuleNotFoundError | None) -> ActorDiedError:
    """What Ray says of a worker whose constructor raised an error, or that died later."""
    if cause is None:
        return ActorDiedError()
    traceback = f"ray::Worker.__init__()\n  File ...\nModuleNotFoundError: {cause}\n"
    return ActorDiedError(RayTaskError("Worker.__init__", traceback, cause, "ray::Worker", 1, "10.0.0.1"))


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            ModuleNotFoundError("No module named 'i4vgen'"),
            r"cannot start \(ModuleNotFoundError: .* on all nodes",
        ),
        (None, "its worker died 4 times, perhaps out of memory"),
    ],
)
def test_a_worker_that_dies_is_told_from_one_that_cannot_start(monkeypatch, cause, words):
    monkeypatch.setattr(ray, "get", Mock(side_effect=died(cause)))
    with pytest.raises(I4VGenError, match=words) as error:
        ray_cluster._check_prepared(ray_cluster._Call(None, None, None))
    assert "\n" not in str(error.value)


# A worker


class Post(list):
    """Collects what a worker says."""

    put_nowait_batch = list.extend


@pytest.fixture
def site(runtime, tmp_path) -> Iterator[Site]:
    versions = runtime.describe()["versions"]
    with find_folder(str(tmp_path / "study")).shared() as folder:
        yield Site(runtime.spec, "cpu", False, versions, Path.cwd(), folder, True)


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where drafts are."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


@pytest.fixture
def task(runtime):
    (planned,) = plan([PromptLine(1, {"prompt": "a car", "num_candidates": 2})], None, {}, runtime)
    return planned


def test_a_worker_makes_what_is_not_there_and_sends_no_pictures(site, task, temporary):
    worker, post = Worker(site), Post()
    worker.make(post, task, None)
    folder = site.folder.on_disk / task.name
    assert site.folder.find(task) and not list(temporary.iterdir())
    assert {name for name, _, _ in post} == {task.name}
    files = [file for _, event, file in post if isinstance(event, (Candidate, Selected, Result))]
    assert len(files) == 5 and all((site.folder.on_disk / file).is_file() for file in files)
    candidate = next(event for _, event, _ in post if isinstance(event, Candidate))
    assert candidate.image.size == candidate.latents.size == 0 and candidate.scores

    made, post = (folder / "run.json").stat(), Post()
    worker.make(post, task, None)
    assert post == [] and (folder / "run.json").stat() == made, "finished, but not reported"
    (folder / "i4vgen.mp4").write_bytes(b"broken")
    worker.make(post, task, None)
    assert post and site.folder.find(task)


def test_who_finishes_second_leaves_the_first_alone(site, task, runtime, tmp_path, temporary):
    folder, first = site.folder.on_disk / task.name, []

    def listen(event, file):
        if (
            isinstance(event, Result) and event.name == "i4vgen"
        ):  # here, a node that was taken for dead is ready
            os.rename(ready / task.name, folder)
            first.append(folder.stat())

    ready = tmp_path / "ready"
    make_run(task, None, runtime, find_folder(str(ready)), lambda *_: None)
    make_run(task, None, runtime, site.folder, listen)
    assert folder.stat() == first[0] and site.folder.find(task) and not list(temporary.iterdir())


def test_a_worker_with_other_code_or_another_disk_is_refused(site, task, tmp_path):
    with pytest.raises(InvalidInputError, match=r"has torch .*, the batch was planned with 1.0"):
        Worker(replace(site, versions={**site.versions, "torch": "1.0"})).prepare(Post(), True)
    elsewhere = replace(site.folder, place=str(tmp_path / "elsewhere"))
    with pytest.raises(InvalidInputError, match="is not the same folder on"):
        Worker(replace(site, folder=elsewhere)).make(Post(), task, None)


def test_the_bar_counts_several_runs_at_once(runtime):
    rows = [PromptLine(1, {"prompt": "a car"}), PromptLine(2, {"prompt": "a rocket"})]
    first, second = plan(rows, None, {}, runtime)
    bar = progress.BatchBar([first, second], 0, runtime)
    for task in (first, second):
        bar.show(task, Progress("candidates", 1, 2, 0.0, 0.0), None)
    step = bar.bar.n / 2
    assert 0 < step < bar.bar.total / 4
    bar.finish_run(SummaryRow(second, "failed", "no"))
    assert bar.bar.n == pytest.approx(bar.bar.total / 2 + step)
    bar.finish_run(SummaryRow(first, "done"))
    assert bar.bar.n == pytest.approx(bar.bar.total)
    bar.close()


# A cluster

PROMPTS = "prompt\n" + "".join(f"a {c} {s}\n" for c in ("red", "blue") for s in ("rocket", "car", "sea"))


@pytest.fixture
def environment(monkeypatch):
    """That of Ray's processes: of a node on a machine which has other work."""
    sockets = TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True)  # whose paths have to be short
    for name, value in {
        "RAY_TMPDIR": sockets.name,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",
        "RAY_memory_monitor_refresh_ms": "0",  # would kill workers where other work fills the memory
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 2}',  # one worker on a node, however many cores the machine has
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",  # with a token, Ray would leave one in the home folder
    }.items():
        monkeypatch.setenv(name, value)
    with sockets:
        yield


@pytest.fixture
def cluster(environment):
    """Two nodes with room for a worker each; the second one is not that of the command."""
    soon = {"initial_delay_ms": 0, "period_ms": 500, "failure_threshold": 2}  # is a dead node missed
    patient = {"timeout_ms": 60_000}  # with a live one that gets no CPU
    config = {f"health_check_{name}": value for name, value in (soon | patient).items()}
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": config}
    both = Cluster(initialize_head=True, head_node_args=head)
    both.add_node(num_cpus=2)
    yield both
    both.shutdown()


def stop_in_the_middle(node, seconds: float = 5.0) -> list[Path]:
    """Kills a node, and with it its worker, once that has a run under way: returns the drafts that it leaves.

    Gives up after some seconds, because the worker may have none: it gets the next one from the caller.
    """
    raylet = node.all_processes["raylet"][0].process.pid
    workers = {worker.pid: worker for worker in psutil.Process(raylet).children()}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for draft in Path(tempfile.gettempdir()).glob("draft-*"):
            worker = workers.get(int(re.fullmatch(r"draft-.+-(\d+)-\w+", draft.name)[1]))
            if worker is None or not (draft / "run" / "candidates").is_dir():
                continue
            worker.suspend()
            if (draft / "run" / "candidates").is_dir():  # not put in its place meanwhile
                node.kill_raylet()
                worker.kill()
                return [draft]
            worker.resume()
        time.sleep(0.005)
    return []


@pytest.mark.slow
def test_twelve_runs_outlive_the_death_of_a_node(command, cluster, tmp_path, monkeypatch, pocket_dir):
    cheap = ("--seeds", "0-1", "--height", "32", "--width", "32", "--frames", "4")
    assert command(PROMPTS, *cheap, "--device", "cpu", "--out", "local", model="pocket")[0] == 0
    (doomed,) = cluster.worker_nodes
    study, left, finished, ready = tmp_path / "study", [], {}, []
    show, finish_run = progress.BatchLines.show, progress.BatchLines.finish_run
    wait = ray_cluster._Crew.wait

    def wait_for_both_workers(crew):
        """No worker makes all the runs while the other one still loads the model."""
        if not ready:
            ready.extend(ray.wait(list(crew._calls), num_returns=2, timeout=PATIENCE)[0])
        return wait(crew)

    def kill_one(self, task, event, file):
        if not left and len(finished) >= 2:
            left.extend(stop_in_the_middle(doomed))
        show(self, task, event, file)

    def note(self, entry):
        assert entry.folder not in finished, "made twice"
        finished[entry.folder] = (study / entry.folder / "run.json").stat()
        finish_run(self, entry)

    monkeypatch.setattr(ray_cluster._Crew, "wait", wait_for_both_workers)
    monkeypatch.setattr(progress.BatchLines, "show", kill_one)
    monkeypatch.setattr(progress.BatchLines, "finish_run", note)
    status, out, err = command(PROMPTS, *cheap, "--out", "study", "--ray", cluster.address, model="pocket")
    assert len(ready) == 2 and left and len(finished) == 12, err
    assert status == 0 and "12 runs done, 0 failed" in out and "Traceback" not in err
    assert {name: (study / name / "run.json").stat() for name in finished} == finished, "made once, then left"
    local = tmp_path / "local"
    names = {path.relative_to(local) for path in local.rglob("*") if path.is_file()}
    assert names == {path.relative_to(study) for path in study.rglob("*") if path.is_file()}
    for name in names:
        if name.name not in ("run.json", "summary.csv", "index.html"):  # which say how long it took
            assert (study / name).read_bytes() == (local / name).read_bytes(), name
    assert [row["status"] for row in table(study)] == ["done"] * 12


@pytest.mark.slow
def test_one_machine_of_its_own_fails_and_stops_like_a_batch(command, environment, tmp_path, monkeypatch):
    over = []

    def finish_run(self, entry):
        over.append(entry.status)
        if len(over) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.BatchLines, "finish_run", finish_run)
    lines = "prompt,anchor,steps\na car,,\na night,,0\na sea,,\na rocket,,\n"
    with interruptible():
        status, _, err = command(lines, "--out", "study", "--ray", "local")
    assert (status, err) == (130, "i4vgen: stopped\n") and over == ["done", "done"]
    study = tmp_path / "study"
    assert [row["status"] for row in table(study)] == ["done", "failed", "done", "waiting"]
    assert len([path for path in study.iterdir() if path.is_dir()]) == 2, "finished runs, and nothing else"
