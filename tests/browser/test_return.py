"""The line drops, or the page is loaded again: what a tab had comes back by itself, the run under way too."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_browser import LONG, PATIENCE, captions, draw, fill_form, marked, set_number
from tests.support.browsing import CARDS, PAGE_PATIENCE, wait_for_first_run
from tests.support.waiting import wait_until

CUT = 4.0
"""Seconds for which the line is down."""


EVENT_END = b"\n\n\r\n"
"""The end of a chunk with whole server-sent events."""


class Line:
    """A TCP proxy that can be cut, and that can end streams of events as a server does that closes them."""

    def __init__(self, port: int) -> None:
        self.target, self.up, self.ends_streams = port, True, False
        self.loop = asyncio.new_event_loop()
        self.open: set[asyncio.StreamWriter] = set()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self.carry, "127.0.0.1", 0), self.loop)
        self.url = f"http://127.0.0.1:{server.result().sockets[0].getsockname()[1]}"

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.up:
            writer.transport.abort()
            return
        inner, outer = await asyncio.open_connection("127.0.0.1", self.target)
        self.open |= {writer, outer}
        await asyncio.gather(self.pipe(reader, outer), self.pipe(inner, writer), return_exceptions=True)
        self.open -= {writer, outer}

    async def pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_stream = False
        try:
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
                is_stream |= b"content-type: text/event-stream" in data.lower()
                if is_stream and self.ends_streams and data.endswith(EVENT_END):
                    self.ends_streams = False
                    writer.write(b"0\r\n\r\n")
                    break
        finally:
            writer.close()

    def set(self, up: bool) -> None:
        self.loop.call_soon_threadsafe(self._set, up)

    def _set(self, up: bool) -> None:
        self.up = up
        for writer in [] if up else list(self.open):
            writer.transport.abort()


@pytest.fixture
def line(url) -> Line:
    return Line(urlsplit(url).port)


@contextmanager
def tab(browser: Browser, address: str) -> Iterator[Page]:
    """A page whose console may tell of a line that was cut."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PAGE_PATIENCE)
    try:
        page = context.new_page()
        page.goto(address)
        page.get_by_role("button", name="Draw candidates").wait_for()
        wait_for_first_run(page)
        yield page
    finally:
        context.close()


def cut(page: Page, line: Line) -> None:
    """Cuts the line for a while. The page is loaded again by itself when it is back."""
    with page.expect_event("load", timeout=PATIENCE):
        line.set(up=False)
        page.wait_for_timeout(CUT * 1000)
        line.set(up=True)
    # Which buttons there are depends on the run.
    page.get_by_label("Prompt", exact=True).wait_for(timeout=PATIENCE)


def pictures(page: Page) -> list[str]:
    """The hashes of the candidates as the page shows them."""
    read = """images => Promise.all(images.map(async image =>
        [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]))"""
    found = page.locator(f"{CARDS} img").evaluate_all(read)
    return [hashlib.sha256(bytes(each)).hexdigest() for each in found]


@pytest.mark.slow
def test_a_run_goes_on_while_the_line_is_down_and_the_page_finds_it_again(browser, line):
    with tab(browser, line.url) as page:
        fill_form(page, candidates=20, steps=60, prompt="a racing car at sunset")  # still under way at the cut
        set_number(page, "Frames", 4)
        page.get_by_role("button", name="Draw candidates").click()
        expect(page.locator("#stop-candidates")).to_be_visible(timeout=PATIENCE)
        cut(page, line)
        wait_until(lambda: 2 <= page.locator(CARDS).count() < 16)  # 16 are those of the stored run
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("a racing car at sunset")
        page.locator("#stop-candidates").click()
        expect(page.locator("#candidates-status")).to_contain_text("of 20 candidates", timeout=PATIENCE)
        drawn = page.locator(CARDS).count()

        page.locator(CARDS).nth(1).click()
        expect(page.locator("#anchor-words")).to_contain_text("Candidate 2")  # the star is that of this card
        page.locator("#star").click()
        expect(page.locator("#star")).to_contain_text("Starred")
        wait_until(lambda: (marked(page, "✓"), marked(page, "★")) == ([1], [1]))
        before, shown = captions(page), pictures(page)
        page.get_by_role("button", name="Advanced settings").click()
        set_number(page, "Denoising steps", 30)
        page.locator("#animate").click()
        expect(page.locator("#stop-animate")).to_be_visible(timeout=PATIENCE)
        expect(page.locator("#live")).to_contain_text("step", timeout=PATIENCE)
        cut(page, line)
        expect(page.locator(CARDS)).to_have_count(drawn)
        wait_until(lambda: (captions(page), pictures(page)) == (before, shown))
        expect(page.locator("#live")).to_contain_text("Done in", timeout=PATIENCE)
        expect(page.locator("#report")).to_contain_text("Flicker")
        expect(page.locator("#history button.thumbnail-lg")).to_have_count(1)
        page.reload()
        expect(page.locator("#report")).to_contain_text("Flicker")
        wait_until(lambda: (captions(page), pictures(page)) == (before, shown))
        expect(page.locator("#history button.thumbnail-lg")).to_have_count(1)


@pytest.mark.slow
def test_stop_works_after_a_reload_and_a_new_tab_begins_anew(browser, url):
    with tab(browser, url) as page:
        fill_form(page, **LONG)
        page.get_by_role("button", name="Draw candidates").click()
        expect(page.locator("#stop-candidates")).to_be_visible(timeout=PATIENCE)
        page.reload()
        expect(page.locator("#stop-candidates")).to_be_visible(timeout=PATIENCE)
        other = page.context.new_page()
        other.goto(url)
        wait_for_first_run(other)
        expect(other.get_by_role("button", name="Draw candidates")).to_be_enabled()
        other.close()
        page.locator("#stop-candidates").click()
        expect(page.get_by_role("button", name="Draw candidates")).to_be_visible(timeout=PATIENCE)
        expect(page.locator("#candidates-status")).to_contain_text("topped")


@pytest.mark.slow
def test_a_page_finds_its_run_again_after_a_clean_end_of_its_stream(browser, line):
    """A proxy or server that closes the stream in order raises no error in the page."""
    with tab(browser, line.url) as page:
        fill_form(page, **LONG)
        page.get_by_role("button", name="Draw candidates").click()
        expect(page.locator("#candidates-status")).to_contain_text("step", timeout=PATIENCE)
        with page.expect_event("load", timeout=PATIENCE):
            line.ends_streams = True
        expect(page.locator("#stop-candidates")).to_be_visible(timeout=PATIENCE)
        expect(page.locator("#candidates-status")).to_contain_text("step", timeout=PATIENCE)
        assert not line.ends_streams
        page.locator("#stop-candidates").click()
        expect(page.locator("#candidates-status")).to_contain_text("topped", timeout=PATIENCE)


@pytest.mark.slow
def test_a_run_keeps_its_place_in_the_queue_while_the_line_is_down(browser, url, line):
    with tab(browser, url) as first, tab(browser, line.url) as page:
        fill_form(first, **LONG)
        first.get_by_role("button", name="Draw candidates").click()
        expect(first.locator("#stop-candidates")).to_be_visible(timeout=PATIENCE)
        fill_form(page, candidates=2, steps=2, prompt="a green heart")
        page.get_by_role("button", name="Draw candidates").click()
        leave = page.get_by_role("button", name="Leave the queue")
        expect(leave).to_be_visible(timeout=PATIENCE)  # at the click, before the run has reached the server
        expect(page.locator("#candidates-status")).to_contain_text("Position 1", timeout=PATIENCE)
        cut(page, line)
        expect(page.locator("#candidates-status")).to_contain_text("Position 1", timeout=PATIENCE)
        expect(leave).to_be_visible()
        first.locator("#stop-candidates").click()
        expect(page.get_by_text("2 candidates in")).to_be_visible(timeout=PATIENCE)
        expect(page.locator(CARDS)).to_have_count(2)
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("a green heart")


def scroll(page: Page) -> float:
    """Scrolls down, and returns the position."""
    page.evaluate("scrollTo(0, 600)")
    page.wait_for_timeout(500)
    return page.evaluate("scrollY")


def expect_scrolled(page: Page, place: float) -> None:
    """Waits until the page is scrolled to a position, and stays there."""
    for _ in range(2):
        page.wait_for_function(f"Math.abs(scrollY - {place}) < 20")
        page.wait_for_timeout(1000)


@pytest.mark.slow
def test_a_page_comes_back_where_it_was_scrolled_to(browser, line):
    with tab(browser, line.url) as page:
        fill_form(page, candidates=2, steps=2)
        draw(page, 2)
        place = scroll(page)
        assert place > 300
        page.reload()
        expect(page.locator(CARDS)).to_have_count(2)
        expect_scrolled(page, place)

        # Gradio gives the slider its restored value a moment after it is shown, over what has been typed.
        page.get_by_role("button", name="Advanced settings").click()
        expect(page.get_by_label("number input for Denoising steps")).to_have_value("2")
        set_number(page, "Candidates", LONG["candidates"])
        set_number(page, "Denoising steps", LONG["steps"])
        page.get_by_role("button", name="Draw candidates").click()
        expect(page.locator("#candidates-status")).to_contain_text("step", timeout=PATIENCE)
        place = scroll(page)
        assert place > 300
        cut(page, line)
        expect(page.locator("#stop-candidates")).to_be_visible(timeout=PATIENCE)
        expect_scrolled(page, place)
        page.locator("#stop-candidates").click()
        expect(page.locator("#candidates-status")).to_contain_text("topped", timeout=PATIENCE)


@pytest.mark.slow
def test_a_duplicated_tab_goes_its_own_way(browser, url):
    """It starts with a copy of the first tab's session storage."""
    with tab(browser, url) as page:
        fill_form(page, candidates=2, steps=2, prompt="a purple heart")
        draw(page, 2)
        storage = page.evaluate("Object.fromEntries(Object.entries(sessionStorage))")
        assert storage
        before = captions(page)
        with page.context.expect_page() as opened:
            page.evaluate("open(location.href)")  # which copies the storage
        for other in (opened.value, page.context.new_page()):
            other.add_init_script(f"""if (!window.name) {{
                window.name = "copied";
                Object.assign(sessionStorage, {json.dumps(storage)});
            }}""")
            other.goto(url)
            other.reload()
            wait_for_first_run(other)  # seconds, until the copied token is found to be in use
            fill_form(other, candidates=3, steps=2, prompt="a racing car")
            draw(other, 3)
            expect(page.locator(CARDS)).to_have_count(2)
            other.close()
        page.reload()
        expect(page.locator(CARDS)).to_have_count(2)
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("a purple heart")
        wait_until(lambda: captions(page) == before)


def test_what_was_drawn_is_there_after_a_reload(browser, url):
    with tab(browser, url) as page:
        fill_form(page, candidates=2, steps=2, prompt="a purple heart")
        draw(page, 2)
        page.locator(CARDS).nth(1).click()
        expect(page.locator("#anchor-words")).to_contain_text("Candidate 2 of 2")
        page.get_by_label("Prompt", exact=True).fill("a purple heart that is not sent yet")
        wait_until(lambda: marked(page, "✓") == [1])
        before = captions(page), pictures(page)
        page.reload()
        expect(page.locator("#anchor-words")).to_contain_text("Candidate 2 of 2")
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("a purple heart that is not sent yet")
        wait_until(lambda: (captions(page), pictures(page)) == before)
        expect(page.locator("#animate")).to_be_enabled()
