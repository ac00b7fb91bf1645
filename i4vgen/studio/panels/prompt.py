"""Panel 1, Imagine: the prompt and every setting of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from i4vgen.backbones.samplers import NAMES
from i4vgen.config import Defaults, Parameter, range_for
from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.models import library
from i4vgen.models.catalog import MODELS, REPLACEMENTS, REWARDS, ModelEntry, Replacement
from i4vgen.serving.offered_models import OfferedModels
from i4vgen.serving.runtime import Runtime
from i4vgen.studio import layout, strings
from i4vgen.studio.captions import prompt_warnings
from i4vgen.studio.context import AppContext, RunButtons, View, read_form
from i4vgen.studio.errors import warn, words_of
from i4vgen.studio.examples import Example
from i4vgen.studio.form import FIELDS, OWN, SETTINGS, Form
from i4vgen.studio.lora_text import join_loras, split_loras
from i4vgen.studio.queueing import IN_BROWSER, QUICK
from i4vgen.studio.scripts import call

SETTINGS_IN_A_ROW = 3
CHIPS_ON_A_PAGE = 10


class PromptPanel:
    """Panel 1, initially with the first example and the defaults of the app's model.

    Attributes:
        form: The components of the form by field name (`form.FIELDS`).
        examples: The dataset component with the examples.
        several: The accordion for several prompts, initially empty.
        buttons: The buttons of the run that draws candidates.
        view: Shows a `Form`.
    """

    def __init__(self, context: AppContext, examples: list[Example]) -> None:
        self.context = context
        runtime = context.models.own
        first = examples[0] if examples else Example("", 7, None)
        fields: dict[str, Any] = {}  # Any: `Component` does not declare the events
        hint = "Describe the video. The seed fixes every random number of the run."
        with layout.panel(1, "Imagine", hint, "imagine"):
            with gr.Row(elem_classes="ask"):
                fields["prompt"] = gr.Textbox(
                    value=first.prompt,
                    label=SETTINGS["prompt"].label,
                    placeholder="a rocket rising in a starry night",
                    lines=2,
                    max_lines=4,
                    scale=5,
                    min_width=280,
                    elem_id="prompt",
                    submit_btn=False,
                )
            self.note = gr.HTML("", elem_id="note", elem_classes="note", visible=False, apply_default_css=False)
            self.chips = draw_chips(runtime)
            with gr.Row(elem_classes="knobs", equal_height=True):
                with gr.Row(elem_classes="seed", equal_height=True, scale=2):
                    fields["seed"] = gr.Number(
                        label=SETTINGS["seed"].label,
                        value=first.seed,
                        precision=0,
                        minimum=0,
                        min_width=100,
                        scale=3,
                    )
                    self.dice = gr.Button("New seed", elem_classes="dice", size="md", min_width=120, scale=1)
                candidates = SETTINGS["num_candidates"]
                low, high, step = candidates.range
                fields["num_candidates"] = gr.Slider(
                    low,
                    high,
                    runtime.defaults.num_candidates,
                    step=step,
                    label=candidates.label,
                    scale=3,
                    min_width=220,
                )
                with gr.Column(elem_classes="go", scale=2, min_width=200):
                    go = gr.Button("Draw candidates", variant="primary", size="lg", elem_id="generate")
                    stop, leave = layout.stop_buttons("stop-candidates")
            self.several = gr.Accordion(strings.SEVERAL, open=False, elem_id="several")
            with gr.Accordion("Advanced settings", open=False, elem_id="advanced"):
                self.seconds, self.fps = draw_seconds(runtime.defaults)
                fields |= draw_settings(runtime.defaults, self.seconds)
                fields["compare"] = gr.CheckboxGroup(
                    [(comparison.label, name) for name, comparison in COMPARISONS.items()],
                    value=["vanilla"],
                    label="Compare with",
                    info=" ".join(f"{each.label}: {each.hint}." for each in COMPARISONS.values()),
                )
            with gr.Accordion("Model and reward", open=False, elem_id="model"):
                model_fields, self.lora_list = draw_model(context.models)
                fields |= model_fields
            self.examples = gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=[[example.prompt] for example in examples],
                type="index",
                label="Finished examples: settings and result at once",
                samples_per_page=12,
                visible=bool(examples),
                elem_id="examples",
            )
        self.form = {name: fields[name] for name in FIELDS}
        self.shown_model = gr.Textbox(runtime.spec.model, visible="hidden")
        self.buttons = RunButtons("choose", go, stop, leave, [go.click, self.form["prompt"].submit])
        shown = [*self.form.values(), self.shown_model, self.seconds, self.fps]
        self.view = View(shown, self.show)

    def connect(self) -> None:
        """Connects the form's own events, such as the choice of a model and the warnings about the prompt."""
        form = self.form
        everything = set(form.values())
        self.connect_seconds()
        self.dice.click(None, None, form["seed"], js=call("randomSeed"), **IN_BROWSER)
        plain = self.context.handlers.for_visitor
        on_prompt = plain(self.on_prompt)
        form["model"].input(
            plain(self.on_model), [form["model"], self.shown_model], self.view.outputs, **QUICK
        ).success(on_prompt, everything, self.note, **QUICK)
        for name in ("prompt", "negative_prompt"):
            form[name].change(on_prompt, everything, self.note, trigger_mode="always_last", **QUICK)
        added = [form["loras"], self.lora_list]
        self.lora_list.input(plain(self.add_lora), added[::-1], added, **QUICK)
        for group, chips in self.chips.items():
            chips.click(plain(self.composer(group)), [chips, form["prompt"]], form["prompt"], **QUICK)

    def connect_seconds(self) -> None:
        """Keeps the frames and the seconds in step, in the browser."""
        frames, fps, seconds = self.form["num_frames"], self.fps, self.seconds
        seconds.input(None, [seconds, fps, frames], frames, js=call("toFrames"), **IN_BROWSER)
        seconds.blur(None, [frames, fps], seconds, js=call("toSeconds"), **IN_BROWSER)
        changes, inputs = [frames.change, fps.change], [frames, fps, seconds]
        gr.on(changes, None, inputs, seconds, js=call("followFrames"), **IN_BROWSER)

    def runtime_named(self, model: str) -> Runtime:
        """Returns the runtime of a model's default specification (`OfferedModels.default_spec`).

        Raises:
            InvalidInputError: The app does not offer the model, or its file holds only a part of a model.
            ModelError: The model's file is missing, damaged or of an unsupported kind.
        """
        return self.context.models.runtime_for(self.context.models.default_spec(model))

    def on_model(self, _request: gr.Request, model: str, shown: str) -> dict:
        """Shows another model, or restores the previous choice if that model is not available."""
        try:
            return self.show_model(self.runtime_named(model))
        except (ModelError, InvalidInputError) as error:
            warn(words_of(error), "This model is not available")
            return {self.form["model"]: shown}

    def on_prompt(self, _request: gr.Request, values: dict) -> dict:
        """Updates the note under the prompt."""
        form = read_form(self.form, values)
        negative_prompt = str(form.settings.get("negative_prompt") or "")
        try:
            return show_note(self.context.models.runtime_for(form.spec()), form.prompt, negative_prompt)
        except (ModelError, InvalidInputError):  # the error is shown when the run is started
            return gr.update(visible=False)

    def add_lora(self, _: gr.Request, name: str | None, loras: str) -> tuple[str, None]:
        """Adds a LoRA to the field and clears the list's selection."""
        return join_loras((*split_loras(loras or ""), *filter(None, [name]))), None

    def composer(self, group: str) -> Callable[[gr.Request, list[str], str], str]:
        """Returns a handler that inserts a phrase of a group into the prompt."""

        def compose(_request: gr.Request, chosen: list[str], prompt: str) -> str:
            vocabulary = self.context.models.own.vocabulary
            return vocabulary.compose(prompt or "", group, chosen[0]) if vocabulary else prompt

        return compose

    def show(self, form: Form) -> dict:
        """Returns the updates that show a form. Warns if a value does not fit or the model is not offered."""
        try:
            runtime, offered = self.runtime_named(form.model), True
        except (ModelError, InvalidInputError):
            runtime, offered = self.context.models.own, False
        form, changed = form.fitted(runtime.defaults)
        if changed:
            names = ", ".join(changed)
            warn(f"The form cannot hold all values of this run: {names}. It shows the closest ones.")
        values = {self.form[name]: value for name, value in form.values().items()}
        if not offered:
            warn(
                f"This run was made with {form.model}, which this app does not offer. Draw with another model."
            )
            kept = {self.form[name] for name in FIELDS if name not in SETTINGS and name != "compare"}
            return {component: value for component, value in values.items() if component not in kept}
        changes = self.show_model(runtime)
        for component, value in values.items():
            known = changes.get(component)
            changes[component] = {**known, "value": value} if isinstance(known, dict) else value
        return changes

    def show_model(self, runtime: Runtime) -> dict:
        """Returns the updates that show a model's defaults and limits."""
        form, entry, defaults = self.form, runtime.entry, runtime.defaults
        low, high, step = defaults.frame_range
        settings = {
            form[name]: getattr(defaults, name)
            for name in SETTINGS
            if hasattr(defaults, name) and name not in ("num_candidates", "sampler")
        }
        return settings | {
            form["num_frames"]: gr.update(value=defaults.num_frames, minimum=low, maximum=high, step=step),
            form["sampler"]: OWN,
            form["model"]: gr.update(value=runtime.spec.model, info=model_facts(entry)),
            **{form[name]: gr.update(value="", visible=name in entry.takes) for name in REPLACEMENTS},
            form["loras"]: gr.update(value="", visible="loras" in entry.takes),
            form["rewards"]: list(entry.rewards),
            self.shown_model: runtime.spec.model,
            self.seconds: gr.update(info=seconds_info(defaults.fps)),
            self.fps: defaults.fps,
        }


def draw_seconds(defaults: Defaults) -> tuple[gr.Number, gr.Number]:
    """Creates the field for the length in seconds, not yet rendered, and the hidden frames per second."""
    seconds = gr.Number(
        round(defaults.num_frames / defaults.fps, 2),
        label="Seconds",
        info=seconds_info(defaults.fps),
        minimum=0,
        step=0.5,
        min_width=84,
        elem_id="seconds",
        render=False,
    )
    return seconds, gr.Number(defaults.fps, visible="hidden")


def draw_settings(defaults: Defaults, seconds: gr.Number) -> dict[str, Component]:
    """Draws the advanced settings in rows.

    Args:
        defaults: The defaults of the model.
        seconds: The field for the length, from `draw_seconds`, to be rendered beside the frames.

    Returns:
        The components by setting name.
    """
    tucked = [(name, about) for name, about in SETTINGS.items() if about.advanced]
    components = {}
    for first in range(0, len(tucked), SETTINGS_IN_A_ROW):
        with gr.Row():
            for name, about in tucked[first : first + SETTINGS_IN_A_ROW]:
                if name != "num_frames":
                    components[name] = draw_setting(name, about, defaults)
                    continue
                with gr.Row(elem_classes="length"):
                    components[name] = draw_setting(name, about, defaults)
                    seconds.render()
    return components


def draw_setting(name: str, about: Parameter, defaults: Defaults) -> Component:
    """Draws the input component for a parameter."""
    value = getattr(defaults, name, about.default)
    common = {"label": about.label, "info": about.help, "min_width": 240, "elem_id": name.replace("_", "-")}
    if name == "sampler":
        return gr.Dropdown([("the model's own", OWN), *NAMES], value=OWN, **common)
    if about.slider:
        low, high, step = range_for(name, defaults)
        return gr.Slider(low, high, value, step=step, **common)
    if about.choices:
        choices = [(choice.capitalize(), choice) for choice in about.choices]
        return gr.Radio(choices, value=value, **common)
    if about.kind is str:
        return gr.Textbox(value=value, **common)
    return gr.Number(value=value, minimum=about.low, maximum=about.high, precision=0, **common)


def draw_chips(runtime: Runtime) -> dict[str, gr.Dataset]:
    """Draws the phrases that a small model knows, by group, in pages. A click puts a phrase into the prompt."""
    phrases = runtime.vocabulary.phrases if runtime.vocabulary else {}
    labels = {"subject": "What", "motion": "How it moves", "setting": "Where"}
    with gr.Row(elem_id="chips", visible=bool(phrases)):
        return {
            group: gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=[[ways[0]] for ways in things],
                label=labels.get(group, group),
                samples_per_page=CHIPS_ON_A_PAGE,
                elem_classes="chips",
                scale=3 if len(things) > CHIPS_ON_A_PAGE else 2,  # wider: a page needs three lines
            )
            for group, things in phrases.items()
        }


def draw_model(models: OfferedModels) -> tuple[Mapping[str, Component], gr.Dropdown]:
    """Draws the fields of the model.

    Returns:
        The components by field name, and the list that adds one of the owner's LoRAs to the LoRA field.
    """
    spec, entry = models.own.spec, models.own.entry
    titles = {name: known.title for name, known in MODELS.items()}
    names = [(titles.get(name) or Path(name).name, name) for name in models.names]
    with gr.Row():
        model = gr.Dropdown(
            names,
            value=spec.model,
            label="Model",
            info=model_facts(entry),
            allow_custom_value=models.allowed is None,
        )
        rewards = gr.CheckboxGroup(
            [(reward.title, name) for name, reward in REWARDS.items()],
            value=list(entry.rewards),
            label="Rewards",
            info="The first one chooses the anchor, the others are shown beside it.",
        )
    with gr.Row():
        parts = {
            name: draw_file(part, spec.replacements.get(name, ""), visible=name in entry.takes)
            for name, part in REPLACEMENTS.items()
        }
    with gr.Row():
        loras = gr.Textbox(
            value=join_loras(spec.loras),
            label="LoRAs",
            info='Separated by spaces; a weight after @, as in OWNER/NAME@0.8; in "quotes" if it has spaces.',
            visible="loras" in entry.takes,
            scale=3,
        )
        known = library.names(library.LORA)
        lora_list = gr.Dropdown(
            known,
            value=None,
            label="Add a LoRA",
            info="Of those in this app's folders.",
            visible=bool(known),
            scale=2,
        )
    return {"model": model, **parts, "loras": loras, "rewards": rewards}, lora_list


def draw_file(part: Replacement, value: str, visible: bool) -> Component:
    """Draws a field for a file, a folder or a hub id. It suggests names from the owner's folders."""
    known = library.names(part.kind)
    common = {"value": value, "label": part.label, "info": part.help, "visible": visible}
    return gr.Dropdown(["", *known], allow_custom_value=True, **common) if known else gr.Textbox(**common)


def show_note(runtime: Runtime, prompt: str, negative_prompt: str = "") -> dict:
    """Returns the update of the note under the prompt, which is visible only if there are warnings."""
    notes = prompt_warnings(runtime, prompt or "", negative_prompt or "")
    return gr.update(value="".join(f'<p role="status">{note}</p>' for note in notes), visible=bool(notes))


def seconds_info(fps: int) -> str:
    """Returns the help text of the field for the length."""
    return f"At {fps} frames each."


def model_facts(entry: ModelEntry) -> str:
    """Returns the download size, licence and caveats of a model."""
    facts = [f"{entry.download:.1f} GB to download" if entry.download else "", entry.licence, entry.about]
    return ". ".join(fact for fact in facts if fact)
