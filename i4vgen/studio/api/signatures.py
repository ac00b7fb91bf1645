"""The functions that Gradio runs and describes to clients, made from the methods of `Endpoints`.

`endpoint` replaces `**settings` with the parameters of a run (config.py) and `choice` with those of
`ModelChoice`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import gradio as gr

from i4vgen.bounds import MAX_JPEG_PIXELS, MAX_PIXELS
from i4vgen.config import ANIMATION, CANDIDATES, MAX_ANCHORS, MAX_CANDIDATES, Parameter
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.models.catalog import MODELS, REPLACEMENTS, REWARDS
from i4vgen.studio.api.answers import RETURNS
from i4vgen.studio.api.calls import Method
from i4vgen.studio.api.model_choice import ModelChoice
from i4vgen.studio.form import SETTINGS

SETTINGS_OF = {
    "candidates": SETTINGS,
    "generate": SETTINGS,
    # Settings that affect the candidates are fixed once they are drawn.
    "animate": {n: a for n, a in SETTINGS.items() if ANIMATION in a.affects and CANDIDATES not in a.affects},
}
"""The run settings that each endpoint accepts."""

HELP = {
    "run": "The token of a run, from candidates, animate or generate.",
    "prompt": "What the pictures should show.",
    "images": "1 to {most_candidates} picture files, each of at most {pixels} million pixels"
    " (JPEG: {jpeg_pixels}, unless progressive).",
    "anchor": "Index of the candidate to animate. By default the one with the highest score.",
    "anchor_image": "A picture to animate instead of a candidate; it is cropped to the shape of the video.",
    "compare": "Videos without I4VGen from the same prompt and noise: {comparisons}.",
    "model": "{models}. By default the one that the app was started with.",
    **{name: part.help for name, part in REPLACEMENTS.items()},
    "loras": "LoRAs for the model, files, folders or hub ids, each with @WEIGHT after it if need be.",
    "rewards": "The reward models, of {rewards}; the score is that of the first one.",
}
"""Descriptions of the parameters other than settings, for all endpoints."""

HELP_OF = {
    "animate": {"anchor": "Index of the candidate to animate, or a list of up to {most}. By default the best."}
}
"""Descriptions that replace those of `HELP`, by endpoint."""


def endpoint(
    method: Method, follow: Callable[..., AsyncIterator] | None = None
) -> Callable[..., AsyncIterator]:
    """Makes the function that Gradio runs and describes to clients.

    Args:
        method: A method of `Endpoints`.
        follow: Called with the last three parameters of `follow_call`. Without it, the function yields
            nothing.
    """
    hints, settings = get_type_hints(method), SETTINGS_OF.get(method.__name__, {})
    signature = client_signature(method, settings)

    async def run(*values: object) -> AsyncIterator[object]:
        arguments = signature.bind(*values).arguments
        request = arguments.pop("request")
        if "choice" in hints:
            names = [each.name for each in fields(ModelChoice) if each.name in arguments]
            arguments["choice"] = ModelChoice(**{name: arguments.pop(name) for name in names})
        if follow is not None:
            async for answer in follow(method, request, arguments):
                yield answer

    (answer,) = get_args(hints["return"])
    run.__name__ = method.__name__
    run.__doc__ = describe(method, signature, settings)
    run.__signature__ = signature.replace(return_annotation=answer)  # type: ignore[attr-defined]
    run.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    run.__annotations__["return"] = answer
    return run


def client_signature(method: Method, settings: Mapping[str, Parameter]) -> inspect.Signature:
    """Returns the signature of a method as clients call it.

    The settings replace `**settings`, all of them optional except the prompt. The fields of `ModelChoice`
    replace `choice`, and the request, which Gradio adds, replaces `visitor`.
    """

    def parameter(name: str, annotation: Any, default: object = None) -> inspect.Parameter:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Parameter(name, kind, default=default, annotation=annotation)

    required, hints = inspect.Parameter.empty, get_type_hints(method)
    asked = [
        parameter(name, about.kind, required) if name == "prompt" else parameter(name, about.kind | None)
        for name, about in settings.items()
    ]
    signature = inspect.signature(method)
    for each in signature.parameters.values():
        if each.name == "choice":
            asked += [parameter(name, kind) for name, kind in get_type_hints(ModelChoice).items()]
        elif each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self":
            asked.append(parameter(each.name, hints[each.name], each.default))
    ordered = sorted(asked, key=lambda each: each.default is not required)
    unbound = [parameter("self", Any, required)] if "self" in signature.parameters else []
    return signature.replace(parameters=[*unbound, parameter("request", gr.Request, required), *ordered])


def describe(method: Method, signature: inspect.Signature, settings: Mapping[str, Parameter]) -> str:
    """Returns the docstring for Gradio: a method's description, its parameters and its return value."""
    helps = HELP | HELP_OF.get(method.__name__, {})
    names = {"models": MODELS, "rewards": REWARDS, "comparisons": COMPARISONS}
    values = {key: ", ".join(known) for key, known in names.items()}
    values |= {"most": str(MAX_ANCHORS), "most_candidates": str(MAX_CANDIDATES)}
    values |= {"pixels": str(MAX_PIXELS // 10**6), "jpeg_pixels": str(MAX_JPEG_PIXELS // 10**6)}
    lines = [inspect.getdoc(method) or "", "", "Args:"]
    for name in signature.parameters:
        if name in settings:
            lines.append(f"    {name}: {settings[name].help}")
        elif name in helps:
            lines.append(f"    {name}: {helps[name].format(**values)}")
    return "\n".join([*lines, "", "Returns:", RETURNS[method.__name__]])
