"""Panel 1, Imagine: the prompt and every setting of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from i4vgen.backbones.samplers import NAMES
from i4vgen.catalog import MODELS, REWARDS
from i4vgen.comparisons import COMPARISONS
from i4vgen.errors import InvalidInputError, ModelError
from i4vgen.generation_config import Defaults, Parameter, range_for
from i4vgen.runtime import Runtime
from i4vgen.ui import layout, strings
from i4vgen.ui.captions import doubts
from i4vgen.ui.context import AppContext, RunButtons, View
from i4vgen.ui.errors import warn
from i4vgen.ui.examples import Example
from i4vgen.ui.form import FIELDS, OWN, SETTINGS, Form
from i4vgen.ui.models import OfferedModels
from i4vgen.ui.queueing import IN_TURN, QUICK

ROLL = "() => Math.floor(Math.random() * 2 ** 31)"

TO_SECONDS = "(frames, fps) => Math.round((100 * frames) / fps) / 100"

FOLLOW_FRAMES = """(frames, fps, seconds) =>
  document.activeElement.closest("#seconds") ? seconds : (TO_SECONDS)(frames, fps)""".replace(
    "TO_SECONDS", TO_SECONDS
)

TO_FRAMES = """(seconds, fps, frames) => {
  if (!seconds) return frames; // nothing typed yet
  const { min, max, step } = document.querySelector("#num-frames input[type=range]");
  const steps = Math.round((seconds * fps - min) / step);
  return Math.min(Math.max(Number(min) + steps * step, min), max);
}"""

SETTINGS_IN_A_ROW = 3


class PromptPanel:
    """Draws the form and the examples with the defaults of the app's model.

    Attributes:
        form: The components of the form, by the names of `form.FIELDS`.
        examples: The dataset that offers the examples.
    """

    def __init__(self, context: AppContext, examples: list[Example]) -> None:
        self.context = context
        runtime = context.models.own
        first = examples[0] if examples else Example("", 7, None)
        fields: dict[str, Any] = {}  # the components, each with the events of its kind
        with layout.panel(1, strings.IMAGINE, strings.IMAGINE_HINT, "imagine"):
            with gr.Row(elem_classes="ask"):
                fields["prompt"] = gr.Textbox(
                    value=first.prompt,
                    label=SETTINGS["prompt"].label,
                    placeholder=strings.PROMPT_PLACEHOLDER,
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
                    self.dice = gr.Button(strings.DICE, elem_classes="dice", size="md", min_width=120, scale=1)
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
                    go = gr.Button(strings.GENERATE, variant="primary", size="lg", elem_id="generate")
                    stop = gr.Button(
                        strings.STOP, variant="stop", size="lg", visible=False, elem_id="stop-candidates"
                    )
                    leave = gr.Button(strings.LEAVE_QUEUE, size="lg", visible=False)
            context.several = gr.Accordion(strings.SEVERAL, open=False, elem_id="several")
            with gr.Accordion(strings.ADVANCED, open=False, elem_id="advanced"):
                self.seconds, self.fps = draw_seconds(runtime.defaults)
                fields |= draw_settings(runtime.defaults, self.seconds)
                fields["compare"] = gr.CheckboxGroup(
                    [(comparison.label, name) for name, comparison in COMPARISONS.items()],
                    value=["vanilla"],
                    label=strings.COMPARE,
                    info=strings.compare_info(),
                )
            with gr.Accordion(strings.MODEL, open=False, elem_id="model"):
                fields |= draw_model(context.models)
            self.examples = gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=[[example.prompt] for example in examples],
                type="index",
                label=strings.EXAMPLES,
                samples_per_page=12,
                visible=bool(examples),
                elem_id="examples",
            )
        self.form = {name: fields[name] for name in FIELDS}
        self.shown_model = gr.State(runtime.spec.model)
        context.form = self.form
        context.drawing = RunButtons("choose", go, stop, leave, [go.click, self.form["prompt"].submit])
        shown = [*self.form.values(), self.shown_model, self.seconds, self.fps]
        context.form_view = View(shown, self.show)

    def connect(self) -> None:
        """Another model brings its own defaults, what it does not read is said, chips make a prompt."""
        form = self.form
        everything = set(form.values())
        self.connect_seconds()
        self.dice.click(None, None, form["seed"], js=ROLL, api_visibility="private")
        form["model"].input(
            self.on_model, [form["model"], self.shown_model], self.context.form_view.outputs, **IN_TURN
        ).success(self.on_prompt, everything, self.note, **QUICK)
        form["prompt"].change(self.on_prompt, everything, self.note, trigger_mode="always_last", **QUICK)
        for group, chips in self.chips.items():
            chips.click(self.composer(group), [chips, form["prompt"]], form["prompt"], **QUICK)

    def connect_seconds(self) -> None:
        """Frames and seconds follow each other, in the browser. What is being typed is left alone."""
        frames, fps, seconds = self.form["num_frames"], self.fps, self.seconds
        seconds.input(None, [seconds, fps, frames], frames, js=TO_FRAMES, api_visibility="private")
        seconds.blur(None, [frames, fps], seconds, js=TO_SECONDS, api_visibility="private")
        gr.on(
            [frames.change, fps.change],
            None,
            [frames, fps, seconds],
            seconds,
            js=FOLLOW_FRAMES,
            api_visibility="private",
        )

    def runtime_named(self, model: str) -> Runtime:
        """The runtime of a model of which only the name was chosen. Raises as `OfferedModels.runtime_for`."""
        return self.context.models.runtime_for(self.context.models.default_spec(model))

    def on_model(self, model: str, shown: str) -> dict:
        """Another model was chosen. If it cannot be had, the form goes back to the one before."""
        try:
            return self.show_model(self.runtime_named(model))
        except (ModelError, InvalidInputError) as error:
            warn(str(error), strings.NO_MODEL)
            return {self.form["model"]: shown}

    def on_prompt(self, values: dict) -> dict:
        """The note under the prompt."""
        form = self.context.read_form(values)
        try:
            return show_note(self.context.models.runtime_for(form.spec()), form.prompt)
        except (ModelError, InvalidInputError):  # said when the run is started
            return gr.update(visible=False)

    def composer(self, group: str) -> Callable[[list[str], str], str]:
        """Puts a phrase of this group into the prompt."""

        def compose(chosen: list[str], prompt: str) -> str:
            vocabulary = self.context.models.own.vocabulary
            return vocabulary.compose(prompt or "", group, chosen[0]) if vocabulary else prompt

        return compose

    def show(self, form: Form) -> dict:
        """The form with these values; what this app does not offer is said and left out."""
        offered = form.model in self.context.models.names
        runtime = self.runtime_named(form.model) if offered else self.context.models.own
        form, changed = form.fitted(runtime.defaults)
        if changed:
            warn(strings.NOT_IN_FORM.format(names=", ".join(changed)))
        values = {self.form[name]: value for name, value in form.values().items()}
        if not offered:
            warn(strings.OTHER_MODEL.format(model=form.model))
            kept = {self.form[name] for name in ("model", "base", "loras", "rewards")}
            return {component: value for component, value in values.items() if component not in kept}
        changes = self.show_model(runtime)
        for component, value in values.items():
            known = changes.get(component)
            changes[component] = {**known, "value": value} if isinstance(known, dict) else value
        return changes

    def show_model(self, runtime: Runtime) -> dict:
        """The form for another model: its own defaults and limits."""
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
            form["model"]: gr.update(value=runtime.spec.model, info=strings.model_facts(entry)),
            form["base"]: gr.update(value="", visible="base" in entry.takes),
            form["loras"]: gr.update(value="", visible="loras" in entry.takes),
            form["rewards"]: list(entry.rewards),
            self.shown_model: runtime.spec.model,
            self.seconds: gr.update(info=strings.seconds_info(defaults.fps)),
            self.fps: defaults.fps,
        }


def draw_seconds(defaults: Defaults) -> tuple[gr.Number, gr.Number]:
    """The length of the video as people say it, to be rendered beside its frames, and the frames per second."""
    seconds = gr.Number(
        round(defaults.num_frames / defaults.fps, 2),
        label=strings.SECONDS,
        info=strings.seconds_info(defaults.fps),
        minimum=0,
        step=0.5,
        min_width=84,
        elem_id="seconds",
        render=False,
    )
    return seconds, gr.Number(defaults.fps, visible="hidden")


def draw_settings(defaults: Defaults, seconds: gr.Number) -> dict[str, Component]:
    """The settings that the form tucks away, by name, a few in a row. seconds: what `draw_seconds` made."""
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
    """The component for a parameter: what it is follows from its declaration."""
    value = getattr(defaults, name, about.default)
    common = {"label": about.label, "info": about.help, "min_width": 240, "elem_id": name.replace("_", "-")}
    if name == "sampler":
        return gr.Dropdown([(strings.OWN_SAMPLER, OWN), *NAMES], value=OWN, **common)
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
    """The words that a small model knows, to make a prompt of."""
    phrases = runtime.vocabulary.phrases if runtime.vocabulary else {}
    with gr.Row(elem_id="chips", visible=bool(phrases)):
        return {
            group: gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=[[ways[0]] for ways in things],
                label=strings.CHIPS.get(group, group),
                samples_per_page=len(things),
                elem_classes="chips",
            )
            for group, things in phrases.items()
        }


def draw_model(models: OfferedModels) -> Mapping[str, Component]:
    """What is run: the model, another base under it, LoRAs, and who judges."""
    spec, entry = models.own.spec, models.own.entry
    titles = {name: known.title for name, known in MODELS.items()}
    names = [(titles.get(name) or Path(name).name, name) for name in models.names]
    with gr.Row():
        model = gr.Dropdown(names, value=spec.model, label=strings.MODEL_NAME, info=strings.model_facts(entry))
        rewards = gr.CheckboxGroup(
            [(reward.title, name) for name, reward in REWARDS.items()],
            value=list(entry.rewards),
            label=strings.REWARDS,
            info=strings.REWARDS_INFO,
        )
    with gr.Row():
        base = gr.Textbox(
            value=spec.base or "", label=strings.BASE, info=strings.BASE_INFO, visible="base" in entry.takes
        )
        loras = gr.Textbox(
            value=" ".join(spec.loras),
            label=strings.LORAS,
            info=strings.LORAS_INFO,
            visible="loras" in entry.takes,
        )
    return {"model": model, "base": base, "loras": loras, "rewards": rewards}


def show_note(runtime: Runtime, prompt: str) -> dict:
    """The note under the prompt: visible only when there is something to say."""
    notes = doubts(runtime, prompt or "")
    return gr.update(value="".join(f'<p role="status">{note}</p>' for note in notes), visible=bool(notes))
