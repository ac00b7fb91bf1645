"""The page of a batch, opened from the disk."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from playwright.sync_api import expect

from i4vgen.__main__ import main
from tests.browser.test_studio import PHONE
from tests.conftest import write_tiny_model
from tests.support.browsing import quiet_page

PROMPTS = ["a red car", 'a <img src=x onerror="document.title = 1"> rocket', "a blue car in the night"]
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
        looks = []
        for _ in range(20):
            page.wait_for_timeout(50)
            looks += [card for card in page.evaluate(STEPS) if not any(waits for waits, _ in card)]
        assert looks and all(abs(before - after) < 1 / 8 for (_, before), (_, after) in looks), "within a frame"

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
