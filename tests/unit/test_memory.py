"""Running out of memory, as far as that can be had without a GPU: the network raises torch's own error."""

from __future__ import annotations

import pytest
import torch

from i4vgen.__main__ import main
from i4vgen.backbones.animatediff import AnimateDiffBackbone
from i4vgen.backbones.memory import GB, Memory, choose_memory, suggest_memory
from i4vgen.errors import OutOfMemoryError
from i4vgen.events import Result
from i4vgen.runtime import Runtime
from tests.support.predicting import predict_noise


@pytest.fixture
def backbone(tiny_model_dir) -> AnimateDiffBackbone:
    return AnimateDiffBackbone.from_pretrained(str(tiny_model_dir))


def fails_above(network: torch.nn.Module, batch: int) -> list[int]:
    """Lets a network run out of memory for larger batches; the sizes of all that it was given."""
    seen = []

    def check(module, args, kwargs) -> None:
        seen.append(len(args[0]))
        if len(args[0]) > batch:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network.register_forward_pre_hook(check, with_kwargs=True)
    return seen


def predict(backbone: AnimateDiffBackbone) -> torch.Tensor:
    latents = torch.randn(3, 4, 2, 8, 6, generator=torch.Generator().manual_seed(0))
    return predict_noise(backbone, latents, 500, backbone.encode_prompt("a red rocket", ""), 3.0)


def test_a_batch_that_does_not_fit_is_computed_entry_by_entry(backbone):
    expected = predict(backbone)
    seen = fails_above(backbone.unet, 1)
    torch.testing.assert_close(predict(backbone), expected, atol=1e-5, rtol=1e-4)
    assert backbone.memory is Memory.SLICED
    assert seen == [6] + [1] * 6, "the whole batch once, then the halves of the guidance one by one"


def test_every_mode_computes_the_same(backbone):
    expected, frames = predict(backbone), backbone.decode(torch.ones(1, 4, 2, 8, 6))
    for mode in (Memory.SLICED, Memory.OFFLOADED, Memory.FULL):
        backbone.set_memory(mode)
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
