"""The form: another model brings its own defaults, unknown words are named, chips make a prompt."""

from __future__ import annotations

import gradio as gr

from i4vgen.catalog import Choice
from i4vgen.errors import ModelError, RequestError
from i4vgen.runtime import get_runtime
from i4vgen.ui import imagine, texts
from i4vgen.ui.desk import Desk
from i4vgen.ui.queueing import CHECKED, QUICK


def connect(desk: Desk) -> None:
    """Connects the form."""
    asking = desk.asking

    def on_model(model: str, known: str) -> dict:
        """Another model was chosen. If it is not to be had, the form goes back to the one before."""
        try:
            chosen = desk.runtime if model == desk.runtime.choice.model else get_runtime(Choice(model))
            return imagine.show_model(asking, chosen) | {desk.known_model: model}
        except (ModelError, RequestError) as error:
            gr.Warning(str(error), title=texts.NO_MODEL)
            return {asking.model: known}

    def on_prompt(*settings) -> dict:
        """The note under the prompt."""
        form = imagine.Form(*settings)
        try:
            return imagine.show_unknown_words(desk.runtime_of(form.choice()), form.prompt)
        except (ModelError, RequestError):  # said when the run is started
            return gr.update(visible=False)

    asking.model.input(
        on_model, [asking.model, desk.known_model], [*asking.settings, desk.known_model], **CHECKED
    ).success(on_prompt, asking.settings, asking.note, **QUICK)
    asking.prompt.change(on_prompt, asking.settings, asking.note, trigger_mode="always_last", **QUICK)
    for group, chips in asking.chips.items():
        chips.click(composer(desk, group), [chips, asking.prompt], asking.prompt, **QUICK)


def composer(desk: Desk, group: str):
    """Puts a phrase of this group into the prompt."""

    def compose(chosen: list[str], prompt: str) -> str:
        return desk.runtime.vocabulary.compose(prompt or "", group, chosen[0])

    return compose
