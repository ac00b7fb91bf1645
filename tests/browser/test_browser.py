"""The real app with the embedded model in a real browser: what a person does, button by button.

Few candidates and steps keep it quick. `I4VGEN_MODEL` runs the same tests on another model.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import JSHandle, Page, expect

from tests.support.browsing import CARDS, ROOT, quiet_page, wait_for_first_run
from tests.support.waiting import wait_until

PATIENCE = 240_000  # milliseconds, for a run of the model
LONG = {"candidates": 64, "steps": 100}  # the largest run of the form: no test waits for its end

STRAY = """async () => {
  // Watches the two videos for three seconds, and on until both have moved: how far apart they are, but for the
  // worst twentieth of the looks, and how far each of them got.
  const visible = video => video.checkVisibility();
  const [a, b] = [...document.querySelectorAll('#player video')].filter(visible);
  const { fps, frames } = document.querySelector('#player .player').dataset;
  const duration = frames / fps, seen = [new Set(), new Set()];
  const apart = [], start = performance.now(), past = seconds => performance.now() > start + 1000 * seconds;
  while (!past(3) || Math.min(...seen.map(frames => frames.size)) < 3 && !past(60)) {
    await new Promise(requestAnimationFrame);
    const difference = Math.abs(a.currentTime - b.currentTime);
    apart.push(Math.min(difference, duration - difference)); // the loop closes
    [a, b].forEach((video, i) => seen[i].add(Math.floor(video.currentTime * fps)));
  }
  apart.sort((one, other) => one - other);
  const { state } = document.querySelector('#player .player').dataset;
  return { apart: apart[Math.floor(0.95 * apart.length)] * fps, seen: seen.map(s => s.size), state,
           sizes: [a.videoWidth, b.videoWidth] };
}"""


def set_number(page: Page, label: str, value: float) -> None:
    """Types into the number field of a slider."""
    field = page.get_by_label(f"number input for {label}")
    field.fill(str(value))
    field.press("Tab")


def fill_form(
    page: Page, candidates: int, steps: int, prompt: str = "a rocket rising in a starry night"
) -> None:
    # First, because Gradio gives a slider its value a moment after it is shown, over what has been typed.
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_label("Prompt", exact=True).fill(prompt)
    set_number(page, "Candidates", candidates)
    set_number(page, "Denoising steps", steps)


def draw(page: Page, candidates: int) -> None:
    page.get_by_role("button", name="Draw candidates").click()
    expect(page.get_by_text(f"{candidates} candidates in")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(CARDS)).to_have_count(candidates)


def record(page: Page, selector: str) -> JSHandle:
    """The texts that an element has from now on, also those that are gone before a test can look."""
    script = """element => {
      const texts = [];
      const observer = new MutationObserver(() => texts.push(element.textContent));
      observer.observe(element, { childList: true, characterData: true, subtree: true });
      return texts;
    }"""
    return page.locator(selector).evaluate_handle(script)


def captions(page: Page) -> list[str]:
    return page.locator("#gallery .caption-label").all_inner_texts()


def marked(page: Page, mark: str) -> list[int]:
    """The indices of the cards whose captions have a mark."""
    return [index for index, text in enumerate(captions(page)) if mark in text]


def test_generate_override_animate_and_compare(moving_page):
    page = moving_page
    fill_form(page, candidates=4, steps=3)
    set_number(page, "Frames", 4)
    draw(page, 4)
    found = captions(page)
    scores = [float(re.search(r"[+−]\d+\.\d\d", text)[0].replace("−", "-")) for text in found]
    best = scores.index(max(scores))
    assert [i for i, text in enumerate(found) if "♛" in text] == [best]
    assert "✓" in found[best], "the best candidate is the anchor until another one is picked"
    expect(page.get_by_text(f"Candidate {best + 1} of 4")).to_be_visible()

    other = (best + 1) % 4
    page.locator(CARDS).nth(other).click()
    expect(page.locator("#anchor-words")).to_contain_text("your pick")
    expect(page.locator("#anchor-words")).to_contain_text(f"Candidate {other + 1}")
    wait_until(lambda: (marked(page, "✓"), marked(page, "♛")) == ([other], [best]))

    words = record(page, "#live")
    page.locator("#animate").click()
    expect(page.get_by_text("Done in")).to_be_visible(timeout=PATIENCE)
    assert any(re.search(r"step \d+ of \d+", text) for text in words.json_value())
    expect(page.locator("#player video:visible")).to_have_count(2)
    watched = page.evaluate(STRAY)
    assert watched["state"] == "playing", watched
    assert min(watched["seen"]) >= 3, f"the videos do not play: {watched}"
    assert watched["apart"] < 1, f"the videos are a frame or more apart: {watched}"
    assert min(watched["sizes"]) >= 256, watched

    page.get_by_role("button", name="Pause").click()
    page.locator("#player .scrub").fill("2")
    expect(page.locator("#player .where")).to_have_text(re.compile(r"^3 / "))
    at = (
        "[...document.querySelectorAll('#player video')].filter(v => v.checkVisibility())"
        ".map(v => [v.paused, v.seeking, v.currentTime])"
    )
    page.wait_for_function(f"{at}.every(([paused, seeking]) => paused && !seeking)")
    (_, _, left), (_, _, right) = page.evaluate(at)
    assert left == pytest.approx(right, abs=0.02)
    # The anchor of the next animation can be another one: the vanilla video of this seed is still there.
    page.get_by_role("button", name="Back to the best candidate").click()
    expect(page.locator("#anchor-words")).to_contain_text("highest reward")


@pytest.mark.slow
def test_a_picture_of_my_own(page, tmp_path):
    picture = tmp_path / "mine.png"
    pixels = np.zeros((90, 160, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[:, 80:, 3] = 255
    Image.fromarray(pixels).save(picture)
    fill_form(page, candidates=2, steps=3)
    set_number(page, "Frames", 4)
    draw(page, 2)
    page.get_by_role("button", name="Use an image of my own").click()
    page.locator("#own-picture input[type=file]").set_input_files(picture)
    expect(page.locator("#anchor-words")).to_contain_text("Uploaded image")
    wait_until(lambda: not marked(page, "✓"))
    page.locator("#animate").click()
    expect(page.get_by_text("Done in")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#player video:visible")).to_have_count(2)

    page.get_by_role("button", name="Back to the best candidate").click()
    expect(page.locator("#anchor-words")).to_contain_text("highest reward")


def test_a_heic_photo_can_be_the_anchor(page):
    """As iPhones make them; Chromium itself cannot show one."""
    page.get_by_role("button", name="Use an image of my own").click()
    page.locator("#own-picture input[type=file]").set_input_files(ROOT / "tests" / "data" / "photo.heic")
    expect(page.locator("#anchor-words")).to_contain_text("Uploaded image")
    expect(page.locator("#anchor img")).to_have_js_property("complete", True)
    assert page.locator("#anchor img").evaluate("image => image.naturalWidth") > 0
    expect(page.locator("#animate")).to_be_enabled()


def test_a_file_that_is_no_picture_is_refused(page, tmp_path):
    text = tmp_path / "broken.png"
    text.write_text("not a picture")
    page.get_by_role("button", name="Use an image of my own").click()
    page.locator("#own-picture input[type=file]").set_input_files(text)
    expect(page.get_by_text("cannot be read as a picture")).to_be_visible()
    expect(page.locator("#anchor-words")).to_contain_text("highest reward")
    expect(page.locator("#own-picture input[type=file]")).to_have_count(1)  # ready for another one


def test_stop_keeps_what_is_there(page):
    fill_form(page, candidates=2, steps=3)
    draw(page, 2)
    set_number(page, "Denoising steps", 100)
    page.locator("#animate").click()
    expect(page.locator("#live")).to_contain_text(re.compile(r"NI-VSDS\): step [1-9]"), timeout=PATIENCE)
    expect(page.locator("#save-all")).to_be_hidden()  # it would save another run than the one under way
    page.locator("#stop-animate").click()
    expect(page.locator("#live")).to_contain_text("Stopped")
    expect(page.locator("#animate")).to_be_enabled()
    expect(page.locator("#save-all")).to_be_visible()  # the videos of the earlier run still play
    expect(page.locator(CARDS)).to_have_count(2)
    page.locator(CARDS).nth(1).click()
    expect(page.locator("#anchor-words")).to_contain_text("Candidate 2")

    set_number(page, "Candidates", LONG["candidates"])
    set_number(page, "Denoising steps", LONG["steps"])
    page.get_by_role("button", name="Draw candidates").click()
    expect(page.locator("#candidates-status")).to_contain_text(re.compile(r"step [1-9]"), timeout=PATIENCE)
    page.locator("#stop-candidates").click()
    expect(page.locator("#candidates-status")).to_contain_text("Stopped")
    expect(page.get_by_role("button", name="Draw candidates")).to_be_enabled()


def test_wrong_input_is_said_and_nothing_is_lost(page):
    fill_form(page, candidates=2, steps=3, prompt="a rocket next to a zyzzyva")
    expect(page.locator("#note")).to_contain_text("zyzzyva")
    draw(page, 2)
    page.get_by_label("Prompt", exact=True).fill(" ")
    page.get_by_role("button", name="Draw candidates").click()
    expect(page.get_by_text("Write a prompt first")).to_be_visible()
    expect(page.locator(CARDS)).to_have_count(2)
    expect(page.get_by_role("button", name="Draw candidates")).to_be_enabled()


@pytest.mark.slow
def test_the_second_person_waits_in_a_queue_and_can_leave_it(browser, url, page):
    fill_form(page, **LONG)
    with quiet_page(browser, url) as second:
        wait_for_first_run(second)
        second.get_by_label("Prompt", exact=True).fill("a parrot rising at sunset")
        page.get_by_role("button", name="Draw candidates").click()
        expect(page.locator("#candidates-status")).to_contain_text(re.compile(r"step [1-9]"), timeout=PATIENCE)
        second.get_by_role("button", name="Draw candidates").click()
        expect(second.locator("#candidates-status")).to_contain_text("Position 1")
        second.get_by_role("button", name="Leave the queue").click()
        expect(second.get_by_text("You left the queue")).to_be_visible()
        expect(second.get_by_role("button", name="Draw candidates")).to_be_enabled()
        page.locator("#stop-candidates").click()
        expect(page.locator("#candidates-status")).to_contain_text("Stopped")
