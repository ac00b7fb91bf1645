"""Extensions from outside, by one entry each: a backbone, a reward model, a comparison."""

from __future__ import annotations

import json

import gradio as gr
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from i4vgen.backbones.base import Backbone
from i4vgen.backbones.prediction import EpsilonPrediction
from i4vgen.backbones.samplers import DiffusersSampler, noise_levels
from i4vgen.cli.main import main
from i4vgen.config import Defaults
from i4vgen.media import read_video
from i4vgen.method.comparisons import COMPARISONS, Comparison, vanilla
from i4vgen.models.catalog import MODELS, REWARDS, ModelEntry, RewardEntry
from i4vgen.serving.runtime import Runtime
from i4vgen.storage.runs import open_run
from i4vgen.studio.api.endpoints import Endpoints
from i4vgen.studio.api.signatures import endpoint
from i4vgen.studio.app import build_app
from tests.support.gradio_protocol import open_client

SCHEDULE = DDIMScheduler()
LEVELS = noise_levels(SCHEDULE)
PIXELS = 8  # per latent


class LinearBackbone(Backbone):
    """Takes a share of what it sees for noise. Its latents are colours, eight times smaller than the image."""

    defaults = Defaults(num_frames=4, height=32, width=24, num_inference_steps=3, samplers=("ddim",))
    max_noise_level = LEVELS[-1]
    device = torch.device("cpu")
    dtype = torch.float32

    @classmethod
    def from_pretrained(cls, *, device, dtype):
        return cls()

    @classmethod
    def read_defaults(cls):
        return cls.defaults

    def latent_shape(self, height, width):
        return 3, height // PIXELS, width // PIXELS

    def encode_prompt(self, prompt, negative_prompt):
        return len(prompt) / 100

    def sampler(self, name, num_inference_steps, last=None, starts_from_video=False):
        return DiffusersSampler(name, SCHEDULE.config, num_inference_steps, last)

    def predict(self, latents, level, prompt_embeds, guidance_scale):
        return EpsilonPrediction(level, latents, level.sigma * latents + prompt_embeds)

    def encode(self, image):
        small = torch.from_numpy(image[::PIXELS, ::PIXELS]).permute(2, 0, 1)[None, :, None]
        return small / 127.5 - 1

    def decode(self, latents):
        pixels = ((latents.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)
        return pixels.permute(0, 2, 3, 4, 1).numpy().repeat(PIXELS, axis=2).repeat(PIXELS, axis=3)


class Redness:
    """A reward: how red an image is."""

    name = "Redness"

    @classmethod
    def from_pretrained(cls, device):
        return cls()

    def score(self, prompt, images):
        return [float(np.asarray(image)[..., 0].mean()) for image in images]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(MODELS, "linear", ModelEntry("Linear model", LinearBackbone, {}, ("redness",)))
    monkeypatch.setitem(REWARDS, "redness", RewardEntry("How red it is", Redness.from_pretrained))
    steps = COMPARISONS["vanilla"].steps
    again = Comparison("again", "Once more", "the vanilla video again", steps, vanilla)
    monkeypatch.setitem(COMPARISONS, "again", again)


def test_the_command_line_runs_them(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["a red car", "--model", "linear", "--candidates", "2", "--compare", "again,vanilla"]
    assert main([*arguments, "--device", "cpu", "--out", str(out)]) == 0, capsys.readouterr().err
    run = json.loads((out / "run.json").read_text())
    assert (run["model"], run["memory"], run["compare"]) == ("linear", "full", ["again", "vanilla"])
    assert list(run["scores"]) == ["Redness"]
    assert not any("steadiness" in measures for measures in run["measures"].values()), "it offers no features"
    assert set(run["seconds"]) == {"candidates", "ni_vsds", "regeneration", "vanilla", "again"}
    again, plain, ours = (read_video(out / f"{name}.mp4")[0] for name in ("again", "vanilla", "i4vgen"))
    assert np.array_equal(again, plain) and not np.array_equal(again, ours)
    assert set(open_run(out).videos()) == {"ni_vsds", "i4vgen", "vanilla", "again"}
    assert main(["--from", str(out / "run.json"), "--device", "cpu", "--out", str(tmp_path / "two")]) == 0
    assert (tmp_path / "two" / "i4vgen.mp4").read_bytes() == (out / "i4vgen.mp4").read_bytes()


def test_the_command_lines_help_names_them(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "vanilla, freeinit, again" in words and "linear, a folder" in words and "redness or none" in words


def test_the_app_offers_and_runs_them():
    demo = build_app(Runtime("linear", "cpu"))
    page = [component["props"] for component in demo.get_config_file()["components"]]
    choices = [choice for props in page for choice in props.get("choices") or ()]
    offered = {("Linear model", "linear"), ("How red it is", "redness"), ("Once more", "again")}
    assert offered <= {tuple(choice) for choice in choices}
    assert any("Once more: the vanilla video again." in (props.get("info") or "") for props in page)
    _, described, _ = gr.utils.get_function_description(endpoint(Endpoints.generate))
    named = {"model": "linear", "rewards": "redness", "compare": "again"}
    assert all(name in described[parameter] for parameter, name in named.items())
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        client = open_client(url)
        form = {"prompt": "a red car", "num_candidates": 2, "rewards": ["redness"], "compare": ["again"]}
        made = client.predict(**form, api_name="/generate")
        assert [list(card["scores"]) for card in made["candidates"]] == [["Redness"]] * 2
        assert set(made["videos"]) == {"ni_vsds", "i4vgen", "again"}
    finally:
        demo.close()
