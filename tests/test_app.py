"""The app without a browser: what it remembers, what it says, and that it holds together."""

from __future__ import annotations

import base64
import io
import json
import pickle
import re
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from i4vgen.catalog import Choice
from i4vgen.errors import RequestError
from i4vgen.events import Candidate
from i4vgen.pipeline import Anchor
from i4vgen.runtime import StopToken
from i4vgen.ui import build_app, choose, imagine, pictures, texts, watch
from i4vgen.ui.progress import Tracker
from i4vgen.ui.session import (
    Baselines,
    Clip,
    Pick,
    Round,
    anchor_position,
    baseline_key,
    best_position,
    caption,
    describe_anchor,
    say_score,
)
from i4vgen.ui.stops import Stops

ROOT = Path(__file__).resolve().parents[1]
FORM = {
    "prompt": "a red rocket",
    "seed": 7,
    "num_candidates": 3,
    "negative_prompt": "",
    "num_inference_steps": 2,
    "guidance_scale": 3.0,
    "num_frames": 4,
    "p_ni_vsds": 0.6,
    "p_re": 1.0,
    "preset": "faithful",
    "sampler": "own",
    "compare": ["vanilla"],
    "model": "pocket",
    "base": "",
    "loras": "",
    "rewards": ["own"],
}


def request_of(runtime, **given):
    return imagine.Form(**FORM | given).request(runtime.defaults)


def candidates(*scores: float | None) -> tuple[Candidate, ...]:
    image, latents = np.zeros((8, 8, 3), np.uint8), np.zeros((4, 1, 2, 2), np.float32)
    named = [{} if score is None else {"reward": score} for score in scores]
    return tuple(Candidate(i, image, score, latents) for i, score in enumerate(named))


@pytest.fixture
def panels(runtime):
    with gr.Blocks(analytics_enabled=False):
        yield choose.build(runtime.defaults), watch.build(runtime.defaults)


# What a tab remembers


def test_the_highest_score_is_the_anchor_until_somebody_picks():
    cards = candidates(0.1, 1.5, -2.0)
    assert best_position(cards) == anchor_position(cards, Pick()) == 1
    assert anchor_position(cards, Pick(position=2)) == 2
    assert anchor_position(cards, Pick(picture=np.zeros((8, 8, 3), np.uint8))) is None
    assert best_position(candidates(None, None)) == 0
    assert best_position(()) is anchor_position((), Pick()) is None


def test_captions_mark_the_best_and_the_anchor():
    cards = candidates(0.1, 1.5, -2.0)
    assert [caption(cards, i, Pick(position=2)) for i in range(3)] == ["+0.10", "♛ +1.50", "−2.00 ✓"]
    assert caption(cards, 1, Pick()) == "♛ +1.50 ✓"
    assert say_score(None) == ""


def test_captions_show_what_every_reward_says():
    image, latents = np.zeros((8, 8, 3), np.uint8), np.zeros((4, 1, 2, 2), np.float32)
    cards = (Candidate(0, image, {"ImageReward": 0.5, "PickScore": 21.3}, latents),)
    assert caption(cards, 0, Pick()) == "♛ +0.50 · PickScore +21.30 ✓"


def test_the_anchor_is_described_in_words():
    cards = candidates(0.1, 1.5)
    assert "Candidate 2" in describe_anchor(cards, Pick())
    assert "highest reward" in describe_anchor(cards, Pick())
    assert "your pick" in describe_anchor(cards, Pick(position=0))
    assert describe_anchor((), Pick()) == texts.NO_ANCHOR


def test_what_a_tab_remembers_pickles():
    remembered = (
        Round(files=("a.png",), candidates=candidates(0.5)),
        Pick(picture=np.zeros((2, 2, 3), np.uint8)),
    )
    for value in (*remembered, Baselines(("key",), {"vanilla": Clip("vanilla", "a.mp4", 8, 8, 1.0)})):
        assert type(pickle.loads(pickle.dumps(value))) is type(value)


def test_vanilla_is_reused_only_where_it_would_be_the_same(make_request):
    pocket = Choice("pocket")

    def key(choice=pocket, anchor=None, **given):
        return baseline_key(choice, make_request(**given), anchor)

    red, blue = (Anchor.from_image(Image.new("RGB", (9, 9), colour)) for colour in ("red", "blue"))
    assert key(seed=1) == key(seed=1, num_candidates=5, p_ni_vsds=0.2, preset="fast")
    assert key(seed=1) != key(seed=2)
    assert key(seed=1) != key(seed=1, num_inference_steps=9)
    assert key(seed=1) != key(Choice("pocket", loras=("a",)), seed=1)
    assert key(anchor=red) == key(anchor=red) != key(anchor=blue), "an image-to-video model shows the anchor"


# The form


def test_the_form_becomes_a_request(runtime):
    request = request_of(runtime)
    assert (request.prompt, request.seed, request.num_inference_steps) == ("a red rocket", 7, 2)
    assert request.height == runtime.defaults.height
    assert request.candidate_batch_size == 1, "the gallery fills in a few steps"


@pytest.mark.parametrize(
    "wrong", [{"prompt": "  "}, {"prompt": None}, {"seed": None}, {"seed": -1}, {"num_frames": 99}]
)
def test_a_wrong_form_is_refused_in_words(runtime, wrong):
    with pytest.raises(RequestError, match=r"\w+ \w+"):
        request_of(runtime, **wrong)


def test_unknown_words_are_named_and_cannot_inject_html(runtime):
    note = imagine.show_unknown_words(runtime, "a red zyzzyva <img src=x>")
    assert note["visible"] and "<b>zyzzyva</b>" in note["value"] and "<img" not in note["value"]
    assert not imagine.show_unknown_words(runtime, "a red rocket")["visible"]
    assert not imagine.show_unknown_words(runtime, None)["visible"]


def test_the_examples_are_ones_that_the_form_takes(runtime):
    entries = json.loads((ROOT / "examples.json").read_text(encoding="utf-8"))
    assert len(entries) >= 4
    for entry in entries:
        assert request_of(runtime, prompt=entry["prompt"], seed=entry["seed"])


# Progress


def test_the_tracker_tells_the_time_left_from_measured_steps():
    tracker = Tracker({"ni_vsds": 4, "vanilla": 10})
    assert tracker.words() == texts.STARTING and tracker.seconds_left() is None
    tracker.begin("ni_vsds", 4)
    assert texts.MEASURING in tracker.words()
    assert tracker.step("ni_vsds", 1, 3.0)
    assert not tracker.step("ni_vsds", 2, 3.0), "steps that come too fast are counted, but not shown one by one"
    assert tracker.seconds_left() == pytest.approx((2 + 10) * 3.0)
    assert "step 2 of 4, about 36 s left" in tracker.words()
    assert tracker.fraction == pytest.approx(2 / 14)
    tracker.begin("vanilla", 10)
    tracker.step("vanilla", 1, 1.0)
    assert [stage["now"] for stage in tracker.stages()] == [False, True]


def test_durations_are_said_as_people_say_them():
    assert texts.seconds_left(None) == texts.MEASURING
    assert texts.seconds_left(0.4) == texts.NEARLY
    assert texts.seconds_left(12.3) == "about 12 s left"
    assert texts.seconds_left(260) == "about 4 min left"


# Pictures


def test_the_film_strip_holds_every_frame():
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 24, 3), np.uint8)
    kind, data = pictures.film_strip(frames).split(",")
    assert kind == "data:image/webp;base64"
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert np.array_equal(strip, np.concatenate(frames, axis=1)), "small frames are sent without loss"
    large = Image.open(
        io.BytesIO(base64.b64decode(pictures.film_strip(np.zeros((2, 512, 1024, 3), np.uint8))[23:]))
    )
    assert large.size == (2 * pictures.PREVIEW_SIDE, pictures.PREVIEW_SIDE // 2)


def test_only_small_videos_are_enlarged():
    small = np.arange(2 * 64 * 64 * 3, dtype=np.uint8).reshape(2, 64, 64, 3)
    shown = pictures.enlarge(small)
    assert shown.shape == (2, 512, 512, 3) and np.array_equal(shown[:, ::8, ::8], small)
    large = np.zeros((2, 320, 512, 3), np.uint8)
    assert pictures.enlarge(large) is large


# Stopping


def test_stop_reaches_the_run_of_its_own_session_only():
    stops = Stops()
    mine, other = stops.begin("me"), stops.begin("you")
    stops.stop("me")
    stops.stop("nobody")
    assert mine.stopped and not other.stopped
    again = stops.begin("you")
    assert other.stopped, "a new run of the same tab replaces the old one"
    stops.end("you", other)
    stops.stop("you")
    assert again.stopped


# The two runs, on the tiny model


def test_drawing_yields_each_candidate_and_stops_where_it_is_told(runtime, panels):
    panel, _ = panels
    request = request_of(runtime)
    rounds = [round_ for round_, _ in choose.draw(runtime, panel, request, StopToken())]
    assert sorted({len(r.candidates) for r in rounds}) == [0, 1, 2, 3]
    assert all(Path(file).is_file() for file in rounds[-1].files)

    token = StopToken()
    seen = []
    for round_, changes in choose.draw(runtime, panel, request, token):
        seen.append(changes)
        if round_.candidates:
            token.stop()
    assert len(round_.candidates) == 1
    assert seen[-1][panel.status]["words"] == texts.candidates_stopped(1, 3)


def test_animating_gives_two_videos_and_keeps_the_vanilla_one(runtime, panels):
    panel, watching = panels
    request = request_of(runtime)
    *_, (round_, _) = choose.draw(runtime, panel, request, StopToken())
    anchor = watch.make_anchor(round_, Pick())
    assert anchor.reason == "highest reward" and watch.make_anchor(Round(), Pick()) is None
    steps = list(watch.animate(runtime, watching, request, anchor, ["vanilla"], Baselines(), StopToken()))
    known, shown = steps[-1][0], [c[watching.player] for _, c in steps if watching.player in c][-1]
    assert [clip.name for clip in shown] == ["vanilla", "i4vgen"]
    value = watching.player.postprocess(shown)
    assert value["num_frames"] == 4 and all(Path(p["video"]["path"]).is_file() for p in value["panes"])
    assert watching.player.postprocess(None) is None

    own = Anchor.from_image(Image.new("RGB", (9, 9), "red"))
    steps = list(watch.animate(runtime, watching, request, own, ["vanilla"], known, StopToken()))
    shown = [c[watching.player] for _, c in steps if watching.player in c][-1]
    stages = {stage["name"] for _, changes in steps for stage in changes[watching.live]["stages"]}
    assert steps[-1][0] is known and shown[0] is known.clips["vanilla"]
    assert stages == {"ni_vsds", "regeneration"}, "the same vanilla video is not made twice"


@pytest.mark.parametrize(
    ("last_words", "left"), [("NI-VSDS): step 1", []), ("(regeneration): step 1", ["ni_vsds"])]
)
def test_a_stopped_animation_leaves_what_was_finished(runtime, panels, last_words, left):
    _, watching = panels
    token = StopToken()
    anchor = Anchor.from_image(Image.new("RGB", (9, 9), "red"))
    request = request_of(runtime)
    seen = []
    for _, changes in watch.animate(runtime, watching, request, anchor, ["vanilla"], Baselines(), token):
        seen.append(changes)
        if last_words in changes[watching.live]["words"]:
            token.stop()
    assert seen[-1][watching.live]["words"] == texts.animate_stopped(bool(left))
    assert [clip.name for clip in seen[-1].get(watching.player, [])] == left


def test_a_picture_of_ones_own_is_cropped_and_a_broken_one_refused(tmp_path):
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    pick = choose.pick_upload(str(tmp_path / "clear.png"), 32, 24)
    assert pick.picture.shape == (32, 24, 3) and pick.picture.min() == 255
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(gr.Error, match="could not be read"):
        choose.pick_upload(str(tmp_path / "text.png"), 32, 24)


# The whole


def test_the_app_builds_with_its_named_endpoints(runtime):
    demo = build_app(runtime)
    endpoints = demo.get_api_info()["named_endpoints"]
    assert set(endpoints) == {"/candidates", "/animate"}
    names = [parameter["parameter_name"] for parameter in endpoints["/candidates"]["parameters"]]
    assert names == list(FORM)


def test_only_the_ui_knows_gradio():
    for file in (ROOT / "i4vgen").rglob("*.py"):
        if "ui" not in file.relative_to(ROOT / "i4vgen").parts:
            assert not re.search(r"^\s*(import|from) gradio", file.read_text(encoding="utf-8"), re.M), file
