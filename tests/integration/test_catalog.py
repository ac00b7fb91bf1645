"""Every model of the catalogue, small, under its real names in an offline hub cache, as people use it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from i4vgen.backbones import wan
from i4vgen.backbones.lavie import backbone as lavie
from i4vgen.cli.main import main
from i4vgen.config import GenerationConfig
from i4vgen.errors import I4VGenError, InvalidInputError
from i4vgen.models import catalog
from i4vgen.models.catalog import MODELS, ModelEntry, ModelSpec
from i4vgen.pipeline import I4VGenPipeline
from i4vgen.serving.runtime import Runtime
from i4vgen.studio.app import build_app
from tests.support.gradio_protocol import open_client
from tests.support.layouts_animatediff import (
    as_hub_cache,
    write_motion_adapter,
    write_motion_lora,
    write_sparse_controlnet,
    write_stable_diffusion,
)
from tests.support.layouts_lavie import write_lavie
from tests.support.layouts_rewards import (
    write_bert_tokenizer,
    write_clip,
    write_hpsv2,
    write_hub_cache,
    write_image_reward,
    write_open_clip,
    write_pick_score,
)
from tests.support.layouts_wan import write_wan, write_wan_5b, write_wan_lora

QUICK = ("animatediff", "lavie", "wan")
"""One model of each kind of backbone. The others differ by their weights."""
REAL = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS if name != "pocket"
]
ZOOM_IN = "guoyww/animatediff-motion-lora-zoom-in"
WAN_STYLE = "someone/wan-ink"
WRITERS = {
    catalog.SD_1_5: write_stable_diffusion,
    catalog.ADAPTER_2: write_motion_adapter,
    catalog.ADAPTER_3: lambda folder: write_motion_adapter(folder, middle=False),
    catalog.SPARSECTRL: write_sparse_controlnet,
    catalog.LAVIE: write_lavie,
    catalog.IMAGE_REWARD: write_image_reward,
    catalog.BERT: write_bert_tokenizer,
    catalog.PICK_SCORE: write_pick_score,
    catalog.OPEN_CLIP: write_open_clip,
    catalog.HPSV2: write_hpsv2,
    catalog.CLIP: write_clip,
    catalog.WAN_1_3B: write_wan,
    catalog.WAN_5B: write_wan_5b,
}


@pytest.fixture(scope="session")
def downloads(tmp_path_factory, tiny_model_dir) -> Path:
    """A hub cache with everything that the catalogue names."""
    cache = tmp_path_factory.mktemp("hub")
    for part, write in WRITERS.items():
        write_hub_cache(cache, part.repo_or_path, write)
    as_hub_cache(cache, catalog.SD_1_4.repo_or_path, tiny_model_dir)  # of which only the encoders are used
    write_hub_cache(cache, ZOOM_IN, write_motion_lora)
    write_hub_cache(
        cache, WAN_STYLE, lambda folder: write_wan_lora(folder / "pytorch_lora_weights.safetensors")
    )
    (config,) = cache.glob("models--stable-diffusion-v1-5*/snapshots/*/unet/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 8}))  # small videos
    return cache


@pytest.fixture
def warm(downloads, offline, monkeypatch) -> None:
    """Offline, with that cache."""
    shutil.copytree(downloads, offline)
    monkeypatch.setattr(lavie, "DEFAULTS", replace(lavie.DEFAULTS, height=32, width=48, num_frames=4))
    monkeypatch.setattr(wan, "DEFAULTS", replace(wan.DEFAULTS, height=32, width=64))
    monkeypatch.setattr(wan, "LARGER", {})


def test_the_cache_of_these_tests_has_all_that_the_catalogue_names(downloads):
    parts = [part for entry in [*MODELS.values(), *catalog.REWARDS.values()] for part in entry.parts.values()]
    missing = {part.repo_or_path for part in parts} - {part.repo_or_path for part in WRITERS}
    assert missing == {catalog.POCKET.repo_or_path, catalog.SD_1_4.repo_or_path}


@pytest.mark.parametrize("model", REAL)
def test_the_command_line_makes_a_video(model, warm, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--model", model, "--steps", "2", "--candidates", "2", "--frames", "5", "--out", str(out)]
    options += ["--compare", "vanilla,freeinit", "--reward", "image_reward,pick_score,hpsv2,clip"]
    lora = WAN_STYLE if model.startswith("wan") else ZOOM_IN
    options += ["--lora", f"{lora}@0.8"] if "loras" in MODELS[model].takes else []
    status = main(["a corgi", *options])
    assert status == 0, capsys.readouterr().err
    run = json.loads((out / "run.json").read_text())
    assert run["model"] == model
    assert list(run["scores"]) == ["ImageReward", "PickScore", "HPSv2.1", "CLIP score"]
    assert run["scores"]["ImageReward"] == run["candidate_scores"]
    assert {file.stem for file in out.glob("*.mp4")} == {"ni_vsds", "i4vgen", "vanilla", "freeinit"}

    again = tmp_path / "again"
    assert main(["--from", str(out / "run.json"), "--out", str(again)]) == 0
    assert (again / "i4vgen.mp4").read_bytes() == (out / "i4vgen.mp4").read_bytes()


@pytest.mark.slow
def test_the_app_makes_a_video_with_every_model(warm, pocket_dir):
    demo = build_app(Runtime("pocket", "cpu"))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        for model in MODELS:
            client = open_client(url)
            form = {"prompt": "a car", "num_candidates": 2, "num_inference_steps": 2, "num_frames": 5}
            form |= {"model": model, "rewards": [*MODELS[model].rewards, "hpsv2"]}
            form |= {"compare": ["vanilla", "freeinit"]}
            made = client.predict(**form, api_name="/generate")
            assert len(made["candidates"]) == 2, model
            assert all("HPSv2.1" in candidate["scores"] for candidate in made["candidates"]), model
            assert set(made["videos"]) == {"ni_vsds", "i4vgen", "vanilla", "freeinit"}, model
    finally:
        demo.close()


def test_a_model_that_is_not_to_be_had_is_refused_and_the_app_goes_on(offline, pocket_dir):
    demo = build_app(Runtime("pocket", "cpu"))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        client = open_client(url)
        with pytest.raises(
            Exception,
            match="HF_HUB_OFFLINE is set: unset it and connect to the internet",
        ):
            client.predict(prompt="a car", model="animatediff", api_name="/candidates")
        form = {"prompt": "a car", "num_candidates": 1, "num_inference_steps": 2}
        assert len(client.predict(**form, api_name="/candidates")["candidates"]) == 1
    finally:
        demo.close()


def test_an_incomplete_download_is_named(warm, offline, capsys):
    (weights,) = offline.glob("models--Vchitect--LaVie/snapshots/*/lavie_base.pt")
    weights.write_bytes(weights.read_bytes()[:100])
    assert main(["a corgi", "--model", "lavie", "--out", str(offline / "out")]) == 2
    error = capsys.readouterr().err
    assert "lavie_base.pt" in error and "download it" in error and error.count("\n") == 1


@pytest.mark.parametrize(("model", "option"), [("lavie", {"loras": ("a/b",)}), ("pocket", {"base": "a/b"})])
def test_what_a_model_does_not_take_is_refused(model, option):
    with pytest.raises(
        InvalidInputError, match=rf"{model} does not take --(lora|base): use it with animatediff"
    ):
        catalog.find(ModelSpec(model, **option))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"device": "cpu", "variant": "fp16"}, "LaVie has no variants of its weights: leave variant out"),
        ({"device": "cuda:99"}, "cuda:99"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_downloaded(monkeypatch, given, words):
    monkeypatch.setattr("i4vgen.models.loading.download_model", Mock(side_effect=AssertionError("downloads")))
    with pytest.raises(InvalidInputError, match=words):
        I4VGenPipeline.from_pretrained("lavie", **given)


def test_another_base_and_other_rewards_take_the_place_of_the_models_own():
    entry = catalog.find(ModelSpec("animatediff", "someone/toonyou", ("a.safetensors@0.5",), ("clip",)))
    assert entry.sources["model"] == "someone/toonyou" and entry.loras == ("a.safetensors@0.5",)
    assert entry.rewards == ("clip",)
    assert catalog.find(ModelSpec("animatediff", rewards=())).rewards == ()
    with pytest.raises(InvalidInputError, match="there is no reward 'mine'"):
        catalog.find(ModelSpec("animatediff", rewards=("mine",)))


def test_a_choice_is_bounded_however_it_came():
    assert catalog.find(ModelSpec("pocket", rewards=("own",) * 10_000)).rewards == ("own",)
    with pytest.raises(InvalidInputError, match="17 LoRAs are too many"):
        catalog.find(ModelSpec("animatediff", loras=tuple(f"a/b{n}" for n in range(17))))
    for length in (300, 2000):  # longer than a file's name may be, and than a path
        for spec in (ModelSpec("m" * length), ModelSpec("animatediff", base="b" * length)):
            with pytest.raises(I4VGenError, match="too long"):
                catalog.find(spec)


def test_a_choice_survives_run_json():
    spec = ModelSpec("animatediff", "someone/toonyou", ("a@0.5", "b"), ("clip", "pick_score"))
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert ModelSpec.from_dict({"model": "pocket", "device": "cpu"}) == ModelSpec("pocket")


def test_the_default_is_pocket_without_a_gpu_and_can_be_overridden(monkeypatch):
    monkeypatch.delenv(catalog.ENVIRONMENT, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert catalog.default_model() == "pocket"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert catalog.default_model() == "animatediff"
    monkeypatch.setenv(catalog.ENVIRONMENT, "lavie")
    assert catalog.default_model() == "lavie"


@pytest.mark.parametrize("entry", MODELS.values(), ids=MODELS)
def test_every_entry_says_what_it_costs(entry: ModelEntry):
    assert entry.title and entry.licence
    assert entry.download > 0 or entry.sources["model"] == catalog.POCKET.repo_or_path
    pinned = [
        repo_or_path for repo_or_path in entry.sources.values() if repo_or_path != catalog.POCKET.repo_or_path
    ]
    assert all(len(repo_or_path.partition("@")[2]) == 40 for repo_or_path in pinned), (
        "a name and the commit it was read at"
    )


def test_sparsectrl_animates_a_picture_of_ones_own(warm, tmp_path):
    Image.new("RGB", (50, 40), "orange").save(tmp_path / "mine.png")
    out = tmp_path / "out"
    options = [
        "--model",
        "sparsectrl",
        "--anchor-image",
        str(tmp_path / "mine.png"),
        "--steps",
        "2",
        "--frames",
        "4",
    ]
    assert main(["a corgi", *options, "--reward", "none", "--compare", "vanilla", "--out", str(out)]) == 0
    run = json.loads((out / "run.json").read_text())
    assert (
        run["anchor_reason"] == "uploaded image" and GenerationConfig.from_dict(run["request"]).num_frames == 4
    )
