"""Panel 1, Imagine: the prompt and every setting of a run."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import gradio as gr

from i4vgen.backbones.samplers import SCHEDULERS
from i4vgen.catalog import MODELS, REWARDS, Choice
from i4vgen.pipeline import COMPARISONS
from i4vgen.request import Defaults, Request, RequestError
from i4vgen.runtime import Runtime
from i4vgen.ui import layout, texts

CHUNKS = 4
"""The gallery fills in about so many steps: often enough to be alive, large enough chunks to be quick."""

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

    def choice(self) -> Choice:
        """The model and what goes with it."""
        base = (self.base or "").strip() or None
        return Choice(self.model, base, tuple((self.loras or "").split()), tuple(self.rewards))

    def request(self, defaults: Defaults) -> Request:
        """A validated request. Raises `RequestError` in words for the person at the form."""
        if not (self.prompt or "").strip():
            raise RequestError(texts.NEEDS_PROMPT)
        if self.seed is None:
            raise RequestError(texts.NEEDS_NUMBER.format(name=texts.SEED))
        names = {field.name for field in fields(Request)} & {field.name for field in fields(self)}
        given = {name: getattr(self, name) for name in names}
        given |= {"sampler": None if self.sampler == OWN else self.sampler}
        given |= {"prompt": self.prompt.strip(), "negative_prompt": (self.negative_prompt or "").strip()}
        request = Request.for_model(defaults, **given)
        chunk = min(defaults.candidate_batch_size, -(-request.num_candidates // CHUNKS))
        return replace(request, candidate_batch_size=chunk)


def with_choice(form: Form, choice: Choice) -> Form:
    """The form with another model and what goes with it."""
    return replace(
        form,
        model=choice.model,
        base=choice.base or "",
        loras=" ".join(choice.loras),
        rewards=list(choice.rewards or ()),
    )


@dataclass
class ImaginePanel:
    """The components of panel 1. `settings` are the fields of `Form`, in its order."""

    settings: list[gr.components.Component]
    dice: gr.Button
    generate: gr.Button
    stop: gr.Button
    leave: gr.Button
    note: gr.HTML

    def __getattr__(self, name: str) -> gr.components.Component:
        for field, component in zip(fields(Form), self.settings, strict=True):
            if field.name == name:
                return component
        raise AttributeError(name)


def build(runtime: Runtime, examples: Path) -> ImaginePanel:
    """Draws panel 1 with the defaults of the model, and connects what needs no other panel."""
    d = runtime.defaults
    with layout.panel(1, texts.IMAGINE, texts.IMAGINE_HINT, "imagine"):
        with gr.Row(elem_classes="ask"):
            prompt = gr.Textbox(
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
        with gr.Row(elem_classes="knobs", equal_height=True):
            with gr.Row(elem_classes="seed", equal_height=True, scale=2):
                seed = gr.Number(label=texts.SEED, value=7, precision=0, minimum=0, min_width=100, scale=3)
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
                    100,
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
                    [(texts.CLIP_LABELS[name], name) for name in COMPARISONS],
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
        load_examples(examples, prompt, seed)

    dice.click(None, None, seed, js=ROLL, queue=False, api_visibility="private")
    settings = [
        prompt, seed, num_candidates, negative_prompt, steps, guidance_scale, frames, p_ni_vsds, p_re,
        preset, sampler, compare, model, base, loras, rewards,
    ]  # fmt: skip
    return ImaginePanel(settings, dice, generate, stop, leave, note)


def build_model(runtime: Runtime) -> tuple[gr.Dropdown, gr.Textbox, gr.Textbox, gr.CheckboxGroup]:
    """What is run: the model, another base under it, LoRAs, and who judges."""
    choice, entry = runtime.choice, runtime.entry
    names = [(entry.title, name) for name, entry in MODELS.items()]
    if choice.model not in MODELS:
        names.append((Path(choice.model).name, choice.model))
    with gr.Row():
        model = gr.Dropdown(names, value=choice.model, label=texts.MODEL_NAME, info=texts.model_facts(entry))
        rewards = gr.CheckboxGroup(
            [(reward.title, name) for name, reward in REWARDS.items()],
            value=list(entry.rewards),
            label=texts.REWARDS,
            info=texts.REWARDS_INFO,
        )
    with gr.Row():
        base = gr.Textbox(
            value=choice.base or "", label=texts.BASE, info=texts.BASE_INFO, visible="base" in entry.takes
        )
        loras = gr.Textbox(
            value=" ".join(choice.loras),
            label=texts.LORAS,
            info=texts.LORAS_INFO,
            visible="loras" in entry.takes,
        )
    return model, base, loras, rewards


def show_model(panel: ImaginePanel, runtime: Runtime) -> dict:
    """The form for another model: its own defaults and limits."""
    d, entry = runtime.defaults, runtime.entry
    return {
        panel.model: gr.update(value=runtime.choice.model, info=texts.model_facts(entry)),
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


def load_examples(path: Path, prompt: gr.Textbox, seed: gr.Number) -> None:
    """Chips that fill the form. A missing file just means no chips."""
    if not path.is_file():
        return
    entries = json.loads(path.read_text(encoding="utf-8"))
    gr.Examples(
        [[entry["prompt"], entry["seed"]] for entry in entries],
        [prompt, seed],
        label=texts.EXAMPLES,
        example_labels=[entry["prompt"] for entry in entries],
        examples_per_page=12,
        elem_id="examples",
        api_visibility="private",
    )


def show_unknown_words(runtime: Runtime, prompt: str) -> dict:
    """The note under the prompt: visible only when there is something to say."""
    unknown = runtime.unknown_words(prompt or "")
    if not unknown:
        return gr.update(value="", visible=False)
    words = [html.escape(word) for word in unknown]
    return gr.update(value=f'<p role="status">{texts.unknown_words(words)}</p>', visible=True)
