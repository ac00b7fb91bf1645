"""Panel 1, Imagine: the prompt and every setting of a run."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr

from i4vgen.request import Defaults, Request, RequestError
from i4vgen.runtime import Runtime
from i4vgen.ui import layout, texts

CHUNKS = 4
"""The gallery fills in about so many steps: often enough to be alive, large enough chunks to be quick."""

ROLL = "() => Math.floor(Math.random() * 2 ** 31)"


@dataclass
class ImaginePanel:
    """The components of panel 1."""

    prompt: gr.Textbox
    seed: gr.Number
    dice: gr.Button
    num_candidates: gr.Slider
    generate: gr.Button
    stop: gr.Button
    leave: gr.Button
    note: gr.HTML
    negative_prompt: gr.Textbox
    steps: gr.Slider
    guidance_scale: gr.Slider
    frames: gr.Slider
    p_ni_vsds: gr.Slider
    p_re: gr.Slider

    @property
    def settings(self) -> list[gr.components.Component]:
        """The inputs of `make_request`, in its order."""
        return [
            self.prompt,
            self.seed,
            self.num_candidates,
            self.negative_prompt,
            self.steps,
            self.guidance_scale,
            self.frames,
            self.p_ni_vsds,
            self.p_re,
        ]


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
            negative_prompt = gr.Textbox(label=texts.NEGATIVE_PROMPT, info=texts.NEGATIVE_PROMPT_INFO)
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
        load_examples(examples, prompt, seed)

    dice.click(None, None, seed, js=ROLL, queue=False, api_visibility="private")
    prompt.change(
        lambda text: show_unknown_words(runtime, text),
        prompt,
        note,
        queue=False,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    return ImaginePanel(
        prompt, seed, dice, num_candidates, generate, stop, leave, note,
        negative_prompt, steps, guidance_scale, frames, p_ni_vsds, p_re,
    )  # fmt: skip


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


def make_request(
    defaults: Defaults,
    prompt: str,
    seed: int | None,
    num_candidates: int,
    negative_prompt: str,
    steps: int,
    guidance_scale: float,
    frames: int,
    p_ni_vsds: float,
    p_re: float,
) -> Request:
    """The form as a validated request. Raises `RequestError` in words for the person at the form."""
    if not (prompt or "").strip():
        raise RequestError(texts.NEEDS_PROMPT)
    if seed is None:
        raise RequestError(texts.NEEDS_NUMBER.format(name=texts.SEED))
    request = Request.for_model(
        defaults,
        prompt=prompt.strip(),
        negative_prompt=(negative_prompt or "").strip(),
        seed=seed,
        num_candidates=num_candidates,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        num_frames=frames,
        p_ni_vsds=p_ni_vsds,
        p_re=p_re,
    )
    chunk = min(defaults.candidate_batch_size, -(-request.num_candidates // CHUNKS))
    return replace(request, candidate_batch_size=chunk)
