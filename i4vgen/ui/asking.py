"""The form: another model brings its own defaults, unknown words are named, chips make a prompt."""

from __future__ import annotations

import gradio as gr

from i4vgen.catalog import ModelSpec
from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.runtime import get_runtime
from i4vgen.ui import imagine, texts
from i4vgen.ui.context import AppContext
from i4vgen.ui.queueing import CHECKED, QUICK


def connect(context: AppContext) -> None:
    """Connects the form."""
    asking = context.asking

    def on_model(model: str, known: str) -> dict:
        """Another model was chosen. If it is not to be had, the form goes back to the one before."""
        try:
            chosen = context.runtime if model == context.runtime.spec.model else get_runtime(ModelSpec(model))
            return imagine.show_model(asking, chosen) | {context.known_model: model}
        except (ModelError, InvalidInputError) as error:
            gr.Warning(str(error), title=texts.NO_MODEL)
            return {asking.model: known}

    def on_prompt(*settings) -> dict:
        """The note under the prompt."""
        form = imagine.Form(*settings)
        try:
            return imagine.show_unknown_words(context.runtime_of(form.spec()), form.prompt)
        except (ModelError, InvalidInputError):  # said when the run is started
            return gr.update(visible=False)

    asking.model.input(
        on_model, [asking.model, context.known_model], [*asking.settings, context.known_model], **CHECKED
    ).success(on_prompt, asking.settings, asking.note, **QUICK)
    asking.prompt.change(on_prompt, asking.settings, asking.note, trigger_mode="always_last", **QUICK)
    for group, chips in asking.chips.items():
        chips.click(composer(context, group), [chips, asking.prompt], asking.prompt, **QUICK)


def composer(context: AppContext, group: str):
    """Puts a phrase of this group into the prompt."""

    def compose(chosen: list[str], prompt: str) -> str:
        return context.runtime.vocabulary.compose(prompt or "", group, chosen[0])

    return compose
