"""The app without a browser: what it remembers, what it says, and that it holds together."""

from __future__ import annotations

import base64
import html
import io
import json
import pickle
import re
import threading
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from i4vgen.bounds import MAX_JSON
from i4vgen.errors import InvalidInputError
from i4vgen.events import Candidate, Progress, Result, Stage
from i4vgen.media import read_comment
from i4vgen.method.search import video_score
from i4vgen.models.catalog import ModelSpec
from i4vgen.pipeline import Anchor
from i4vgen.serving.budget import Budget, RunPlan
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.pace import Pace, RunClock
from i4vgen.serving.run_to_folder import run_to_folder
from i4vgen.serving.runtime import StopToken
from i4vgen.storage.run_store import RunStore
from i4vgen.storage.runs import open_run
from i4vgen.studio import animating, drawing, files, pictures, run_io, scripts, strings
from i4vgen.studio.app import build_app
from i4vgen.studio.captions import anchor_caption, caption
from i4vgen.studio.components.cards import cards_value
from i4vgen.studio.components.chart import chart_value
from i4vgen.studio.components.compare import ComparePlayer
from i4vgen.studio.components.live import live_value
from i4vgen.studio.context import AppContext, Tab
from i4vgen.studio.form import Form
from i4vgen.studio.panels.candidates import CandidatesPanel, select_upload
from i4vgen.studio.panels.prompt import PromptPanel, show_note
from i4vgen.studio.panels.video import measure_all
from i4vgen.studio.progress import RunProgress
from i4vgen.studio.recipes import Recipes
from i4vgen.studio.state import (
    AnchorSelection,
    Baselines,
    CandidateSet,
    Clip,
    anchor_index,
    anchor_indices,
    baseline_key,
    make_anchor,
    make_anchors,
    reason,
    toggle_anchor,
)
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
STAGE_OF_VIDEO = {"vanilla": "vanilla", "ni_vsds": "ni_vsds", "i4vgen": "regeneration"}
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
    return Form.of(FORM | given).config(runtime.defaults)


def candidates(*scores: float | None) -> tuple[Candidate, ...]:
    image, latents = np.zeros((8, 8, 3), np.uint8), np.zeros((4, 1, 2, 2), np.float32)
    named = [{} if score is None else {"reward": score} for score in scores]
    return tuple(Candidate(i, image, score, latents) for i, score in enumerate(named))


def candidate_set_of(*scores: float | None, **given) -> CandidateSet:
    cards = candidates(*scores)
    return CandidateSet(candidates=cards, files=tuple(f"{card.index}.png" for card in cards), **given)


# What a tab remembers


def test_the_highest_score_is_the_anchor_until_a_pick():
    cards = candidate_set_of(0.1, 1.5, -2.0)
    assert cards.best == anchor_index(cards, AnchorSelection()) == 1
    assert anchor_index(cards, AnchorSelection(2)) == 2
    assert anchor_index(cards, AnchorSelection(picture=np.zeros((8, 8, 3), np.uint8))) is None
    assert candidate_set_of(None, None).best == 0
    assert CandidateSet().best is anchor_index(CandidateSet(), AnchorSelection()) is None


def test_cards_are_ticked_as_further_anchors_and_unticked():
    cards = candidate_set_of(0.1, 1.5, -2.0, 0.3, 0.2)
    chosen = toggle_anchor(cards, AnchorSelection(), 2)
    assert anchor_indices(cards, AnchorSelection()) == (1,), "the best, until a pick"
    assert anchor_indices(cards, chosen) == (1, 2) and anchor_index(cards, chosen) == 2
    assert [anchor.reason for anchor in make_anchors(cards, chosen)] == ["highest reward", "picked"]
    assert [caption(cards, c, chosen).count("✓") for c in cards.candidates] == [0, 1, 1, 0, 0]
    four = toggle_anchor(cards, toggle_anchor(cards, chosen, 0), 3)
    with pytest.raises(InvalidInputError, match="4 candidates at most"):
        toggle_anchor(cards, four, 4)
    assert anchor_indices(cards.drop(0), four) == (1, 2, 3)
    rest = toggle_anchor(cards, toggle_anchor(cards, four, 3), 0)
    assert anchor_indices(cards, rest) == (1, 2)
    last = toggle_anchor(cards, rest, 1)
    assert anchor_indices(cards, last) == (2,) and anchor_index(cards, last) == 2
    assert toggle_anchor(cards, last, 2) == AnchorSelection(), "the best is the anchor again"
    own = AnchorSelection(picture=np.zeros((8, 8, 3), np.uint8))
    assert anchor_indices(cards, own) == () and len(make_anchors(cards, own)) == 1
    assert make_anchors(CandidateSet(), AnchorSelection()) == ()
    assert anchor_indices(cards, toggle_anchor(cards, own, 4)) == (4,)


def test_the_anchors_card_names_those_beside_it():
    cards = candidate_set_of(0.1, 1.5, -2.0)
    assert "together" not in anchor_caption(cards, AnchorSelection(1))
    assert "together with candidate 3" in anchor_caption(cards, AnchorSelection(1, others=(2,)))
    assert "candidates 1 and 3" in anchor_caption(cards, AnchorSelection(1, others=(0, 2)))
    assert (strings.animate(1), strings.animate(3)) == ("Animate this anchor", "Animate 3 anchors")


def test_names_of_rewards_stay_text_on_the_cards(make_config):
    image, latents = np.zeros((8, 8, 3), np.uint8), np.zeros((4, 1, 2, 2), np.float32)
    card = Candidate(0, image, {"a": 0.5, "<img src=x>": 1.0}, latents)
    value = cards_value(CandidateSet(candidates=(card,), files=("0.png",)), AnchorSelection())
    assert "<img" not in value["cards"][0]["lines"] and "&lt;img" in value["cards"][0]["lines"]


def test_the_gallery_is_sorted_by_index_or_by_score():
    cards = candidate_set_of(0.1, 1.5, -2.0)
    assert [c.index for c in cards.shown] == [0, 1, 2]
    assert [c.index for c in replace(cards, by_score=True).shown] == [1, 0, 2]
    assert [cards.rank(i) for i in range(3)] == [2, 1, 3]


def test_what_was_dropped_is_no_anchor_any_more_and_can_come_back():
    cards = candidate_set_of(0.1, 1.5, -2.0).drop(1)
    assert [c.index for c in cards.shown] == [0, 2] and cards.best == 0
    assert anchor_index(cards, AnchorSelection(1)) == 0, "the pick was dropped"
    assert cards.next_index == 3, "further candidates never repeat a number"
    assert replace(cards, dropped=frozenset()).best == 1


def test_captions_mark_the_best_the_favourites_and_the_anchor():
    cards = candidate_set_of(0.1, 1.5, -2.0).with_star(0)
    lines = [caption(cards, c, AnchorSelection(2)) for c in cards.candidates]
    assert lines == ["★ +0.10\nrank 2 · seed 0#1", "♛ +1.50\nrank 1 · seed 0#2", "−2.00 ✓\nrank 3 · seed 0#3"]
    assert caption(cards, cards.candidates[1], AnchorSelection()).startswith("♛ +1.50 ✓\n")
    assert (
        cards.with_star(0, False).stars == frozenset()
        and cards.with_star(0) == cards
        and strings.score(None) == ""
    )


def test_captions_show_what_every_reward_says():
    image, latents = np.zeros((8, 8, 3), np.uint8), np.zeros((4, 1, 2, 2), np.float32)
    card = Candidate(0, image, {"ImageReward": 0.5, "PickScore": 21.3}, latents)
    lines = caption(CandidateSet(candidates=(card,), files=("0.png",)), card, AnchorSelection()).split("\n")
    assert lines[:2] == ["♛ +0.50 ✓", "PickScore +21.30"]


def test_the_anchor_is_described_in_words(make_config):
    cards = candidate_set_of(0.1, 1.5, config=make_config(prompt="a red rocket"))
    assert "Candidate 2" in anchor_caption(cards, AnchorSelection())
    assert "highest reward" in anchor_caption(cards, AnchorSelection())
    assert "your pick" in anchor_caption(cards, AnchorSelection(0))
    assert anchor_caption(CandidateSet(), AnchorSelection()) == strings.NO_ANCHOR
    judged = cards.with_scores("a <b>blue</b> whale", [{"reward": 2.0}, {"reward": 1.0}])
    assert "&lt;b&gt;blue" in anchor_caption(judged, AnchorSelection()) and judged.best == 0


def test_the_reward_is_named_as_the_reason_only_where_it_is():
    cards = candidate_set_of(0.1, 1.5)
    assert (reason(cards, 1), reason(cards, 0)) == ("highest reward", "picked")
    assert reason(candidate_set_of(0.1, 1.5, 2.0).drop(2), 1) == "picked"
    unjudged = candidate_set_of(None, None)
    assert reason(unjudged, 0) == "picked" and "♛" not in caption(
        unjudged, unjudged.candidates[0], AnchorSelection()
    )


def test_words_of_others_cannot_inject_html():
    assert "<img" not in live_value("ranked by <img src=x onerror=y>")["words"]


def test_the_chart_ranks_all_scores():
    cards = candidate_set_of(0.5, 1.5, -0.5).with_star(2)
    value = chart_value(cards, AnchorSelection(0))
    assert [mark["index"] for mark in value["marks"]] == [2, 0, 1]
    assert [mark["height"] for mark in value["marks"]] == [0, 0.5, 1]
    assert [mark["state"] for mark in value["marks"]] == ["starred", "picked", "best"]
    assert (value["low"], value["high"], value["zero"]) == ("−0.50", "+1.50", 0.25)
    assert (
        chart_value(candidate_set_of(None, None), AnchorSelection())
        is chart_value(candidate_set_of(1.0), AnchorSelection())
        is None
    )


def test_what_a_tab_remembers_pickles():
    remembered = (candidate_set_of(0.5), AnchorSelection(picture=np.zeros((2, 2, 3), np.uint8)))
    clip = Clip("vanilla", "a.mp4", 8, 8, 1.0, np.zeros((8, 2, 2, 3), np.uint8))
    for value in (*remembered, Baselines(("key",), {"vanilla": clip})):
        assert type(pickle.loads(pickle.dumps(value))) is type(value)


def test_vanilla_is_reused_only_where_it_would_be_the_same(make_config):
    pocket = ModelSpec("pocket")

    def key(spec=pocket, anchor=None, **given):
        return baseline_key(spec, make_config(**given), anchor)

    red, blue = (Anchor.from_image(Image.new("RGB", (9, 9), colour)) for colour in ("red", "blue"))
    assert key(seed=1) == key(seed=1, num_candidates=5, p_ni_vsds=0.2, preset="fast")
    assert key(seed=1) != key(seed=2)
    assert key(seed=1) != key(seed=1, num_inference_steps=9)
    assert key(seed=1) != key(ModelSpec("pocket", loras=("a",)), seed=1)
    assert key(anchor=red) == key(anchor=red) != key(anchor=blue), "an image-to-video model shows the anchor"


# The form


def test_the_form_becomes_a_request(runtime):
    config = request_of(runtime)
    assert (config.prompt, config.seed, config.num_inference_steps) == ("a red rocket", 7, 2)
    assert config.height == runtime.defaults.height
    assert config.candidate_batch_size == 1, "the gallery fills in a few steps"


@pytest.mark.parametrize(
    "wrong",
    [{"prompt": "  "}, {"prompt": None}, {"seed": None}, {"seed": -1}, {"num_frames": 99}, {"height": 2048}],
)
def test_a_wrong_form_is_refused_in_words(runtime, wrong):
    with pytest.raises(InvalidInputError, match=r"\w+ \w+"):
        request_of(runtime, **wrong)


def test_the_best_are_ticked_until_a_choice():
    cards = candidate_set_of(0.1, 1.5, -2.0, 0.3, 0.2)
    untouched = AnchorSelection(best=3)
    assert anchor_indices(cards, untouched) == (1, 3, 4) and anchor_index(cards, untouched) == 1
    assert anchor_indices(cards, AnchorSelection(best=64)) == (0, 1, 3, 4), "as many as fit the grid"
    assert anchor_indices(cards.drop(3), untouched) == (0, 1, 4)
    sketched = replace(cards, candidates=tuple(replace(c, sketch=c.index > 1) for c in cards.candidates))
    assert anchor_indices(sketched, untouched) == (0, 1), "sketches only if they are picked"
    assert anchor_indices(sketched, AnchorSelection(2)) == (2,)
    assert anchor_indices(candidate_set_of(None, None), untouched) == (0,), "there are no scores to rank by"
    picked = untouched.pick(2)
    assert anchor_indices(cards, picked) == (2,) and picked.automatic == untouched
    unticked = toggle_anchor(cards, untouched, 3)
    assert anchor_indices(cards, unticked) == (1, 4)
    own = replace(AnchorSelection(picture=np.zeros((8, 8, 3), np.uint8)), best=3)
    assert anchor_indices(cards, own) == () and len(make_anchors(cards, own)) == 1


def test_each_of_several_anchors_is_a_run_of_one(runtime, tmp_path):
    with gr.Blocks(analytics_enabled=False):
        context = AppContext(OfferedModels(runtime), RunStore(tmp_path), Budget())
    drawn = replace(candidate_set_of(0.5, 0.2), config=request_of(runtime), spec=runtime.spec)
    form = Form.of(FORM | {"animate_best": 2})
    plan = context.plan_animation(Tab(drawn, AnchorSelection(best=2), Baselines(), form))
    assert (plan.draws, plan.anchors, plan.config.animate_best) == (0, 2, 1)


def test_the_gallery_says_what_the_reward_saw():
    cards = candidate_set_of(0.1, 1.5, -2.0)
    value = cards_value(cards, AnchorSelection())
    assert value["saw"] == "reward judged 3: best +1.50 (candidate 2), mean −0.13, worst −2.00 (candidate 3)"
    assert [(card["best"], card["worst"]) for card in value["cards"]] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    for same in (candidate_set_of(None, None), candidate_set_of(0.5, 0.5)):
        assert not any(card["worst"] for card in cards_value(same, AnchorSelection())["cards"])
    assert cards_value(candidate_set_of(None, None), AnchorSelection())["saw"] == ""


def test_an_animation_keeps_the_size_of_its_candidates(runtime, tmp_path):
    with gr.Blocks(analytics_enabled=False):
        context = AppContext(OfferedModels(runtime), RunStore(tmp_path), Budget())
    drawn = replace(candidate_set_of(0.5), config=request_of(runtime, seed=3), spec=runtime.spec)
    form = Form.of(FORM | {"model": "animatediff", "height": 512, "width": 501, "seed": 9, "p_re": 0.5})
    config = context.plan_animation(Tab(drawn, AnchorSelection(), Baselines(), form)).config
    assert (config.height, config.width, config.seed) == (drawn.config.height, drawn.config.width, 3)
    assert config.p_re == 0.5


def test_unknown_words_are_named_and_cannot_inject_html(runtime):
    note = show_note(runtime, "a red zyzzyva <img src=x>")
    assert note["visible"] and "<b>zyzzyva</b>" in note["value"] and "<img" not in note["value"]
    assert not show_note(runtime, "a red rocket")["visible"]
    assert not show_note(runtime, None)["visible"]


def test_what_the_text_encoder_cuts_off_is_said(runtime):
    long = "a red rocket rising over the blue sea in the night " * 2 + "<img src=x>"
    note, unread = show_note(runtime, long), runtime.unread(long)
    assert note["visible"] and unread.endswith("<img src=x>") and "<img" not in note["value"]
    assert f"This prompt is longer than what the model reads: <b>{html.escape(unread)}</b>" in note["value"]
    note = show_note(runtime, "a car", long)
    assert "The negative prompt is longer" in note["value"] and html.escape(unread) in note["value"]


def test_what_is_read_as_words_is_named_and_loras_are_offered_their_field(runtime):
    note = show_note(runtime, "a (red:1.2) car <lora:sea:0.8>", "[a|the]")["value"]
    assert "<b>&lt;lora:sea:0.8&gt;</b>, <b>[a|the]</b> as plain words" in note
    assert "Put <b>sea@0.8</b> in the LoRA field" in note and "red:1.2" not in note


def test_the_examples_are_ones_that_the_form_takes(runtime):
    entries = json.loads((ROOT / "examples.json").read_text(encoding="utf-8"))
    assert len(entries) >= 4
    for entry in entries:
        assert request_of(runtime, prompt=entry["prompt"], seed=entry["seed"])


# Progress


def new_clock(stages, times=None):
    return RunClock(Pace(), "pocket", stages, stages, times)


def test_the_progress_line_counts_steps_and_tells_the_time_left():
    clock = new_clock({"ni_vsds": 4, "vanilla": 10})
    progress = RunProgress(clock, {"ni_vsds": 4, "vanilla": 10})
    assert progress.words() == strings.STARTING
    progress.begin("ni_vsds", 4)
    assert "estimating the time left" in progress.words()
    assert progress.step("ni_vsds", 1)
    assert not progress.step("ni_vsds", 2), "steps that come too fast are counted, but not shown one by one"
    clock.follow(Stage("ni_vsds", 4))
    for step in (1, 2):
        clock.follow(Progress("ni_vsds", step, 4, 0.0, 3.0))
    assert progress.words().endswith(f"step 2 of 4, {strings.seconds_left(clock.seconds_left)}")
    assert "estimating" not in progress.words() and clock.fraction == pytest.approx(2 / 14)
    progress.begin("vanilla", 10)
    progress.step("vanilla", 1)
    assert [stage["now"] for stage in progress.stages()] == [False, True]


def test_the_progress_line_says_which_anchor_it_is():
    plans = {"ni_vsds": 4, "vanilla": 10}, {"ni_vsds": 4}
    progress = RunProgress(new_clock({"ni_vsds": 4, "vanilla": 10}, {"ni_vsds": 2, "vanilla": 1}), *plans)
    progress.begin("ni_vsds", 4)
    progress.step("ni_vsds", 4)
    assert progress.words().startswith("Anchor 1 of 2. ")
    assert [stage["fraction"] for stage in progress.stages()] == [1, 0]
    progress.begin_part(1)
    assert [stage["fraction"] for stage in progress.stages()] == [0]
    progress.begin("ni_vsds", 4)
    progress.step("ni_vsds", 1)
    assert "Anchor 2 of 2" in progress.words() and "step 1 of 4" in progress.words()


def test_a_video_that_is_reused_takes_no_time(runtime):
    plan = RunPlan(runtime, request_of(runtime), anchors=2, compare=("vanilla",))
    stages, times = plan.stages()
    assert times["vanilla"] == 1 and times["ni_vsds"] == 2
    assert replace(plan, reused=["vanilla"]).stages() == (stages, times | {"vanilla": 0})


def test_durations_are_said_as_people_say_them():
    assert strings.seconds_left(None) == "estimating the time left"
    assert strings.seconds_left(0.4) == "almost done"
    assert strings.seconds_left(12.3) == "about 12 s left"
    assert strings.seconds_left(260) == "about 4 min left"


# Pictures


def test_the_film_strip_holds_every_frame():
    frames = np.arange(0, 250, 50, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 24, 3), np.uint8)
    kind, data = pictures.film_strip(frames).split(",")
    assert kind == "data:image/webp;base64"
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert np.abs(strip.astype(int) - np.concatenate(frames, axis=1)).mean() < 3
    large = Image.open(
        io.BytesIO(base64.b64decode(pictures.film_strip(np.zeros((2, 512, 1024, 3), np.uint8))[23:]))
    )
    assert large.size == (2 * pictures.PREVIEW_SIDE, pictures.PREVIEW_SIDE // 2)


# The two runs, on the tiny model


def clock_of(runtime, candidate_set):
    """The clock of a run that draws and animates."""
    return Budget().clock(RunPlan(runtime, candidate_set.config, 3, 3, ["vanilla"]))


def drawn(runtime, candidate_set):
    """The last candidate set of stage 1, and the last words of the status."""
    *_, (last, status) = drawing.draw(
        runtime, candidate_set, StopToken(), clock_of(runtime, candidate_set), Recipes()
    )
    return last, status["words"]


def test_drawing_yields_each_candidate_and_stops_where_it_is_told(runtime):
    fresh = CandidateSet(request_of(runtime), runtime.spec)
    sets = [r for r, _ in drawing.draw(runtime, fresh, StopToken(), clock_of(runtime, fresh), Recipes())]
    assert sorted({len(r.candidates) for r in sets}) == [0, 1, 2, 3]
    assert all(Path(file).is_file() for file in sets[-1].files)

    token = StopToken()
    seen = []
    for candidate_set, status in drawing.draw(runtime, fresh, token, clock_of(runtime, fresh), Recipes()):
        seen.append(status)
        if candidate_set.candidates:
            token.stop()
    assert len(candidate_set.candidates) == 1
    assert seen[-1]["words"] == "Stopped. 1 of 3 candidates are finished and ready to pick."


def test_more_candidates_join_the_ones_that_are_there(runtime):
    three, _ = drawn(runtime, CandidateSet(request_of(runtime), runtime.spec))
    five, words = drawn(runtime, replace(three, config=replace(three.config, num_candidates=5)))
    assert [c.index for c in five.candidates] == [0, 1, 2, 3, 4] and five.candidates[:3] == three.candidates
    assert "2 candidates" in words


def test_more_candidates_are_scored_for_the_same_prompt_as_the_others(runtime):
    config = request_of(runtime, num_candidates=1)
    one, _ = drawn(runtime, CandidateSet(config, runtime.spec, scored_prompt=config.prompt))
    *_, (judged, _) = drawing.score_again(runtime, one, "a blue whale", StopToken())
    more, token = replace(judged, config=replace(config, num_candidates=4)), StopToken()
    for two, _ in drawing.draw(runtime, more, token, clock_of(runtime, more), Recipes()):
        if len(two.candidates) == 2:
            token.stop()
    *_, (again, _) = drawing.score_again(runtime, two, two.scored_prompt, StopToken())
    assert [c.score for c in two.candidates] == pytest.approx([c.score for c in again.candidates], abs=1e-4)


def test_candidates_are_judged_again_or_stay_as_they_are(runtime):
    candidate_set, _ = drawn(runtime, CandidateSet(request_of(runtime), runtime.spec))
    *_, (judged, status) = drawing.score_again(runtime, candidate_set, "a blue whale", StopToken())
    assert judged.scored_prompt == "a blue whale" and "a blue whale" in status["words"]
    assert [c.score for c in judged.candidates] != [c.score for c in candidate_set.candidates]
    token = StopToken()
    token.stop()
    *_, (same, _) = drawing.score_again(runtime, candidate_set, "a blue whale", token)
    assert same is candidate_set


def animated(runtime, config, anchor, known=None, token=None):
    """All steps of an animation."""
    plan = RunPlan(runtime, config, anchors=1, compare=["vanilla"])
    known, token, clock = known or Baselines(), token or StopToken(), Budget().clock(plan)
    return animating.animate(plan, CandidateSet(), [anchor], known, token, clock, Recipes())


@pytest.mark.parametrize("failing", ["save_picture", "save_anchor", "save_clip"])
def test_a_run_that_fails_frees_the_device_while_its_error_is_kept(runtime, monkeypatch, failing):
    fresh = CandidateSet(request_of(runtime), runtime.spec)
    steps = animated(runtime, fresh.config, Anchor.from_image(Image.new("RGB", (96, 96))))
    if failing == "save_picture":
        steps = drawing.draw(runtime, fresh, StopToken(), clock_of(runtime, fresh), Recipes())

    def full_disk(*_given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, failing, full_disk)
    with pytest.raises(OSError, match="No space left") as kept:
        list(steps)
    token = StopToken()
    in_time = threading.Timer(PATIENCE, token.stop)  # or it would wait for ever
    in_time.daemon = True
    in_time.start()
    assert list(runtime.stream(lambda _pipeline: iter(["an event"]), token)) == ["an event"], kept
    in_time.cancel()


def test_animating_gives_two_videos_and_keeps_the_vanilla_one(runtime):
    config = request_of(runtime)
    candidate_set, _ = drawn(runtime, CandidateSet(config, runtime.spec))
    anchor = make_anchor(candidate_set, AnchorSelection())
    assert anchor.reason == "highest reward" and make_anchor(CandidateSet(), AnchorSelection()) is None
    steps = list(animated(runtime, config, anchor))
    known, animation = steps[-1].baselines, steps[-1].animation
    assert [clip.name for clip in animation.clips] == ["vanilla", "anchor", "ni_vsds", "i4vgen"]
    assert all(clip.scores for clip in animation.videos), "the reward has seen every video"
    traces = [step.live["trace"] for step in steps if step.live["trace"]]
    assert traces and "weight" in steps[-3].live["facts"]
    player = ComparePlayer(render=False)
    value = player.postprocess(animation.clips)
    assert value["num_frames"] == 4
    assert all(Path(p["video"]["path"]).is_file() for p in value["panes"] if p["name"] != "anchor")
    assert player.postprocess(None) is None

    own = Anchor.from_image(Image.new("RGB", (9, 9), "red"))
    steps = list(animated(runtime, config, own, known))
    stages = {stage["name"] for step in steps for stage in step.live["stages"]}
    assert steps[-1].baselines is known and steps[-1].animation.clips[0] is known.clips["vanilla"]
    assert [clip.name for clip in steps[-1].animation.clips] == ["vanilla", "anchor", "ni_vsds", "i4vgen"]
    assert stages == {"ni_vsds", "regeneration"}, "the same vanilla video is not made twice"


def test_several_anchors_become_one_grid_and_a_run_each(runtime, tmp_path):
    config = request_of(runtime)
    candidate_set, _ = drawn(runtime, CandidateSet(config, runtime.spec))
    anchors = make_anchors(candidate_set, AnchorSelection(0, others=(2,)))
    plan = RunPlan(runtime, config, anchors=2, compare=["vanilla"])
    clock = Budget().clock(plan)
    *steps, last = animating.animate(plan, candidate_set, anchors, Baselines(), StopToken(), clock, Recipes())
    stages = [[stage["name"] for stage in step.live["stages"]] for step in steps]
    assert stages[0] == ["ni_vsds", "regeneration", "vanilla"] and stages[-1] == ["ni_vsds", "regeneration"]
    fractions = [step.live["fraction"] for step in steps]
    assert fractions == sorted(fractions) and fractions[-1] == 1

    both = last.animations
    one, other = both.animations
    assert one.clips[0] is other.clips[0], "the same vanilla video serves both"
    assert [clip.key for clip in last.clips] == ["vanilla", "i4vgen-1", "i4vgen-3"]
    scores = [video_score(each.result.scores, each.result.worst) for each in both.animations]
    assert both.best == both.kept_index == scores.index(max(scores))
    assert [clip.best for clip in last.clips[1:]] == [i == both.best for i in range(2)]
    assert replace(both, choice=1 - both.best).kept is both.animations[1 - both.best]

    panes = ComparePlayer(render=False).postprocess(last.clips)
    assert panes["first"] == "grid" and [pane["label"] for pane in panes["panes"]] == [
        "Vanilla",
        "Candidate 1",
        "Candidate 3",
    ]
    measured = measure_all(both)
    assert measured[0].measures["vanilla"].flicker == measured[1].measures["vanilla"].flicker
    assert measured[0].measures["vanilla"].consistency != measured[1].measures["vanilla"].consistency
    figures = replace(both, animations=measured).measures
    assert list(figures) == ["vanilla", "i4vgen-1", "i4vgen-3"] and np.isnan(figures["vanilla"].consistency)
    assert figures["i4vgen-3"] == measured[1].measures["i4vgen"]

    for animation in measured:  # each is packed, and opens, as a run of its own
        packed = run_io.pack_animation(animation, Recipes(), tmp_path / f"{animation.anchor.index}.zip")
        opened = run_io.OpenedRun.of(open_run(packed), Recipes()).animation
        assert opened.anchor.index == animation.anchor.index and opened.measures == animation.measures
        assert [clip.steadiness for clip in opened.videos] == [clip.steadiness for clip in animation.videos]
        assert [clip.steadiness.from_anchor for clip in opened.videos] == [False, True, True]
        assert [clip.name for clip in opened.clips] == ["vanilla", "anchor", "ni_vsds", "i4vgen"]


def test_the_seconds_of_a_run_are_those_of_its_stages_however_it_is_saved(runtime, tmp_path):
    config = request_of(runtime)
    run_to_folder(runtime, config, None, ["vanilla"], tmp_path / "run", lambda *_: None)
    made = open_run(tmp_path / "run")
    opened = run_io.OpenedRun.of(made, Recipes()).animation
    seconds = {name: made.file.seconds[stage] for name, stage in STAGE_OF_VIDEO.items()}
    assert {clip.name: clip.seconds for clip in opened.videos} == seconds and all(seconds.values())

    saved = open_run(run_io.pack_animation(opened, Recipes(), tmp_path / "saved.zip"))
    assert saved.file.seconds == {name: made.file.seconds[name] for name in STAGE_OF_VIDEO.values()}

    values = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(values | {"seconds": seconds}))
    earlier = open_run(tmp_path / "run")
    assert earlier.file.seconds == saved.file.seconds, "the page named the videos instead, in earlier versions"


def test_stopped_between_anchors_what_is_finished_stays(runtime):
    config, token = request_of(runtime), StopToken()
    candidate_set, _ = drawn(runtime, CandidateSet(config, runtime.spec))
    anchors = make_anchors(candidate_set, AnchorSelection(0, others=(1, 2)))
    clock = clock_of(runtime, candidate_set)
    plan = RunPlan(runtime, config, anchors=3)
    for step in animating.animate(plan, candidate_set, anchors, Baselines(), token, clock, Recipes()):
        if "Anchor 2 of 3. Regenerating" in step.live["words"]:
            token.stop()
    assert step.live["words"].startswith("Stopped. What was finished plays below")
    assert [animation.anchor.index for animation in step.animations.animations] == [0]
    assert [clip.key for clip in step.clips] == ["anchor", "ni_vsds", "i4vgen"], "one is shown as ever"


@pytest.mark.parametrize(
    ("last_words", "left"), [("NI-VSDS): step 1", []), ("Regenerating the video: step 1", ["ni_vsds"])]
)
def test_a_stopped_animation_leaves_what_was_finished(runtime, last_words, left):
    token = StopToken()
    anchor = Anchor.from_image(Image.new("RGB", (9, 9), "red"))
    for step in animated(runtime, request_of(runtime), anchor, token=token):
        if last_words in step.live["words"]:
            token.stop()
    assert step.live["words"].startswith("Stopped. What was finished" if left else "Stopped. Your candidates")
    assert [clip.name for clip in step.animation.videos] == left
    assert bool(step.clips) == bool(left)


# One's own picture


def test_a_picture_of_ones_own_is_cropped_where_one_says_and_a_broken_one_refused(runtime, tmp_path):
    with gr.Blocks(analytics_enabled=False):
        context = AppContext(OfferedModels(runtime), RunStore(tmp_path / "runs"), Budget())
        prompt = PromptPanel(context, [])
        panel = CandidatesPanel(context, prompt.form, prompt.buttons)
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    selection = select_upload(str(tmp_path / "clear.png"), 32, 24)
    assert selection.picture.shape == (32, 24, 3) and selection.picture.min() == 255
    halves = Image.new("RGB", (80, 20), "red")
    halves.paste("blue", (40, 0, 80, 20))
    halves.save(tmp_path / "halves.png")
    left, right = (select_upload(str(tmp_path / "halves.png"), 20, 20, p).picture for p in (0, 1))
    assert (left == (255, 0, 0)).all() and (right == (0, 0, 255)).all()
    view = panel.show_crop(str(tmp_path / "halves.png"), 20, 20, 0.0)
    assert view[panel.crop]["visible"] and view[panel.position]["visible"]
    shown = view[panel.crop]["value"]
    assert tuple(shown[10, 5]) == (255, 0, 0) and shown[10, 70].max() < 128, "what is cut off is dark"
    assert not panel.show_crop(str(tmp_path / "halves.png"), 20, 80, 0.5)[panel.crop]["visible"]
    assert not panel.show_crop(None, 20, 20, 0.5)[panel.crop]["visible"]
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        select_upload(str(tmp_path / "text.png"), 32, 24)


# The whole


def page_of(runtime, metadata) -> str:
    blocks = build_app(runtime, metadata=metadata).get_config_file()["components"]
    return "".join(str(block["props"].get("value")) for block in blocks)


def test_events_call_the_functions_of_the_pages_scripts(runtime):
    events = [each["js"] for each in build_app(runtime).get_config_file()["dependencies"] if each["js"]]
    called = {re.fullmatch(r"\(\.\.\.values\) => studio\.(\w+)\(.*\.\.\.values\)", js)[1] for js in events}
    assert called == set(re.findall(r"^studio\.(\w+) =", scripts.head(), re.M))


def test_an_app_without_metadata_writes_files_that_say_nothing(runtime, make_config, picture):
    config, made = make_config(prompt="a rocketship of secrets"), runtime.describe()
    result = Result("i4vgen", np.stack([picture] * 3), 8, 1.0, np.zeros((4, 3, 5, 7), np.float32))
    for metadata in (True, False):
        (film,) = re.findall(r"<img src=\"data:image/webp;base64,([^\"]+)", page_of(runtime, metadata))
        assert (b"prompt" in base64.b64decode(film)) == metadata, "the picture that the page begins with"
        recipe = Recipes(metadata).of(config, made)
        paths = [files.save_picture(picture, recipe), files.save_clip(result, recipe).path]
        said = [read_comment(path, MAX_JSON) for path in paths]
        assert all("secrets" in comment for comment in said) if metadata else said == [None, None]
