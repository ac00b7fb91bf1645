"""Curating, keeping and coming back, in a real browser: the paths beside the main one of test_browser.py."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from playwright.sync_api import Page, expect

from i4vgen.config import GenerationConfig
from i4vgen.events import PICKED, Selected
from i4vgen.media import read_video, write_video
from i4vgen.storage.recipe import Recipe
from i4vgen.studio.remembering import REMEMBER, remembered_run
from pocket.world import KINDS
from tests.browser.test_browser import LONG, PATIENCE, captions, draw, fill_form, marked, set_number
from tests.support.browsing import CARDS, quiet_page, wait_for_first_run
from tests.support.gradio_protocol import device_taken
from tests.support.waiting import wait_until

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND, *_, LAST = json.loads((ROOT / "examples.json").read_text(encoding="utf-8"))
POCKET = json.loads((ROOT / "assets" / "pocket" / "i4vgen.json").read_text())
SHOWN = "#player video:visible"
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def expect_to_fit_a_phone(page: Page) -> None:
    before = page.viewport_size
    page.set_viewport_size(PHONE["viewport"])
    wait_until(lambda: page.evaluate(TOO_WIDE) <= 0)
    page.set_viewport_size(before)


def animate(page: Page) -> None:
    page.locator("#animate").click()
    expect(page.get_by_text("Done in")).to_be_visible(timeout=PATIENCE)


def saved(page: Page, button: str, folder) -> str:
    """Clicks a button that saves; the path of what came."""
    with page.expect_download() as download:
        page.locator(button).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_the_page_begins_with_a_finished_run_and_examples_bring_theirs(page):
    expect(page.locator(CARDS)).to_have_count(16)
    expect(page.locator(SHOWN)).to_have_count(2)
    expect(page.locator("#report")).to_contain_text("Flicker")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(FIRST["prompt"])
    expect(page.locator("#animate")).to_be_enabled()
    page.locator("#examples").get_by_text(SECOND["prompt"]).click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(SECOND["prompt"])
    expect(page.get_by_label("Seed", exact=True)).to_have_value(str(SECOND["seed"]))
    expect(page.locator("#gallery .caption-label").first).to_contain_text(f"seed {SECOND['seed']}#1")
    expect(page.locator("#candidates-status")).to_contain_text("stored run")


def test_pick_by_keyboard_and_by_the_chart(page):
    expect(page.locator(CARDS)).to_have_count(16)
    page.locator(CARDS).first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    grid = "getComputedStyle(document.querySelector('#gallery .grid-container')).gridTemplateColumns"
    columns = page.evaluate(f"{grid}.split(' ').length")
    page.keyboard.press("Enter")
    expect(page.locator("#anchor-words")).to_contain_text(f"Candidate {columns + 2} of 16")
    expect(page.locator("#anchor-words")).to_contain_text("your pick")
    worst = page.locator("#chart button").first
    number = int(re.search(r"Candidate (\d+)", worst.get_attribute("aria-label"))[1])
    worst.click()
    expect(page.locator("#anchor-words")).to_contain_text(f"Candidate {number} of 16")
    expect(page.locator("#chart button[aria-pressed=true]")).to_have_count(1)
    wait_until(lambda: marked(page, "✓") == [number - 1])


def test_the_best_are_ticked_and_the_gallery_says_how_they_were_judged(page):
    expect(page.locator(CARDS)).to_have_count(16)
    expect(page.locator("#gallery .saw")).to_have_text(
        re.compile(r"^pocket judged 16: best .+, mean .+, worst ")
    )
    ends = [page.locator(f"#gallery li.{end} .end") for end in ("best", "worst")]
    for words, end in zip(("best", "worst"), ends, strict=True):
        expect(end).to_have_text(words)
    best = page.locator("#gallery li.best .caption-label").text_content()
    assert "rank 1 " in best and "rank 16 " in page.locator("#gallery li.worst .caption-label").text_content()

    page.get_by_role("button", name="Advanced settings").click()
    expect(page.locator("#animate-best")).to_contain_text("takes that many times as long")
    set_number(page, "Animate the best", 3)
    expect(page.locator("#animate")).to_have_text("Animate 3 anchors")
    wait_until(lambda: len(marked(page, "✓")) == 3)
    ranks = [text.split("rank ")[1].split()[0] for text in captions(page) if "✓" in text]
    assert sorted(ranks) == ["1", "2", "3"]
    expect(page.locator("#back")).to_be_hidden()
    page.locator("#gallery li.worst .thumbnail-lg").click()
    expect(page.locator("#animate")).to_have_text("Animate this anchor")
    page.locator("#back").click()
    expect(page.locator("#animate")).to_have_text("Animate 3 anchors")


def test_sort_star_drop_and_bring_back(page):
    expect(page.locator(CARDS)).to_have_count(16)
    page.get_by_label("By score").click()
    expect(page.locator("#gallery .caption-label").first).to_contain_text("rank 1 ·")
    wait_until(lambda: all(f"rank {i + 1} ·" in text for i, text in enumerate(captions(page))))
    page.locator(CARDS).nth(1).click()
    expect(page.locator("#gallery .caption-label").nth(1)).to_contain_text("✓")
    page.locator("#star").click()
    expect(page.locator("#star")).to_contain_text("Starred")
    wait_until(lambda: marked(page, "★") == [1])
    page.locator("#drop").click()
    expect(page.locator(CARDS)).to_have_count(15)
    expect(page.locator("#anchor-words")).to_contain_text("highest reward")
    page.locator("#restore").click()
    expect(page.locator(CARDS)).to_have_count(16)
    expect(page.locator("#restore")).to_be_hidden()
    wait_until(lambda: marked(page, "★") == [1])


@pytest.mark.slow
def test_several_anchors_are_animated_and_compared(browser, url):
    with quiet_page(browser, url) as page:
        wait_for_first_run(page)
        fill_form(page, candidates=3, steps=2)
        set_number(page, "Frames", 4)
        draw(page, 3)
        ticks = page.get_by_role("checkbox", name=re.compile("^Animate candidate"))
        (best,) = wait_until(lambda: marked(page, "✓"))
        other, third = sorted({0, 1, 2} - {best})
        expect(ticks.nth(best)).to_be_checked()
        page.locator(CARDS).nth(other).focus()
        page.keyboard.press("x")
        expect(page.locator("#animate")).to_have_text("Animate 2 anchors")
        expect(page.locator("#anchor-words")).to_contain_text(f"together with candidate {best + 1}")
        wait_until(lambda: marked(page, "✓") == sorted([best, other]))
        ticks.nth(third).click()
        expect(page.locator("#animate")).to_have_text("Animate 3 anchors")
        ticks.nth(third).focus()
        page.keyboard.press("Space")
        expect(ticks.nth(third)).not_to_be_checked()
        expect(ticks.nth(third)).to_be_focused()
        expect(page.locator("#animate")).to_have_text("Animate 2 anchors")

        animate(page)
        numbers = [index + 1 for index in sorted([best, other])]
        names = [f"Candidate {number}" for number in numbers]
        expect(page.get_by_role("rowheader")).to_have_text(["Vanilla", *names])
        expect(page.locator("#player .player")).to_have_attribute("data-mode", "grid")
        keys = [f"i4vgen-{number}" for number in numbers]
        assert page.locator("#player .pane:visible").evaluate_all(
            "panes => panes.map(pane => pane.dataset.name)"
        ) == ["vanilla", *keys]
        winner = page.locator("#player .result").get_attribute("data-name")
        kept = page.locator("#keep").get_by_label(f"Candidate {winner.removeprefix('i4vgen-')} ♛")
        expect(kept).to_be_checked()
        expect(page.locator("#history button.thumbnail-lg")).to_have_count(2)
        page.wait_for_url(re.compile("run="))
        expect_to_fit_a_phone(page)

        link = page.url
        (loser,) = set(keys) - {winner}
        number = loser.removeprefix("i4vgen-")
        page.locator("#keep").get_by_label(f"Candidate {number}", exact=True).check()
        page.wait_for_url(lambda address: "run=" in address and address != link)
        link = page.url
    with quiet_page(browser, link) as page:  # in another browser a link shows one of them
        expect(page.locator("#anchor-words")).to_contain_text(f"Candidate {number} of 3")
        expect(page.locator("#animate")).to_have_text("Animate this anchor")
        expect(page.locator("#keep")).to_be_hidden()
        expect(page.locator("#player .player")).to_have_attribute("data-mode", "side")
        expect(page.get_by_role("rowheader")).to_have_text(["Vanilla", "NI-VSDS", "I4VGen"])


@pytest.mark.slow
def test_queued_prompts_outlive_their_tab_and_can_be_taken_out(browser, url):
    cards, rows = "#history button.thumbnail-lg", "#queue li"
    with quiet_page(browser, url) as page:
        wait_for_first_run(page)
        fill_form(page, candidates=2, steps=2)
        set_number(page, "Frames", 4)
        page.get_by_label("Seed", exact=True).fill("81")
        page.get_by_role("button", name="Several prompts").click()
        box = page.get_by_label("Prompts, one on a line")
        box.fill(f"a racing car at sunset\n{'a' * 2001}\na whale by the sea\na duck under water")
        with device_taken(url):
            page.locator("#queue-them").click()
            expect(page.locator(".said")).to_contain_text("3 prompts are queued. 1 line could not be queued")
            expect(box).to_have_value("a" * 2001)
            expect(page.get_by_role("button", name="Draw candidates")).to_be_enabled()
            page.get_by_role("button", name="Leave the queue: a duck").click()
            expect(page.locator(rows).filter(has_text="a duck")).to_have_count(0)
            expect_to_fit_a_phone(page)

        other = page.context.new_page()  # the browser stays, the tab is closed
        page.close()
        other.goto(url)
        expect(other.locator(cards)).to_have_count(2, timeout=PATIENCE)
        expect(other.locator(cards).first).to_contain_text("a whale by the sea")
        expect(other.locator(cards).last).to_contain_text("seed 81")
        other.locator(cards).last.scroll_into_view_if_needed()
        other.wait_for_function("document.querySelector('#history img').naturalWidth > 0")
        expect(other.locator(rows)).to_have_count(0)
        other.locator(cards).last.click()
        expect(other.get_by_label("Prompt", exact=True)).to_have_value("a racing car at sunset")
        expect(other.locator(CARDS)).to_have_count(2)
        expect(other.locator(SHOWN)).to_have_count(2)
        other.reload()  # what is collected stays collected
        expect(other.locator(cards)).to_have_count(2)


def test_what_the_server_does_not_know_any_more_is_said_and_can_be_queued_again(browser, url):
    with quiet_page(browser, url) as page:
        expect(page.locator(CARDS)).to_have_count(16)  # what it loads is not to be broken off
        page.evaluate(
            "([key, queued]) => localStorage.setItem(key, JSON.stringify(queued))",
            ["i4vgen-queue", [{"run": "x" * 16, "prompt": "a <b>car</b>"}]],
        )
        page.reload()
        expect(page.locator("#queue li")).to_contain_text("the server was reset before this run")
        expect(page.locator("#queue .prompt")).to_have_text("a <b>car</b>")
        page.locator("#again").click()
        expect(page.locator("#queue li")).to_have_count(0)
        expect(page.get_by_label("Prompts, one on a line")).to_have_value("a <b>car</b>")
        page.get_by_label("Prompts, one on a line").fill(" ")
        page.locator("#queue-them").click()
        expect(page.get_by_text("Write a prompt on each line first")).to_be_visible()
        expect(page.get_by_text("out of step")).to_have_count(0)


@pytest.mark.slow
def test_more_candidates_score_again_export_and_load_back(page, tmp_path):
    fill_form(page, candidates=2, steps=2)
    draw(page, 2)
    page.locator("#more").click()
    expect(page.locator(CARDS)).to_have_count(10, timeout=PATIENCE)
    expect(page.locator("#gallery .caption-label").last).to_contain_text("#10")
    expect(page.get_by_text("8 candidates in")).to_be_visible(timeout=PATIENCE)  # the run is over

    before = captions(page)
    page.get_by_label("Prompt", exact=True).fill("a whale by the sea")
    page.locator("#rescore").click()
    expect(page.locator("#candidates-status")).to_contain_text(
        "ranked by “a whale by the sea”", timeout=PATIENCE
    )
    expect(page.locator("#anchor-words")).to_contain_text("Scored against “a whale by the sea”")
    wait_until(lambda: captions(page) != before)
    expect(page.get_by_role("button", name="Draw candidates")).to_be_enabled()  # cards can be picked again

    page.locator(CARDS).nth(4).click()
    expect(page.locator("#anchor-words")).to_contain_text("Candidate 5")
    page.locator("#star").click()
    expect(page.locator("#star")).to_contain_text("Starred")
    page.locator(CARDS).nth(0).click()
    expect(page.locator("#anchor-words")).to_contain_text("Candidate 1 of")
    page.locator("#drop").click()
    expect(page.locator(CARDS)).to_have_count(9)
    page.locator(CARDS).nth(3).click()
    expect(page.locator("#anchor-words")).to_contain_text("Candidate 5")
    wait_until(lambda: marked(page, "✓") == [3])
    path = saved(page, "#export", tmp_path)
    with zipfile.ZipFile(path) as packed:
        names = packed.namelist()
        rows = list(csv.DictReader(io.StringIO(packed.read("scores.csv").decode())))
        run = json.loads(packed.read("run.json"))
    assert sum(name.startswith("candidates/") for name in names) == 9 and "candidates/00.png" not in names
    assert [row["index"] for row in rows if row["starred"] == "1"] == ["4"] == [str(i) for i in run["stars"]]
    shown = captions(page)

    fill = page.locator("#examples").get_by_text(LAST["prompt"])
    fill.click()
    expect(page.locator(CARDS)).to_have_count(16)
    page.locator("#runs input[type=file]").set_input_files(path)
    expect(page.locator("#candidates-status")).to_contain_text("restored")
    expect(page.locator(CARDS)).to_have_count(9)
    wait_until(lambda: captions(page) == shown)
    expect(page.locator("#anchor-words")).to_contain_text("Candidate 5")
    animate(page)


@pytest.mark.slow
def test_runs_come_back_from_history_link_and_file(browser, url, page, tmp_path):
    fill_form(page, candidates=2, steps=2)
    page.get_by_label("Seed", exact=True).fill("77")
    draw(page, 2)
    page.locator(CARDS).nth(1).click()
    animate(page)
    expect(page.locator("#report")).to_contain_text("Flicker")
    expect(page.locator("#history button.thumbnail-lg")).to_have_count(1)
    expect(page.locator("#history")).to_contain_text("seed 77")
    page.wait_for_url(re.compile("run="))
    figures = page.locator("#report table").inner_text()
    link = page.url

    side = saved(page, "#save-side", tmp_path)
    frames, _ = read_video(side)
    assert frames.shape[2] > 3 * frames.shape[1] * 0.8, "three videos side by side"
    gif = Image.open(saved(page, "#save-gif", tmp_path))
    assert gif.format == "GIF" and gif.n_frames == POCKET["num_frames"]
    bundle = saved(page, "#save-all", tmp_path)
    with zipfile.ZipFile(bundle) as packed:
        names = packed.namelist()
        (tmp_path / "run.json").write_bytes(packed.read("run.json"))
    wanted = {"run.json", "scores.csv", "anchor.png", "vanilla.mp4", "ni_vsds.mp4", "i4vgen.mp4", "i4vgen.gif"}
    assert wanted <= set(names)

    def is_back(tab: Page) -> None:
        expect(tab.get_by_label("Seed", exact=True)).to_have_value("77")
        expect(tab.locator(CARDS)).to_have_count(2)
        expect(tab.locator("#anchor-words")).to_contain_text("Candidate 2 of 2")
        expect(tab.locator("#report table")).to_have_text(re.compile("Flicker"))
        wait_until(lambda: tab.locator("#report table").inner_text() == figures)
        expect(tab.locator(SHOWN)).to_have_count(2)

    page.reload()  # the address has it all
    is_back(page)
    page.goto(url)
    expect(page.locator(CARDS)).to_have_count(16)
    page.locator("#history button.thumbnail-lg").first.click()
    is_back(page)
    with quiet_page(browser, link) as other:  # another browser, which remembers nothing
        is_back(other)
        expect(other.locator("#history button.thumbnail-lg")).to_have_count(0)
    with quiet_page(browser, url) as other:
        other.locator("#runs input[type=file]").set_input_files(bundle)
        is_back(other)
        other.locator("#examples").get_by_text(LAST["prompt"]).click()
        expect(other.get_by_label("Seed", exact=True)).to_have_value(str(LAST["seed"]))
        other.locator("#runs input[type=file]").set_input_files(tmp_path / "run.json")
        expect(other.get_by_label("Seed", exact=True)).to_have_value("77")
        other.locator("#examples").get_by_text(LAST["prompt"]).click()
        expect(other.get_by_label("Seed", exact=True)).to_have_value(str(LAST["seed"]))
        other.locator("#runs input[type=file]").set_input_files(gif.filename)  # whose run the server still has
        is_back(other)
        (tmp_path / "other.json").write_text("{}")
        other.locator("#runs input[type=file]").set_input_files(tmp_path / "other.json")
        expect(other.get_by_text("other.json holds no run")).to_be_visible()


@pytest.mark.slow
def test_tabs_share_what_they_remember(browser, url):
    cards = "#history button.thumbnail-lg"
    earlier = remembered_run(
        "x" * 16, np.zeros((8, 8, 3), np.uint8), {"prompt": "a", "seed": 71, "model": "pocket"}
    )
    with quiet_page(browser, url) as first:
        second = first.context.new_page()
        second.goto(url)
        wait_for_first_run(second)
        first.evaluate(f"(run) => studio.addRuns({REMEMBER}, run)", earlier)  # as after a run of the first tab
        expect(second.locator(cards)).to_have_count(1)
        second.evaluate("() => localStorage.setItem('i4vgen-runs', 'damaged')")
        first.evaluate(f"(run) => studio.addRuns({REMEMBER}, run)", earlier)
        wait_for_first_run(first)
        fill_form(second, candidates=2, steps=2)
        set_number(second, "Frames", 4)
        second.get_by_label("Seed", exact=True).fill("72")
        draw(second, 2)
        animate(second)
        for tab in (first, second):
            expect(tab.locator(cards)).to_have_count(2)
            expect(tab.locator(cards).first).to_contain_text("seed 72")
            expect(tab.locator(cards).last).to_contain_text("seed 71")
        first.reload()
        expect(first.locator(cards)).to_have_count(2)
        first.locator(cards).last.click()
        expect(first.get_by_label("Seed", exact=True)).to_have_value("71")
        first.locator("#forget").click()
        for tab in (first, second):
            expect(tab.locator(cards)).to_have_count(0)


FILL_STORAGE = """() => {
  for (let size = 2 ** 23, all = ""; size >= 1; size /= 2) try {
    localStorage.setItem("full", all + "x".repeat(size));
    all += "x".repeat(size);
  } catch {}
}"""


def test_what_a_full_storage_does_not_take_stays_on_the_page(browser, url):
    settings = {"prompt": "a", "seed": 7, "model": "pocket"}
    runs = [remembered_run(letter * 16, np.zeros((8, 8, 3), np.uint8), settings) for letter in "abc"]
    add, cards = f"(run) => studio.addRuns({REMEMBER}, run)", "#history button.thumbnail-lg"
    with quiet_page(browser, url) as page:
        expect(page.locator(CARDS)).to_have_count(16)
        page.evaluate(add, runs[0])
        page.evaluate(FILL_STORAGE)
        page.evaluate(add, runs[1])
        page.evaluate("(added) => studio.changeQueue({ added })", [{"run": "d" * 16, "prompt": "a car"}])
        for button, shown, count in (("recall", cards, 2), ("come-back", "#queue li", 1)):
            page.locator(f"#{button}").dispatch_event("click")
            expect(page.locator(shown)).to_have_count(count)
        page.evaluate("() => localStorage.removeItem('full')")
        page.evaluate(add, runs[2])
        page.reload()
        expect(page.locator(cards)).to_have_count(3)


@pytest.mark.slow
def test_any_number_of_tabs_load_beside_a_run(browser, url):
    with quiet_page(browser, url) as first:
        wait_for_first_run(first)
        fill_form(first, **LONG)
        first.get_by_role("button", name="Draw candidates").click()
        expect(first.locator("#stop-candidates")).to_be_visible()
        tabs = [first.context.new_page() for _ in range(7)]
        for tab in tabs:
            tab.goto(url)
        for tab in tabs:
            expect(tab.locator(CARDS)).to_have_count(16)
        first.locator("#stop-candidates").click()
        fill_form(tabs[-1], candidates=2, steps=2)
        draw(tabs[-1], 2)


def drop(page: Page, name: str, data: bytes) -> None:
    """Drops a file of this name on the top of the page."""
    carried = page.evaluate_handle(
        """([name, data]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
          return carried;
        }""",
        [name, base64.b64encode(data).decode()],
    )
    page.locator("#masthead").dispatch_event("drop", {"dataTransfer": carried})


def test_a_run_json_can_be_dropped_anywhere_on_the_page(page):
    with zipfile.ZipFile(ROOT / LAST["run"]) as packed:
        data = packed.read("run.json")
    expect(page.locator(CARDS)).to_have_count(16)
    drop(page, "run.json", data)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(LAST["prompt"])
    expect(page.get_by_label("Seed", exact=True)).to_have_value(str(LAST["seed"]))


def test_a_video_that_is_dropped_on_the_page_restores_its_settings(page, tmp_path):
    with zipfile.ZipFile(ROOT / LAST["run"]) as packed:
        run = json.loads(packed.read("run.json"))
    request = run["request"] | {"seed": 4321, "num_inference_steps": 9, "negative_prompt": 'a "<b>whale</b>"'}
    frames = np.zeros((2, 96, 96, 3), np.uint8)
    anchor = Selected(2, frames[0], PICKED)
    recipe = Recipe(GenerationConfig.from_dict(request), run, anchor)
    write_video(tmp_path / "mine.mp4", frames, 8, comment=recipe.to_json(["freeinit"]))
    expect(page.locator(CARDS)).to_have_count(16)
    drop(page, "mine.mp4", (tmp_path / "mine.mp4").read_bytes())
    expect(page.get_by_label("Seed", exact=True)).to_have_value("4321")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(LAST["prompt"])
    expect(page.get_by_text("Its anchor was candidate 3, picked by hand.")).to_be_visible()
    page.get_by_role("button", name="Advanced settings").click()
    expect(page.get_by_label("Negative prompt")).to_have_value(request["negative_prompt"])
    expect(page.get_by_label("number input for Denoising steps")).to_have_value("9")
    page.wait_for_url(re.compile("compare=freeinit"))
    write_video(tmp_path / "plain.mp4", frames, 8)
    drop(page, "plain.mp4", (tmp_path / "plain.mp4").read_bytes())
    expect(page.get_by_text("plain.mp4 does not say how it was made")).to_be_visible()


def test_a_link_restores_the_form_and_says_what_it_cannot_use(browser, url):
    query = "prompt=a+parrot+at+sunset&seed=5&num_inference_steps=7&compare=vanilla,freeinit&num_frames=many"
    with quiet_page(browser, f"{url}/?{query}") as page:
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("a parrot at sunset")
        expect(page.get_by_label("Seed", exact=True)).to_have_value("5")
        expect(page.get_by_text("could not be used: num_frames")).to_be_visible()
        page.get_by_role("button", name="Advanced settings").click()
        expect(page.get_by_label("number input for Denoising steps")).to_have_value("7")
        expect(page.get_by_label("FreeInit")).to_be_checked()


def test_frames_and_seconds_follow_each_other(page):
    page.get_by_role("button", name="Advanced settings").click()
    seconds, frames = page.get_by_label("Seconds"), page.get_by_label("number input for Frames")
    fps, most = POCKET["fps"], int(page.locator("#num-frames input[type=range]").get_attribute("max"))
    expect(seconds).to_have_value(f"{POCKET['num_frames'] / fps:g}")
    set_number(page, "Frames", 6)
    expect(seconds).to_have_value(f"{6 / fps:g}")
    for typed, count in (("1.27", round(1.27 * fps)), ("99", most), ("0.01", 2)):
        seconds.fill(typed)
        expect(frames).to_have_value(str(count))
        expect(seconds).to_have_value(typed)  # until one is done
        seconds.press("Tab")
        expect(seconds).to_have_value(f"{count / fps:g}")
    seconds.fill("")
    seconds.press("Tab")
    expect(seconds).to_have_value(f"{2 / fps:g}")
    expect(frames).to_have_value("2")
    page.locator("#examples").get_by_text(LAST["prompt"]).click()
    expect(seconds).to_have_value(f"{POCKET['num_frames'] / fps:g}")


def test_prompts_from_right_to_left_are_written_so(page):
    page.get_by_role("button", name="Several prompts").click()
    for box in (page.get_by_label("Prompt", exact=True), page.locator("#several textarea")):
        for text, direction in (("ציפור מעל הים, a bird", "rtl"), ("a bird over the sea", "ltr")):
            box.fill(text)
            assert box.evaluate("(box) => getComputedStyle(box).direction") == direction


def test_chips_make_a_prompt(page):
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("")
    for chip, composed in (
        ("bird", "a bird"),
        ("falling", "a bird falling"),
        ("at sunset", "a bird falling at sunset"),
        ("animal", "an animal falling at sunset"),
        ("by the sea", "an animal falling by the sea"),
    ):
        page.locator("#chips").get_by_text(chip, exact=True).click()
        expect(prompt).to_have_value(composed)


@pytest.mark.parametrize("options", [{}, pytest.param(PHONE, marks=pytest.mark.slow)], ids=["1440", "390"])
def test_chips_come_in_pages_of_ten_with_the_kinds_first(browser, url, options):
    names = [synonyms[0] for synonyms in POCKET["phrases"]["subject"]]
    last = (len(names) + 9) // 10
    with quiet_page(browser, url, **options) as page:
        prompt, subjects = page.get_by_label("Prompt", exact=True), page.locator("#chips .chips").first
        prompt.fill("a bird falling at sunset")
        expect(subjects.locator(".gallery-item")).to_have_text(list(KINDS))
        for number, member, composed in (
            (2, "owl", "an owl falling at sunset"),
            (last, "broken heart", "a broken heart falling at sunset"),
            (1, "sea creature", "a sea creature falling at sunset"),
        ):
            subjects.get_by_role("button", name=str(number), exact=True).click()
            shown = names[10 * (number - 1) : 10 * number]
            expect(subjects.locator(".gallery-item")).to_have_text(shown)
            subjects.get_by_role("button", name=member, exact=True).click()
            expect(prompt).to_have_value(composed)
            expect(subjects.locator(".gallery-item")).to_have_text(shown)  # the page stays
        assert page.evaluate(TOO_WIDE) <= 0


def test_my_own_picture_shows_what_is_cut_off(page, tmp_path):
    halves = Image.new("RGB", (400, 200), (220, 30, 30))
    halves.paste((30, 30, 220), (200, 0, 400, 200))
    halves.save(tmp_path / "halves.png")
    expect(page.locator(CARDS)).to_have_count(16)
    page.get_by_role("button", name="Use an image of my own").click()
    page.locator("#own-picture input[type=file]").set_input_files(tmp_path / "halves.png")
    expect(page.locator("#anchor-words")).to_contain_text("Uploaded image")
    expect(page.locator("#crop img")).to_be_visible()
    page.get_by_label("range slider for Move the crop").focus()
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    blue = """async () => {
      const image = document.querySelector('#anchor img');
      await image.decode();
      const canvas = document.createElement('canvas').getContext('2d');
      canvas.drawImage(image, 0, 0);
      const [red, , blue] = canvas.getImageData(10, 10, 1, 1).data;
      return blue > 150 && red < 80;
    }"""
    page.wait_for_function(blue)


def test_a_phone(browser, url):
    with quiet_page(browser, url, **PHONE) as page:
        expect(page.locator(CARDS)).to_have_count(16)
        expect(page.locator(SHOWN)).to_have_count(2)
        page.locator(CARDS).nth(2).tap()
        expect(page.locator("#anchor-words")).to_contain_text("Candidate 3 of 16")
        page.get_by_role("checkbox", name=re.compile("^Animate candidate")).nth(4).tap()
        expect(page.locator("#animate")).to_have_text("Animate 2 anchors")
        assert page.evaluate(TOO_WIDE) <= 0


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_the_first_screen_shows_before_and_after_in_step(browser, url, size):
    with quiet_page(browser, url, viewport={"width": size[0], "height": size[1]}) as page:
        picture = page.locator(".opening img")
        box = picture.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= size[1], "seen without scrolling"
        with Image.open(io.BytesIO(base64.b64decode(picture.get_attribute("src").partition(",")[2]))) as film:
            frames = [np.array(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(film)]
        half = frames[0].shape[1] // 2
        for before, after in pairwise(frames):
            assert (np.abs(after - before)[:, :half].mean(), np.abs(after - before)[:, half:].mean()) > (0, 0)
        expect(page.locator(".opening .halves b")).to_have_text(["Vanilla", "I4VGen"])
