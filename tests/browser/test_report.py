"""The report under the player: its value, and the real component in a real browser."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from i4vgen.metrics import METRICS, Measures
from i4vgen.studio.components.report import COLUMNS, Report, report_value
from i4vgen.studio.theme import Studio
from tests.support.browsing import PAGE_PATIENCE, ROOT, WITHOUT_THE_LATEST, quiet_page

CLUMSY = "<b>my & yours</b>"
MEASURES = {
    "vanilla": Measures(2.0, 0.4, 80.0, {"pocket": -0.5, CLUMSY: 1.0}),
    "freeinit": Measures(1.0, 0.9, 70.0, {"pocket": 0.25, CLUMSY: 2.0}),
    "i4vgen": Measures(1.5, 0.7, 90.0, {"pocket": 0.5, CLUMSY: 3.0}),
}


@pytest.fixture
def videos() -> dict[str, np.ndarray]:
    """Three videos in which row 20 is the busiest."""
    frames = np.random.default_rng(0).integers(0, 9, (3, 5, 24, 32, 3), dtype=np.uint8)
    frames[:, ::2, 20] = 255
    return dict(zip(MEASURES, frames, strict=True))


def texts_of(value: dict, column: int) -> list[str]:
    return [row["cells"][column]["text"] for row in value["rows"]]


def best_of(value: dict, column: int) -> list[str]:
    return [row["name"] for row in value["rows"] if row["cells"][column]["best"]]


def test_nothing_to_report():
    assert report_value({}, {}) is None


def test_one_row_per_video_and_one_column_per_figure(videos):
    value = report_value(videos, MEASURES)
    assert [row["label"] for row in value["rows"]] == ["Vanilla", "FreeInit", "I4VGen"]
    assert [column["label"] for column in value["columns"][:3]] == ["Flicker", "Motion", "Anchor kept"]
    assert texts_of(value, 0) == ["2.00\u00a0%", "1.00\u00a0%", "1.50\u00a0%"]
    assert texts_of(value, 2) == ["80.0\u00a0%", "70.0\u00a0%", "90.0\u00a0%"]
    assert texts_of(value, 3) == ["\u22120.50", "+0.25", "+0.50"]
    json.dumps(value)  # it has to reach the browser


def test_the_better_end_is_marked_where_there_is_one(videos):
    value = report_value(videos, MEASURES)
    assert [best_of(value, column) for column in range(5)] == [["freeinit"], [], *[["i4vgen"]] * 3]
    assert [column["arrow"] for column in value["columns"]] == ["↓", "", "↑", "↑", "↑"]
    assert "Lower is better" in value["columns"][0]["meaning"]


def test_what_looks_equal_is_marked_as_equal(videos):
    close = {
        "vanilla": Measures(1.001, 0, 50, {}),
        "freeinit": Measures(1.004, 0, 50, {}),
        "i4vgen": Measures(1.2, 0, 50, {}),
    }
    value = report_value(videos, close)
    assert best_of(value, 0) == ["vanilla", "freeinit"]
    assert best_of(value, 2) == [], "none is the best where all are the same"


def test_one_video_has_nothing_to_be_better_than(videos):
    value = report_value({"i4vgen": videos["i4vgen"]}, MEASURES)
    assert not any(cell["best"] for cell in value["rows"][0]["cells"])


def test_figures_that_cannot_be_said(videos):
    short = {name: Measures(math.nan, math.nan, 50, {}) for name in videos}
    value = report_value(videos, short)
    assert texts_of(value, 0) == ["–"] * 3 and best_of(value, 0) == []
    json.dumps(value, allow_nan=False)


def test_names_from_outside_stay_text(videos):
    label = report_value(videos, MEASURES)["columns"][4]["label"]
    assert "<b>" not in label and "&lt;b&gt;my &amp; yours" in label


def test_the_slices_show_the_same_row_of_every_video(videos):
    value = report_value(videos, MEASURES)
    assert "Row 21 of 24" in value["hint"]
    for row in value["rows"]:
        head, data = row["slice"].split(",")
        assert head == "data:image/webp;base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert np.array_equal(picture, videos[row["name"]][:, 20])


def test_every_metric_has_its_words():
    for metric in METRICS:
        assert all(COLUMNS[metric.name])


# In a browser


@pytest.fixture
def url(videos) -> Iterator[str]:
    """A page like the app's with nothing but a report of a table that is too wide for a phone."""
    with gr.Blocks(analytics_enabled=False) as demo, gr.Column(elem_classes="step"):
        report = Report(elem_id="report")
        demo.load(lambda: report_value(videos, MEASURES), None, report)
    css = (ROOT / "i4vgen" / "studio" / "style.css").read_text(encoding="utf-8")
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, theme=Studio(), css=css)
    try:
        yield address
    finally:
        demo.close(verbose=False)


@contextmanager
def phone_or_desk(browser: Browser, url: str, **options) -> Iterator[Page]:
    context = browser.new_context(**options)
    context.set_default_timeout(PAGE_PATIENCE)
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#report table")).to_be_visible()
    try:
        yield page
    finally:
        context.close()


def test_the_meaning_of_a_column_by_keyboard_and_mouse(browser, url):
    with phone_or_desk(browser, url, viewport={"width": 1440, "height": 900}) as page:
        expect(page.get_by_role("table", name="What the figures say")).to_be_visible()
        expect(page.get_by_role("columnheader")).to_have_count(6)
        expect(page.get_by_role("rowheader")).to_have_text(["Vanilla", "FreeInit", "I4VGen"])
        expect(page.get_by_role("cell", name="1.00 % (best)")).to_be_visible()
        expect(page.locator("#report thead")).to_contain_text(CLUMSY)

        meaning = page.locator("#report .meaning").first
        expect(meaning).to_be_hidden()
        page.locator("#report .scroll").focus()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Flicker")).to_be_focused()
        expect(meaning).to_be_visible()
        expect(meaning).to_contain_text("Lower is better")
        page.keyboard.press("Escape")
        expect(meaning).to_be_hidden()
        page.keyboard.press("Enter")
        expect(meaning).to_be_visible()
        page.keyboard.press("Tab")
        expect(meaning).to_be_hidden()
        expect(page.locator("#report .meaning").nth(1)).to_be_visible()
        page.keyboard.press("Escape")

        page.get_by_role("button", name="Flicker").hover()
        expect(meaning).to_be_visible()
        page.mouse.move(0, 0)
        expect(meaning).to_be_hidden()


def test_a_browser_of_2022_shows_the_meaning_without_an_error(browser, url):
    with quiet_page(browser, url, ready="Flicker", script=WITHOUT_THE_LATEST) as page:
        page.get_by_role("button", name="Flicker").hover()
        page.get_by_role("button", name="Motion").hover()


def test_on_a_phone(browser, url):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with phone_or_desk(browser, url, **phone) as page:
        scrolls, page_scrolls = page.evaluate(
            "[document.querySelector('#report .scroll'), document.documentElement]"
            ".map(box => box.scrollWidth - box.clientWidth)"
        )
        assert scrolls > 0, "this table should be too wide, or the test shows nothing"
        assert page_scrolls <= 0
        for head in page.locator("#report thead button").all():
            meaning = page.locator("#" + head.get_attribute("popovertarget"))
            head.tap()
            expect(meaning).to_be_visible()
            box = meaning.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390, box
        page.locator("#report h3").tap()
        expect(page.locator("#report .meaning:visible")).to_have_count(0)
