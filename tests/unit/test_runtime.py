"""The shared runtime: loading, stopping, one run at a time, words."""

import shutil
import threading

import pytest
import torch

from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.events import Progress, Result, Stage
from i4vgen.models.catalog import ENVIRONMENT, ModelSpec
from i4vgen.models.loading import unused_gpu
from i4vgen.serving import runtime as runtime_module
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.runtime import Runtime, Runtimes, StopToken
from tests.support.waiting import PATIENCE


def test_a_stopped_run_ends_between_two_steps_and_frees_the_device(runtime, make_config):
    stop, seen = StopToken(), []
    for event in runtime.stream(lambda p: p.comparison("vanilla", make_config()), stop):
        seen.append(event)
        if isinstance(event, Progress) and event.step == 2:
            stop.stop()
    assert [type(e) for e in seen] == [Stage, Progress, Progress]
    assert stop.stopped
    events = list(runtime.stream(lambda p: p.comparison("vanilla", make_config())))
    assert isinstance(events[-1], Result)


def test_a_listener_that_goes_away_frees_the_device(runtime, make_config):
    closed = []

    def events(pipeline):
        try:
            yield from pipeline.comparison("vanilla", make_config())
        finally:
            closed.append(True)

    stream = runtime.stream(events)
    next(stream)
    stream.close()
    assert closed == [True]
    assert list(runtime.stream(lambda p: iter(["free"]))) == ["free"]


def test_an_error_frees_the_device(runtime, make_config):
    with pytest.raises(InvalidInputError):
        list(runtime.stream(lambda p: p.run(make_config(), anchor=99)))
    assert list(runtime.stream(lambda p: iter(["free"]))) == ["free"]


def test_one_run_at_a_time_and_a_waiting_run_can_be_stopped(runtime):
    first = runtime.stream(lambda p: iter(["one", "two"]))
    assert next(first) == "one"
    stop, seen = StopToken(), []
    waiting = threading.Thread(target=lambda: seen.extend(runtime.stream(lambda p: iter(["late"]), stop)))
    waiting.start()
    waiting.join(timeout=0.3)
    assert waiting.is_alive() and seen == [], "a second run started while the device was busy"
    stop.stop()
    waiting.join(PATIENCE)
    assert not waiting.is_alive() and seen == []
    assert list(first) == ["two"]


def test_a_run_may_move_between_threads(runtime, make_config):
    """As it does in a web server, where each step may be taken by another worker."""
    stream, seen = runtime.stream(lambda p: p.comparison("vanilla", make_config())), []
    while True:
        thread = threading.Thread(target=lambda: seen.append(next(stream, None)))
        thread.start()
        thread.join()
        if seen[-1] is None:
            break
    assert isinstance(seen[-2], Result)
    assert list(runtime.stream(lambda p: iter(["free"]))) == ["free"]


def test_the_pipeline_is_loaded_once(runtime):
    pipelines = []
    for _ in range(2):
        list(runtime.stream(lambda p: iter(pipelines.append(p) or ())))
    assert pipelines[0] is pipelines[1]


def test_words(runtime):
    assert {"rocket", "sea"} <= runtime.vocabulary.words
    assert runtime.unknown_words("A RED Zeppelin, over the sea; zeppelin's night!") == ["zeppelin", "s"]


def test_the_words_that_the_model_does_not_read_are_those_that_change_nothing(runtime, pipeline):
    long = "a red car in the blue sea over the rocket falling a car"
    unread = runtime.unread(long)
    assert unread and long.endswith(f" {unread}")
    embeds = [pipeline.backbone.encode_prompt(prompt, "").prompt for prompt in (long, f"{long} at night")]
    assert torch.equal(*embeds), "what comes after the end of what is read"
    read = long.removesuffix(unread)
    assert runtime.unread(read) == ""
    longest = pipeline.backbone.encode_prompt(read, "").prompt
    assert torch.equal(longest, embeds[0]), "all that was read is left"
    shorter = pipeline.backbone.encode_prompt(read.rsplit(maxsplit=1)[0], "").prompt
    assert not torch.equal(shorter, longest)


def test_a_word_that_is_read_in_part_counts_as_not_read(runtime):
    assert runtime.unread("zyzzyvazyzzyva red") == "zyzzyvazyzzyva red"
    assert runtime.unread("") == runtime.unread("a red rocket") == ""


def test_model_that_reads_any_text(tiny_model_dir, tmp_path):
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    (model / "i4vgen.json").write_text("{}")
    assert Runtime(str(model), "cpu").vocabulary is None
    assert Runtime(str(model), "cpu").unknown_words("zeppelin") == []


def test_describe(runtime):
    description = runtime.describe()
    assert description["device"] == "cpu" and description["dtype"] == "float32"
    assert set(description["versions"]) == {"i4vgen", "torch", "diffusers", "transformers", "python"}


def test_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(runtime_module.torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "toaster"):
        with pytest.raises(InvalidInputError, match="use cpu"):
            Runtime("pocket", device)


@pytest.fixture
def two_gpus(monkeypatch):
    """What PyTorch says where there are two."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def test_one_of_several_gpus(two_gpus):
    assert Runtime("pocket", "cuda:1").device == "cuda:1" and Runtime("pocket").device == "cuda"
    for device in ("cuda:2", "cuda:-1", "cuda:", "cuda:x", "cuda:01", "cuda:1 ", "cpu:0", "mps"):
        with pytest.raises(InvalidInputError, match="not available here: use cuda:0, cuda:1, cpu"):
            Runtime("pocket", device)


def test_all_models_of_an_app_run_on_its_device(two_gpus):
    models = OfferedModels(Runtime("pocket", "cuda:1"))
    assert models.runtime_for(ModelSpec("lavie")).device == "cuda:1"
    assert models.runtime_for(models.default_spec("pocket")) is models.own


def test_the_default_model_is_that_of_the_device(two_gpus, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    models = [Runtime(device=device).spec.model for device in (None, "cuda:1", "cpu")]
    assert models == ["animatediff", "animatediff", "pocket"]


def test_a_pytorch_without_cuda_says_so_where_there_is_a_card(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unused_gpu() is None
    (tmp_path / "nvidia-smi").write_text("")
    (tmp_path / "nvidia-smi").chmod(0o700)
    assert "built without CUDA" in unused_gpu() and len(unused_gpu()) <= 200
    with pytest.raises(InvalidInputError, match=r"built without CUDA: .* use cpu") as refused:
        Runtime("pocket", "cuda:0")
    assert len(str(refused.value)) <= 200


def test_the_runtime_of_a_choice_is_shared(tiny_model_dir):
    runtimes = Runtimes()
    assert runtimes.get(str(tiny_model_dir)) is runtimes.get(str(tiny_model_dir))


def test_not_every_choice_that_was_ever_made_is_remembered():
    made = []
    runtimes = Runtimes(lambda spec: made.append(spec) or Runtime(spec))
    first, *_ = specs = [ModelSpec("animatediff", loras=(f"a/b@0.{n}",)) for n in range(40)]
    kept = runtimes.get(first)
    for spec in specs:
        runtimes.get(spec)
        assert runtimes.get(first) is kept, "it is in use"
    made.clear()
    most = runtime_module.MAX_RUNTIMES
    for spec in (first, *specs[1 - most :]):
        runtimes.get(spec)
    assert not made, "the latest are kept"
    runtimes.get(specs[-most])
    assert len(made) == 1, "and no others"


def test_a_missing_model_shows_when_it_is_used():
    with pytest.raises(ModelError, match="no-such-model"):
        _ = Runtime("./no-such-model", "cpu").defaults
