"""The shared runtime: loading, stopping, one run at a time, words."""

import shutil
import threading

import pytest
import torch

from i4vgen import runtime as runtime_module
from i4vgen.catalog import ModelSpec
from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.events import Progress, Result, Stage
from i4vgen.runtime import Runtime, StopToken, get_runtime


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
    waiting.join(timeout=5)
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


def test_get_runtime_is_shared(tiny_model_dir):
    assert get_runtime(str(tiny_model_dir)) is get_runtime(str(tiny_model_dir))


def test_not_every_choice_that_was_ever_made_is_remembered(monkeypatch):
    monkeypatch.setattr(runtime_module, "_runtimes", {})
    first, *_ = specs = [ModelSpec("animatediff", loras=(f"a/b@0.{n}",)) for n in range(40)]
    kept = get_runtime(first)
    for spec in specs:
        get_runtime(spec)
        assert get_runtime(first) is kept, "it is in use"
    assert len(runtime_module._runtimes) == runtime_module.MAX_RUNTIMES


def test_a_missing_model_shows_when_it_is_used():
    with pytest.raises(ModelError, match="no-such-model"):
        _ = Runtime("./no-such-model", "cpu").defaults
