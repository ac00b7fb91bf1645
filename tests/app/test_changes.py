"""What a handler does not name costs nothing, and the page gets what Gradio alone would send."""

from __future__ import annotations

import asyncio

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from i4vgen.ui.changes import send_only_changes


class Page:
    """A page with two of each, and one session of it."""

    def __init__(self) -> None:
        with gr.Blocks(analytics_enabled=False) as self.demo:
            self.one, self.other = gr.Textbox(), gr.Textbox()
            self.first, self.second, self.words = gr.State(1), gr.State(2), gr.JSON()
            self.outputs = [self.first, self.one, self.second, self.other]
        self.session = SessionState(self.demo)

    def answer(self, answer, outputs=None) -> list:
        """What is sent for what a handler answers."""
        with self.demo:
            gr.Button().click(lambda: answer, None, outputs or self.outputs)
        function = list(self.demo.fns.values())[-1]
        return asyncio.run(self.demo.process_api(function, [], state=self.session))["data"]


@pytest.fixture
def gradio() -> Page:
    return Page()


@pytest.fixture
def page() -> Page:
    page = Page()
    send_only_changes(page.demo)
    return page


@pytest.mark.parametrize(
    "answer",
    [
        lambda page: {page.other: "new"},
        lambda page: {page.other: gr.update(value="new", visible=False), page.second: 7},
        lambda page: {page.first: 7},
        lambda page: dict.fromkeys(page.outputs, "new"),
        lambda page: (7, "new", gr.skip(), gr.skip()),
        lambda page: gr.skip(),
    ],
)
def test_the_page_gets_what_gradio_would_send(page, gradio, answer):
    assert page.answer(answer(page)) == gradio.answer(answer(gradio))
    states = [[each.session[state._id] for state in (each.first, each.second)] for each in (page, gradio)]
    assert states[0] == states[1]


def test_what_is_not_named_is_not_made_anew(page):
    page.answer(dict.fromkeys(page.outputs, "new"))
    one, other = (page.session[each._id] for each in (page.one, page.other))
    page.answer({page.other: gr.update(visible=False)})
    assert page.session[page.one._id] is one
    assert page.session[page.other._id] is not other


@pytest.mark.parametrize("data", [{"no": "component"}, {}])
def test_data_of_a_single_output_is_no_list_of_changes(page, gradio, data):
    assert page.answer(data, page.words) == gradio.answer(data, gradio.words)


def test_a_component_that_is_no_output_is_a_mistake_as_ever(page):
    with pytest.raises(ValueError, match="not specified as output"):
        page.answer({page.words: "new", page.one: "new"})
    with pytest.raises(ValueError, match="not specified as output"):
        page.answer({page.words: "new"})
