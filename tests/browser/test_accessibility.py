"""The page in each of its states: axe-core finds no violation, light and dark, and live regions speak once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.browser.test_browser import LONG, PATIENCE, draw, fill_form, set_number
from tests.browser.test_studio import PHONE
from tests.support.browsing import CARDS, quiet_page

EXCEPTIONS = json.loads((Path(__file__).parent / "axe_exceptions.json").read_text(encoding="utf-8"))
"""Violations of Gradio's own nodes: by the rule, patterns of their HTML and what is wrong with them."""

SETTLED = """() => new Promise(requestAnimationFrame).then(() => Promise.allSettled(document.getAnimations()
  .filter((each) => each.playState === "running" && each.effect.getComputedTiming().iterations !== Infinity)
  .map((each) => each.finished))).then(() => null)"""
"""Waits for transitions: a colour half-way has too little contrast."""

AXE = "context => axe.run(context, { resultTypes: ['violations'] })"
LIVE_REGIONS = """() => {
  const selector = "[role=status], [role=alert], [role=log], output, [aria-live]";
  const speaks = (node) => node.getAttribute("aria-live") !== "off" && node.checkVisibility();
  const regions = [...document.querySelectorAll(selector)].filter(speaks);
  return regions.map((node) => ({
    words: node.textContent.trim(),
    isNested: regions.some((other) => other !== node && other.contains(node)),
  })).filter(({ words }) => words);
}"""
ENDLESS = """() => document.getAnimations()
  .filter((each) => each.playState === "running" && each.effect.getComputedTiming().iterations === Infinity)
  .map((each) => each.effect.target.outerHTML.slice(0, 200))"""


def is_excepted(rule: str, html: str) -> bool:
    return any(re.search(pattern, html) for pattern in EXCEPTIONS.get(rule, {}))


def violations(page: Page, within: str) -> list[str]:
    """What axe-core finds in a part of the page as it is now, Gradio's own nodes excepted."""
    page.evaluate(SETTLED)
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(AXE_SCRIPT)
    return [
        f"{rule['id']}: {node['html'][:200]}\n{node['failureSummary'][:300]}"
        for rule in page.evaluate(AXE, within)["violations"]
        for node in rule["nodes"]
        if not is_excepted(rule["id"], node["html"])
    ]


class Checks:
    """Collects what is wrong in the states of a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []

    def __call__(self, state: str, within: str = "html") -> None:
        """Checks the page in a state.

        Args:
            state: Names it in messages.
            within: What to look at: one panel during a run, because a page that is busy for seconds reloads.
        """
        problems = []
        for theme in ("light", "dark"):
            self.page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
            problems += [f"{theme}: {problem}" for problem in violations(self.page, within)]
        regions = self.page.evaluate(LIVE_REGIONS)
        words = [region["words"] for region in regions]
        problems += [f"said twice: {each}" for each in words if words.count(each) > 1]
        problems += [f"said by two regions: {region['words']}" for region in regions if region["isNested"]]
        self.problems += [f"{state}, {problem}" for problem in problems]


@pytest.mark.slow
def test_no_state_of_the_page_has_a_violation(page):
    check = Checks(page)
    expect(page.locator("#report")).to_contain_text("Flicker")
    check("first paint")
    page.get_by_label("Prompt", exact=True).fill(" ")
    page.get_by_role("button", name="Draw candidates").click()
    expect(page.get_by_text("Write a prompt first")).to_be_visible()
    check("error")

    fill_form(page, **LONG)
    set_number(page, "Frames", 4)
    page.get_by_role("button", name="Draw candidates").click()
    expect(page.locator("#candidates-status")).to_contain_text(re.compile(r"step [1-9]"), timeout=PATIENCE)
    check("drawing", within="#choose")
    page.locator("#stop-candidates").click()
    expect(page.locator("#candidates-status")).to_contain_text("Stopped", timeout=PATIENCE)
    set_number(page, "Candidates", 2)
    set_number(page, "Denoising steps", 2)
    draw(page, 2)
    check("candidates")
    for section in ("Model and reward", "Use an image of my own", "Several prompts"):
        page.get_by_role("button", name=section).click()
    check("all sections open")

    page.get_by_role("checkbox", name=re.compile("^Animate candidate"), checked=False).first.click()
    expect(page.locator("#animate")).to_have_text("Animate 2 anchors")
    set_number(page, "Denoising steps", 25)
    page.locator("#animate").click()
    expect(page.locator("#live")).to_contain_text(re.compile(r"step \d+ of \d+"), timeout=PATIENCE)
    check("running", within="#watch")
    expect(page.get_by_text("Done in")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#keep")).to_be_visible()
    expect(page.locator("#history button.thumbnail-lg")).to_have_count(2)
    check("finished, several anchors, history")
    page.get_by_role("button", name="Wipe").click()
    check("compare with a wipe")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    check("keyboard shortcuts")
    page.keyboard.press("Escape")
    page.locator("#report thead button").first.focus()
    check("meaning of a metric")
    assert not check.problems, "\n".join(check.problems)


def test_a_phone_has_no_violation(browser, url):
    with quiet_page(browser, url, **PHONE) as page:
        check = Checks(page)
        expect(page.locator(CARDS)).to_have_count(16)
        expect(page.locator("#report")).to_contain_text("Flicker")
        check("phone")
        for section in ("Advanced settings", "Model and reward", "Use an image of my own", "Several prompts"):
            page.get_by_role("button", name=section).click()
        check("phone, all sections open")
        page.get_by_role("button", name="Grid").click()
        check("phone, compare in a grid")
        assert not check.problems, "\n".join(check.problems)


def test_nothing_moves_by_itself_with_reduced_motion(browser, url):
    with quiet_page(browser, url, reduced_motion="reduce") as page:
        expect(page.locator("#report")).to_contain_text("Flicker")
        expect(page.locator("#player .player")).not_to_have_attribute("data-state", "playing")
        assert page.locator("#player video").evaluate_all("all => all.every((video) => video.paused)")
        assert page.evaluate(ENDLESS) == []
        opening = page.locator(".masthead picture img")
        assert opening.evaluate("image => image.currentSrc !== image.src"), "the still picture"
