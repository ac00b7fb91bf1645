"""A tiny random model in the diffusers layout, and what the tests need to run it."""

from __future__ import annotations

import gc
import json
import os
import string
from collections.abc import Iterator
from pathlib import Path

# Of the processes that tests start, several at once: threads that wait for each other's cores wait in a loop.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
# Gradio takes the first free port from here on. Two apps that start at once would try the same one, and an app
# that has to try again cannot start its MCP server; so each worker has a range of its own, apart from the usual
# one. What is set already was inherited from the process that started the worker.
os.environ["GRADIO_SERVER_PORT"] = str(
    7960 + 100 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
)

from i4vgen.serving.imports import gc_paused

with gc_paused():
    import huggingface_hub
    import numpy as np
    import pytest
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, MotionAdapter, UNet2DConditionModel
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from i4vgen.config import GenerationConfig
    from i4vgen.serving.runtime import Runtime

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "tests" / "data" / "animatediff_i4vgen_reference.safetensors"
WORDS = ["a", "the", "red", "blue", "rocket", "car", "rising", "falling", "in", "over", "night", "sea"]
torch.set_num_threads(1)  # for networks as small as these, more threads only wait for each other

MAX_TOKENS = 12
MAX_FRAMES = 8


def write_tiny_model(folder: Path) -> None:
    """The smallest model with every part: two levels, a VAE that divides by 4, 32 x 24 pixels, 4 frames."""
    torch.manual_seed(0)
    letters = " ".join(string.ascii_lowercase)
    tokenizer = CLIPTokenizer().train_new_from_iterator([[" ".join(WORDS), letters]], 1000, show_progress=False)
    tokenizer.model_max_length = MAX_TOKENS
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    parts = {
        "vae": AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 3,
            up_block_types=["UpDecoderBlock2D"] * 3,
            block_out_channels=[8, 8, 8],
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            scaling_factor=0.5,
            shift_factor=0.1,
        ),
        "unet": UNet2DConditionModel(
            in_channels=4,
            out_channels=4,
            block_out_channels=(16, 32),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            norm_num_groups=8,
            cross_attention_dim=16,
            attention_head_dim=2,
        ),
        "motion_adapter": MotionAdapter(
            block_out_channels=(16, 32),
            motion_layers_per_block=1,
            motion_num_attention_heads=2,
            motion_norm_num_groups=4,
            motion_max_seq_length=MAX_FRAMES,
        ),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**text)),
        "reward": CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)),
    }
    for name, network in parts.items():
        network.half().save_pretrained(folder / name, safe_serialization=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    tokenizer.save_pretrained(folder / "reward")
    (folder / "reward" / "calibration.json").write_text('{"mean": 0.5, "std": 2.0}')
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
    DDIMScheduler(**schedule, steps_offset=1, clip_sample=False).save_pretrained(folder / "scheduler")
    defaults = {
        "num_frames": 4,
        "height": 32,
        "width": 24,
        "num_inference_steps": 5,
        "guidance_scale": 3.0,
        "words": WORDS,
    }
    (folder / "i4vgen.json").write_text(json.dumps(defaults))


def pytest_collection() -> None:
    """Collects no garbage while the test modules import what they need."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leaves a million objects of the imported libraries out of every later garbage collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory) -> Iterator[None]:
    """Gives this process, and those that it starts, a temporary folder apart from that of the other worker."""
    folder = str(tmp_path_factory.getbasetemp())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr("tempfile.tempdir", folder)
        yield


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory) -> Path:
    """A folder with a tiny model. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("tiny-model")
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def runtime(tiny_model_dir) -> Runtime:
    """In float32, whatever the machine would be faster in: tests compare what it draws to the last digits."""
    return Runtime(str(tiny_model_dir), "cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def pipeline(runtime):
    """The tiny model's pipeline, as the runtime loads it."""
    loaded = []
    list(runtime.stream(lambda p: iter(loaded.append(p) or ())))
    return loaded[0]


@pytest.fixture
def make_config(runtime):
    """make_config(**given): a small run that the tiny model can do."""

    def make(**given) -> GenerationConfig:
        values = {"prompt": "a red rocket rising", "num_candidates": 3} | given
        return GenerationConfig.for_model(runtime.defaults, **values)

    return make


@pytest.fixture(scope="session")
def pocket_dir() -> Path:
    """The embedded model. Without it the repository is not whole: these tests fail, they are not skipped."""
    folder = ROOT / "assets" / "pocket"
    assert (folder / "model_index.json").is_file(), (
        "assets/pocket is missing: the embedded model is not in place"
    )
    return folder


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """No hub, and an empty cache: its folder."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def picture() -> np.ndarray:
    """A picture with nothing symmetrical about it, uint8 [20, 30, 3]."""
    y, x = np.mgrid[0:20, 0:30]
    return np.stack([x * 8, y * 12, (x + y) * 5], axis=-1).astype(np.uint8)
