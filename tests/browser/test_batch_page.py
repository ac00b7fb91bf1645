"""The page of a batch, opened from the disk."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from i4vgen.cli.batch.folder import BatchFolder
from i4vgen.cli.batch.summary import Summary
from i4vgen.cli.batch.tasks import Refusal
from i4vgen.cli.main import main
from tests.browser.test_studio import PHONE
from tests.conftest import write_tiny_model
from tests.support.browsing import WITHOUT_THE_LATEST, quiet_page

PROMPTS = ["a red car", 'a <img src=x onerror="document.title = 1"> rocket', "a blue car in the night"]
RIGHT_TO_LEFT = "מכונית כחולה car"
STEPS = """() => [...document.querySelectorAll("article")].map((card) =>
  [...card.querySelectorAll("video")].map((video) => [video.paused || video.seeking, video.currentTime]))"""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A batch of three runs that are done and one that is not."""
    folder = tmp_path_factory.mktemp("batch")
    write_tiny_model(folder / "model")
    (folder / "prompts.txt").write_text("\n".join([*PROMPTS, "x" * 3000]))
    arguments = ("--candidates", "2", "--steps", "2", "--compare", "vanilla", "--device", "cpu")
    out = folder / "study"
    model = str(folder / "model")
    assert main(["batch", str(folder / "prompts.txt"), "--out", str(out), "--model", model, *arguments]) == 1
    return out


def prompts(page) -> list[str]:
    return page.locator("article:visible h2").all_text_contents()


def test_videos_play_in_step_and_runs_can_be_sorted_and_found(browser, study):
    with quiet_page(browser, (study / "index.html").as_uri(), ready="Pause") as page:
        assert prompts(page) == PROMPTS and page.title() == "prompts.txt"
        page.wait_for_function("() => [...document.querySelectorAll('video')].every((v) => v.currentTime > 0)")
        looks, deadline = [], time.monotonic() + 60
        while len(looks) < 30 and time.monotonic() < deadline:
            page.wait_for_timeout(50)
            looks += [card for card in page.evaluate(STEPS) if not any(waits for waits, _ in card)]
        apart = sorted(abs(before - after) for (_, before), (_, after) in looks)
        assert apart[int(0.9 * len(apart))] < 1 / 8, "within a frame, but where a busy machine held one up"

        with (study / "summary.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["status"] == "done"]
        best_first = [row["prompt"] for row in sorted(rows, key=lambda row: -float(row["gain"]))]
        page.get_by_label("Order").select_option(label="Reward gain, highest first")
        assert prompts(page) == best_first
        page.get_by_label("Order").select_option(label="Reward gain, lowest first")
        assert prompts(page) == best_first[::-1]
        page.get_by_label("Search").fill("car")
        assert prompts(page) == [prompt for prompt in best_first[::-1] if "car" in prompt]
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Play")).to_be_visible()
        page.wait_for_function("() => [...document.querySelectorAll('video')].every((v) => v.paused)")
        expect(page.locator("#failed")).to_contain_text("line 4: prompt is too long")


def test_a_click_on_a_track_goes_to_the_frame(browser, study):
    with quiet_page(browser, (study / "index.html").as_uri(), ready="Pause") as page:
        page.wait_for_function("() => [...document.querySelectorAll('video')].every((v) => v.duration > 0)")
        expect(page.locator(".counts").last).to_contain_text("as pocket sees it")
        card = page.locator("article").first
        expect(card.get_by_role("slider")).to_have_count(2)
        track = card.get_by_role("slider", name="Steadiness of I4VGen")
        track.locator("i").nth(2).click()
        expect(page.get_by_role("button", name="Play")).to_be_visible()
        expect(track).to_have_attribute("aria-valuenow", "3")
        expect(track).to_have_attribute("aria-valuetext", re.compile(r"^Frame 3 of 4: -?\d\.\d\d alike$"))
        times = card.locator("video").evaluate_all("all => all.map(video => video.currentTime)")
        assert times == [pytest.approx(2.5 / 8, abs=0.02)] * 2
        track.focus()
        page.keyboard.press("ArrowLeft")
        expect(track).to_have_attribute("aria-valuenow", "2")


def test_a_browser_of_2022_sorts_the_runs(browser, study):
    address = (study / "index.html").as_uri()
    with quiet_page(browser, address, ready="Pause", script=WITHOUT_THE_LATEST) as page:
        page.get_by_label("Order").select_option(label="Motion, most first")
        assert sorted(prompts(page)) == sorted(PROMPTS)


def test_prompts_from_right_to_left_stand_so(browser, tmp_path):
    refused = [Refusal(1, RIGHT_TO_LEFT, "7", "line 1: no such model"), Refusal(2, "a car", "7", "line 2: no")]
    Summary.of(BatchFolder(str(tmp_path)), "prompts.txt", refused).write()
    with quiet_page(browser, (tmp_path / "index.html").as_uri(), ready="Pause") as page:
        direction = "(all) => all.map((box) => getComputedStyle(box).direction)"
        assert page.locator("#failed b").evaluate_all(direction) == ["rtl", "ltr"]
        page.get_by_label("Search").fill(RIGHT_TO_LEFT)
        assert page.locator("#search").evaluate_all(direction) == ["rtl"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, study, scheme):
    address = (study / "index.html").as_uri()
    with quiet_page(browser, address, ready="Pause", color_scheme=scheme, **PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        ink, paper = page.evaluate(
            "() => [getComputedStyle(document.querySelector('h1')).color,"
            " getComputedStyle(document.documentElement).backgroundColor]"
            ".map((text) => text.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0))"
        )
        assert (ink > paper) == (scheme == "dark")
