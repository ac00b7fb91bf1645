"""Running out of memory, as far as that can be had without a GPU: the network raises each device's errors."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from i4vgen.backbones.animatediff import AnimateDiffBackbone
from i4vgen.backbones.memory import GB, Memory, choose_memory, suggest_memory
from i4vgen.cli.main import main
from i4vgen.errors import OutOfMemoryError
from i4vgen.events import Result
from i4vgen.serving.runtime import Runtime
from tests.support.predicting import predict_noise


@pytest.fixture
def backbone(tiny_model_dir) -> AnimateDiffBackbone:
    return AnimateDiffBackbone.from_pretrained(str(tiny_model_dir))


ERRORS = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CUDA outside of the allocator": torch.AcceleratorError("CUDA error: out of memory"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 8 GB, max allowed: 9 GB)."),
    "MPS, one tensor": RuntimeError("Invalid buffer size: 12.00 GiB"),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    "CPU on Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    "NumPy": MemoryError("Unable to allocate 7.11 PiB"),
}


def fails_above(network: torch.nn.Module, batch: int, error: Exception = ERRORS["CUDA"]) -> list[int]:
    """Lets a network run out of memory for larger batches; the sizes of all that it was given."""
    seen = []

    def check(module, args, kwargs) -> None:
        seen.append(len(args[0]))
        if len(args[0]) > batch:
            raise error

    network.register_forward_pre_hook(check, with_kwargs=True)
    return seen


def predict(backbone: AnimateDiffBackbone) -> torch.Tensor:
    latents = torch.randn(3, 4, 2, 8, 6, generator=torch.Generator().manual_seed(0))
    return predict_noise(backbone, latents, 500, backbone.encode_prompt("a red rocket", ""), 3.0)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_batch_that_does_not_fit_is_computed_entry_by_entry(backbone, error):
    expected = predict(backbone)
    seen = fails_above(backbone.unet, 1, error)
    torch.testing.assert_close(predict(backbone), expected, atol=1e-5, rtol=1e-4)
    assert backbone.memory is Memory.SLICED
    assert seen == [6] + [1] * 6, "the whole batch once, then the halves of the guidance one by one"


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_other_errors_of_a_device_stay_what_they_are(backbone, error):
    seen = fails_above(backbone.unet, 0, error)
    with pytest.raises(type(error)) as raised:
        predict(backbone)
    assert raised.value is error and seen == [6] and backbone.memory is Memory.FULL


def test_every_mode_computes_the_same(backbone):
    expected, frames = predict(backbone), backbone.decode(torch.ones(1, 4, 2, 8, 6))
    for mode in (Memory.SLICED, Memory.OFFLOADED, Memory.FULL):
        backbone.set_memory(mode)
        assert backbone.vae.use_tiling is backbone.vae.use_slicing is (mode is not Memory.FULL)
        torch.testing.assert_close(predict(backbone), expected, atol=1e-5, rtol=1e-4)
        assert abs(backbone.decode(torch.ones(1, 4, 2, 8, 6)).astype(int) - frames).max() <= 1


def test_when_no_mode_is_lean_enough_the_error_says_what_to_do(backbone):
    fails_above(backbone.unet, 0)
    with pytest.raises(OutOfMemoryError, match="fewer frames or a smaller picture"):
        predict(backbone)
    assert backbone.memory is Memory.OFFLOADED


def test_a_run_goes_on_in_a_leaner_mode_and_says_so(tiny_model_dir, make_config):
    runtime, pipelines = Runtime(str(tiny_model_dir), "cpu"), []
    list(runtime.stream(lambda pipeline: iter(pipelines.append(pipeline) or ())))
    fails_above(pipelines[0].backbone.unet, 1)  # not both halves of the guidance at once
    events = list(runtime.stream(lambda pipeline: pipeline.comparison("vanilla", make_config())))
    assert isinstance(events[-1], Result) and runtime.describe()["memory"] == "sliced"


def test_the_next_run_begins_in_the_former_mode(tiny_model_dir, make_config):
    runtime, pipelines = Runtime(str(tiny_model_dir), "cpu"), []
    list(runtime.stream(lambda pipeline: iter(pipelines.append(pipeline) or ())))
    backbone, modes = pipelines[0].backbone, []
    backbone.unet.register_forward_pre_hook(lambda *_: modes.append(backbone.memory))
    backbone.set_memory(Memory.SLICED)
    for too_much in (True, False):
        hook = backbone.unet.register_forward_pre_hook(fail_once(ERRORS["CUDA"])) if too_much else None
        list(runtime.stream(lambda pipeline: pipeline.comparison("vanilla", make_config())))
        if hook:
            assert modes[0] is Memory.SLICED and set(modes[1:]) == {Memory.OFFLOADED}, "for the whole run"
            hook.remove()
            modes.clear()
    assert set(modes) == {Memory.SLICED} and runtime.describe()["memory"] == "sliced"


def fail_once(error: Exception):
    """A hook for a network that raises at its first call."""
    errors = [error]

    def check(*_) -> None:
        if errors:
            raise errors.pop()

    return check


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_elsewhere_than_in_the_backbone_it_is_said_in_words(tiny_model_dir, make_config, monkeypatch, error):
    """Reward models have no leaner mode."""
    runtime = Runtime(str(tiny_model_dir), "cpu")
    monkeypatch.setattr("i4vgen.pipeline.score_images", Mock(side_effect=error))
    with pytest.raises(OutOfMemoryError, match="this computer has too little free memory: ask for fewer"):
        list(runtime.stream(lambda pipeline: pipeline.run(make_config())))


def test_the_memory_of_mps_is_given_back(backbone, monkeypatch):
    emptied = Mock()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "empty_cache", emptied)
    fails_above(backbone.unet, 1, ERRORS["MPS"])
    predict(backbone)
    assert emptied.called


def test_after_a_failure_the_device_is_free_again(tiny_model_dir, make_config):
    runtime, pipelines = Runtime(str(tiny_model_dir), "cpu"), []
    list(runtime.stream(lambda pipeline: iter(pipelines.append(pipeline) or ())))
    fails_above(pipelines[0].backbone.unet, 0)
    with pytest.raises(OutOfMemoryError):
        list(runtime.stream(lambda pipeline: pipeline.comparison("vanilla", make_config())))
    assert list(runtime.stream(lambda pipeline: iter(["free"]))) == ["free"]


def test_the_command_line_says_it_in_one_line(tiny_model_dir, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AnimateDiffBackbone, "call_unet", fail)
    assert main(["a red rocket", "--model", str(tiny_model_dir), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "too little free memory" in error and error.count("\n") == 1


def test_the_mode_follows_what_is_free():
    assert suggest_memory(24 * GB, 3 * GB) is Memory.FULL
    assert suggest_memory(6 * GB, 3 * GB) is Memory.SLICED
    assert suggest_memory(4 * GB, 3 * GB) is Memory.OFFLOADED
    assert choose_memory(torch.device("cpu"), []) is Memory.FULL
