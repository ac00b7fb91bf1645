"""What a handler changes reaches the page, however soon it changes something else."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
import pytest
from playwright.sync_api import expect

from i4vgen.ui.changes import lose_no_change, send_only_changes
from tests.support.browsing import quiet_page

ROUNDS = 4
PATIENCE = 20_000  # milliseconds


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with gr.Blocks(analytics_enabled=False) as demo:
        count = gr.Number(0, label="count")
        # The page takes its time to show them, so an answer that does is still at work when the next one comes.
        guests = [gr.Button(f"guest {i}", visible=False) for i in range(8)]
        one, other = (gr.Textbox(label=name) for name in ("one", "other"))

        def answer(values: dict) -> Iterator[dict]:
            number = int(values[count]) + 1
            seen = {guest: gr.update(visible=number % 2 == 1) for guest in guests}
            yield seen | {one: gr.update(value=f"one is {number}")}
            yield {other: gr.update(value=f"other is {number}")}
            yield {count: number}

        gr.Button("Go").click(answer, {count}, [*guests, one, other, count])
    send_only_changes(demo)
    lose_no_change(demo)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield address
    demo.close()


def test_nothing_is_lost_of_answers_that_come_together(browser, url):
    with quiet_page(browser, url, ready="Go") as page:
        for number in range(1, ROUNDS + 1):
            page.get_by_role("button", name="Go", exact=True).click()
            expect(page.get_by_label("count")).to_have_value(str(number), timeout=PATIENCE)
            for name in ("one", "other"):
                expect(page.get_by_label(name)).to_have_value(f"{name} is {number}")
