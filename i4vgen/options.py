"""The options of the command line that say what is run: those of one run and of a batch alike."""

from __future__ import annotations

import argparse
from typing import NoReturn

from i4vgen.catalog import ENVIRONMENT, MODELS, REWARDS, ModelSpec
from i4vgen.comparisons import COMPARISONS
from i4vgen.generation_config import offered_parameters, parameters


class Parser(argparse.ArgumentParser):
    """argparse, but with one line for an error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the anchor, the settings, the model and the machine. What is not given is None (or False)."""
    group = parser.add_argument_group("anchor")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--anchor", type=int, metavar="INDEX", help="Animate this candidate, not the best one.")
    which.add_argument("--anchor-image", metavar="FILE", help="Animate this picture; no candidates are made.")
    group = parser.add_argument_group("settings (defaults: the model's)")
    add = group.add_argument
    for name, about in offered_parameters().items():
        if name != "prompt":
            option = "--" + (about.option or name).replace("_", "-")
            add(option, dest=name, type=about.kind, metavar=about.metavar, help=about.help)
    add(
        "--compare",
        type=names,
        metavar="NAMES",
        help=f"Also without I4VGen from the same seed: {', '.join(COMPARISONS)}, several with commas, or none.",
    )
    group = parser.add_argument_group("model")
    add = group.add_argument
    add(
        "--model",
        help=f"{', '.join(MODELS)}, a folder or hub id in the diffusers layout, or BASE+MOTION_ADAPTER"
        f" (default: ${ENVIRONMENT}, else animatediff with a GPU and pocket without).",
    )
    add("--base", metavar="MODEL", help="Another Stable Diffusion 1.5 model, a folder or a hub id.")
    add(
        "--lora",
        action="append",
        dest="loras",
        metavar="LORA[@WEIGHT]",
        help="A LoRA for the model, a file, a folder or a hub id; can be given again.",
    )
    add(
        "--reward",
        type=names,
        dest="rewards",
        metavar="NAMES",
        help=f"Who judges the candidates: {', '.join(REWARDS)} or none; the first one selects.",
    )
    group = parser.add_argument_group("machine")
    add = group.add_argument
    add("--device", help="cuda, mps or cpu (default: the best there is).")
    add("--compile", action="store_true", help="Compile the network first: pays off over many runs.")
    add(
        "--no-metadata",
        dest="metadata",
        action="store_false",
        help="Leave out of pictures and videos how they were made (prompt, settings, model, versions).",
    )
    add("--json", action="store_true", help="Print events as JSON lines.")


def names(text: str) -> list[str]:
    """The items of a list with commas; "none" is an empty one."""
    items = [item.strip() for item in text.split(",")]
    return [item for item in items if item and item != "none"]


def given_settings(args: argparse.Namespace) -> dict[str, object]:
    """The fields of `GenerationConfig` that were given."""
    return {name: value for name, value in vars(args).items() if name in parameters() and value is not None}


def chosen_model(args: argparse.Namespace, otherwise: ModelSpec | None = None) -> ModelSpec:
    """The model that was chosen.

    Args:
        otherwise: What holds where nothing was chosen; by default the default model.
    """
    from i4vgen.catalog import default_model  # may import torch

    chosen = {name: getattr(args, name) for name in ("model", "base", "loras", "rewards")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    return ModelSpec.from_dict((otherwise.to_dict() if otherwise else {"model": default_model()}) | chosen)
