"""Panel 1, Imagine: the prompt and every setting of a run."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import gradio as gr

from i4vgen import catalog
from i4vgen.backbones.samplers import SCHEDULERS
from i4vgen.catalog import MODELS, REWARDS, ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.generation_config import Defaults, GenerationConfig, InvalidInputError
from i4vgen.runtime import Runtime, get_runtime
from i4vgen.ui import layout, texts

CHUNKS = 4
"""The gallery fills in about so many steps: often enough to be alive, large enough chunks to be quick."""

MAX_STEPS = 100

OWN = "own"
"""In place of a sampler's name: the one that the model is best run with."""

ROLL = "() => Math.floor(Math.random() * 2 ** 31)"


@dataclass(frozen=True)
class Form:
    """What the form says, field by field; the API's parameters have these names."""

    prompt: str
    seed: int | None
    num_candidates: int
    negative_prompt: str
    num_inference_steps: int
    guidance_scale: float
    num_frames: int
    p_ni_vsds: float
    p_re: float
    preset: str
    sampler: str
    compare: list[str]
    model: str
    base: str
    loras: str
    rewards: list[str]

    def spec(self) -> ModelSpec:
        """The model and what goes with it."""
        base = (self.base or "").strip() or None
        return ModelSpec(self.model, base, tuple((self.loras or "").split()), tuple(self.rewards))

    def config(self, defaults: Defaults) -> GenerationConfig:
        """A validated request. Raises `InvalidInputError` in words for the person at the form."""
        if not (self.prompt or "").strip():
            raise InvalidInputError(texts.NEEDS_PROMPT)
        if self.seed is None:
            raise InvalidInputError(texts.NEEDS_NUMBER.format(name=texts.SEED))
        names = {field.name for field in fields(GenerationConfig)} & {field.name for field in fields(self)}
        given = {name: getattr(self, name) for name in names}
        given |= {"sampler": None if self.sampler == OWN else self.sampler}
        given |= {"prompt": self.prompt.strip(), "negative_prompt": (self.negative_prompt or "").strip()}
        config = GenerationConfig.for_model(defaults, **given)
        chunk = min(defaults.candidate_batch_size, -(-config.num_candidates // CHUNKS))
        return replace(config, candidate_batch_size=chunk)


def with_spec(form: Form, spec: ModelSpec) -> Form:
    """The form with another model and what goes with it."""
    return replace(
        form,
        model=spec.model,
        base=spec.base or "",
        loras=" ".join(spec.loras),
        rewards=list(catalog.find(spec).rewards),
    )


def with_config(form: Form, config: GenerationConfig, spec: ModelSpec, compare: Sequence[str]) -> Form:
    """The form that asks for this run."""
    names = {field.name for field in fields(GenerationConfig)} & {field.name for field in fields(Form)}
    asked = {name: getattr(config, name) for name in names}
    entry = catalog.find(spec)
    own = entry.backbone.read_defaults(**entry.sources).sampler
    asked |= {"sampler": OWN if config.sampler == own else config.sampler, "compare": list(compare)}
    return with_spec(replace(form, **asked), spec)


@dataclass(frozen=True)
class Example:
    """A prompt and a seed worth trying, and the packed run that was made of them, if there is one."""

    prompt: str
    seed: int
    run: Path | None


@dataclass
class ImaginePanel:
    """The components of panel 1. `settings` are the fields of `Form`, in its order.

    chips: by the group of the model's phrases that they offer. dataset: shows the `examples`.
    """

    settings: list[gr.components.Component]
    dice: gr.Button
    generate: gr.Button
    stop: gr.Button
    leave: gr.Button
    note: gr.HTML
    chips: dict[str, gr.Dataset]
    dataset: gr.Dataset
    examples: list[Example]

    def __getattr__(self, name: str) -> gr.components.Component:
        for field, component in zip(fields(Form), self.settings, strict=True):
            if field.name == name:
                return component
        raise AttributeError(name)


def build(runtime: Runtime, examples: list[Example]) -> ImaginePanel:
    """Draws panel 1 with the defaults of the model, and connects what needs no other panel."""
    d = runtime.defaults
    first = examples[0] if examples else Example("", 7, None)
    with layout.panel(1, texts.IMAGINE, texts.IMAGINE_HINT, "imagine"):
        with gr.Row(elem_classes="ask"):
            prompt = gr.Textbox(
                value=first.prompt,
                label=texts.PROMPT,
                placeholder=texts.PROMPT_PLACEHOLDER,
                lines=2,
                max_lines=4,
                scale=5,
                min_width=280,
                elem_id="prompt",
                submit_btn=False,
            )
        note = gr.HTML("", elem_id="note", visible=False, apply_default_css=False)
        chips = build_chips(runtime)
        with gr.Row(elem_classes="knobs", equal_height=True):
            with gr.Row(elem_classes="seed", equal_height=True, scale=2):
                seed = gr.Number(
                    label=texts.SEED, value=first.seed, precision=0, minimum=0, min_width=100, scale=3
                )
                dice = gr.Button(texts.DICE, elem_classes="dice", size="md", min_width=120, scale=1)
            num_candidates = gr.Slider(
                1, 64, d.num_candidates, step=1, label=texts.NUM_CANDIDATES, scale=3, min_width=220
            )
            with gr.Column(elem_classes="go", scale=2, min_width=200):
                generate = gr.Button(texts.GENERATE, variant="primary", size="lg", elem_id="generate")
                stop = gr.Button(
                    texts.STOP, variant="stop", size="lg", visible=False, elem_id="stop-candidates"
                )
                leave = gr.Button(texts.LEAVE_QUEUE, size="lg", visible=False)
        with gr.Accordion(texts.ADVANCED, open=False, elem_id="advanced"):
            negative_prompt = gr.Textbox(value="", label=texts.NEGATIVE_PROMPT, info=texts.NEGATIVE_PROMPT_INFO)
            with gr.Row():
                steps = gr.Slider(
                    1,
                    MAX_STEPS,
                    d.num_inference_steps,
                    step=1,
                    label=texts.STEPS,
                    info=texts.STEPS_INFO,
                    min_width=240,
                )
                guidance_scale = gr.Slider(
                    1,
                    20,
                    d.guidance_scale,
                    step=0.5,
                    label=texts.GUIDANCE,
                    info=texts.GUIDANCE_INFO,
                    min_width=240,
                )
                frames = gr.Slider(
                    2,
                    d.max_frames,
                    d.num_frames,
                    step=1,
                    label=texts.FRAMES,
                    info=texts.FRAMES_INFO,
                    min_width=240,
                )
            with gr.Row():
                preset = gr.Radio(
                    list(texts.PRESETS.items()), value="faithful", label=texts.PRESET, info=texts.PRESET_INFO
                )
                sampler = gr.Dropdown(
                    [(texts.OWN_SAMPLER, OWN), *SCHEDULERS],
                    value=OWN,
                    label=texts.SAMPLER,
                    info=texts.SAMPLER_INFO,
                )
                compare = gr.CheckboxGroup(
                    [(comparison.label, name) for name, comparison in COMPARISONS.items()],
                    value=["vanilla"],
                    label=texts.COMPARE,
                    info=texts.COMPARE_INFO,
                )
            with gr.Row():
                p_ni_vsds = gr.Slider(
                    0,
                    1,
                    d.p_ni_vsds,
                    step=0.05,
                    label=texts.P_NI_VSDS,
                    info=texts.P_NI_VSDS_INFO,
                    min_width=240,
                )
                p_re = gr.Slider(
                    0.05, 1, d.p_re, step=0.05, label=texts.P_RE, info=texts.P_RE_INFO, min_width=240
                )
        with gr.Accordion(texts.MODEL, open=False, elem_id="model"):
            model, base, loras, rewards = build_model(runtime)
        dataset = gr.Dataset(
            components=[gr.Textbox(visible=False)],
            samples=[[example.prompt] for example in examples],
            type="index",
            label=texts.EXAMPLES,
            samples_per_page=12,
            visible=bool(examples),
            elem_id="examples",
        )

    dice.click(None, None, seed, js=ROLL, queue=False, api_visibility="private")
    settings = [
        prompt, seed, num_candidates, negative_prompt, steps, guidance_scale, frames, p_ni_vsds, p_re,
        preset, sampler, compare, model, base, loras, rewards,
    ]  # fmt: skip
    return ImaginePanel(settings, dice, generate, stop, leave, note, chips, dataset, examples)


def build_chips(runtime: Runtime) -> dict[str, gr.Dataset]:
    """The words that a small model knows, to make a prompt of."""
    phrases = runtime.vocabulary.phrases if runtime.vocabulary else {}
    with gr.Row(elem_id="chips", visible=bool(phrases)):
        return {
            group: gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=[[ways[0]] for ways in things],
                label=texts.CHIPS.get(group, group),
                samples_per_page=len(things),
                elem_classes="chips",
            )
            for group, things in phrases.items()
        }


def build_model(runtime: Runtime) -> tuple[gr.Dropdown, gr.Textbox, gr.Textbox, gr.CheckboxGroup]:
    """What is run: the model, another base under it, LoRAs, and who judges."""
    spec, entry = runtime.spec, runtime.entry
    names = [(entry.title, name) for name, entry in MODELS.items()]
    if spec.model not in MODELS:
        names.append((Path(spec.model).name, spec.model))
    with gr.Row():
        model = gr.Dropdown(names, value=spec.model, label=texts.MODEL_NAME, info=texts.model_facts(entry))
        rewards = gr.CheckboxGroup(
            [(reward.title, name) for name, reward in REWARDS.items()],
            value=list(entry.rewards),
            label=texts.REWARDS,
            info=texts.REWARDS_INFO,
        )
    with gr.Row():
        base = gr.Textbox(
            value=spec.base or "", label=texts.BASE, info=texts.BASE_INFO, visible="base" in entry.takes
        )
        loras = gr.Textbox(
            value=" ".join(spec.loras),
            label=texts.LORAS,
            info=texts.LORAS_INFO,
            visible="loras" in entry.takes,
        )
    return model, base, loras, rewards


def show_model(panel: ImaginePanel, runtime: Runtime) -> dict:
    """The form for another model: its own defaults and limits."""
    d, entry = runtime.defaults, runtime.entry
    return {
        panel.model: gr.update(value=runtime.spec.model, info=texts.model_facts(entry)),
        panel.num_inference_steps: d.num_inference_steps,
        panel.guidance_scale: d.guidance_scale,
        panel.num_frames: gr.update(value=d.num_frames, maximum=d.max_frames),
        panel.p_ni_vsds: d.p_ni_vsds,
        panel.p_re: d.p_re,
        panel.sampler: OWN,
        panel.base: gr.update(value="", visible="base" in entry.takes),
        panel.loras: gr.update(value="", visible="loras" in entry.takes),
        panel.rewards: list(entry.rewards),
    }


def show_form(panel: ImaginePanel, form: Form) -> dict:
    """The form with every field as given; a model that this app does not offer is said and left out."""
    offered = {name for _, name in panel.model.choices}
    if form.model not in offered:
        gr.Warning(texts.OTHER_MODEL.format(model=form.model))
        kept = {panel.model, panel.base, panel.loras, panel.rewards}
        return {c: v for c, v in zip(panel.settings, astuple(form), strict=True) if c not in kept}
    changes = show_model(panel, get_runtime(ModelSpec(form.model)))
    for component, value in zip(panel.settings, astuple(form), strict=True):
        known = changes.get(component)
        changes[component] = {**known, "value": value} if isinstance(known, dict) else value
    return changes


def read_examples(path: Path) -> list[Example]:
    """The examples of a JSON file; runs are named relative to it. None, if there is no such file."""
    if not path.is_file():
        return []
    examples = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        run = path.parent / entry["run"] if "run" in entry else None
        examples.append(Example(entry["prompt"], entry["seed"], run if run and run.is_file() else None))
    return examples


def show_unknown_words(runtime: Runtime, prompt: str) -> dict:
    """The note under the prompt: visible only when there is something to say."""
    unknown = runtime.unknown_words(prompt or "")
    if not unknown:
        return gr.update(value="", visible=False)
    words = [html.escape(word) for word in unknown]
    return gr.update(value=f'<p role="status">{texts.unknown_words(words)}</p>', visible=True)
