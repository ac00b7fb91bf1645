"""Command-line options shared by single runs and batches."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import NoReturn

from i4vgen.bounds import short_name
from i4vgen.config import offered_parameters, parameters
from i4vgen.errors import InvalidInputError
from i4vgen.method.comparisons import COMPARISONS
from i4vgen.models import library
from i4vgen.models.catalog import ENVIRONMENT, MODELS, REPLACEMENTS, REWARDS, ModelSpec, default_model


class Parser(argparse.ArgumentParser):
    """An argument parser that prints errors without the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the anchor, settings, model and machine. Those that take a value default to None."""
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
        type=split_names,
        metavar="NAMES",
        help=f"Other videos from the same seed: {', '.join(COMPARISONS)}, several with commas, or none.",
    )
    group = parser.add_argument_group("model")
    add = group.add_argument
    add(
        "--model",
        help=f"{', '.join(MODELS)}, a folder or hub id in the diffusers layout, or a single file, also on the"
        f" hub as OWNER/NAME/FILE (default: ${ENVIRONMENT}, else animatediff with a GPU and pocket without).",
    )
    for name, part in REPLACEMENTS.items():
        add("--" + name.replace("_", "-"), metavar="MODEL", help=part.help)
    add(
        "--lora",
        action="append",
        dest="loras",
        metavar="LORA[@WEIGHT]",
        help="A LoRA for the model, a file, a folder or a hub id; can be given again.",
    )
    add(
        "--reward",
        type=split_names,
        dest="rewards",
        metavar="NAMES",
        help=f"Models that score the candidates: {', '.join(REWARDS)} or none; the first selects the anchor.",
    )
    add(
        "--models-dir",
        action="append",
        dest="models_dirs",
        metavar="DIR",
        help="A folder with checkpoints/, diffusion_models/, loras/, animatediff_models/ and vae/, whose files"
        f" can then be named without it; can be given again (default: ${library.ENVIRONMENT}).",
    )
    group = parser.add_argument_group("machine")
    add = group.add_argument
    add("--device", help="cuda, cuda:1, mps or cpu (default: the best there is).")
    add("--compile", action="store_true", help="Compile the network first: pays off over many runs.")
    add(
        "--no-metadata",
        dest="metadata",
        action="store_false",
        help="Leave out of pictures and videos how they were made (prompt, settings, model, versions).",
    )
    add("--json", action="store_true", help="Print events as JSON lines.")


def split_names(text: str) -> list[str]:
    """Splits a comma-separated list, dropping empty items and "none"."""
    items = [item.strip() for item in text.split(",")]
    return [item for item in items if item and item != "none"]


def given_settings(args: argparse.Namespace) -> dict[str, object]:
    """Returns the `GenerationConfig` fields given on the command line."""
    return {name: value for name, value in vars(args).items() if name in parameters() and value is not None}


def set_models_dirs(args: argparse.Namespace) -> None:
    """Registers the folders given with --models-dir.

    Raises:
        InvalidInputError: One of them is not a folder.
    """
    if args.models_dirs:
        library.set_folders(args.models_dirs)


def check_files(args: argparse.Namespace, missing: Mapping[str, Sequence[str]]) -> None:
    """Checks that no model file of an earlier run is missing, except those replaced by options.

    Args:
        args: The parsed command line.
        missing: The names of the missing files, by the argument that replaces them.

    Raises:
        InvalidInputError: A file is missing and not replaced.
    """
    for option, names in missing.items():
        if getattr(args, option) is None:
            option = option.rstrip("s").replace("_", "-")
            raise InvalidInputError(
                f"the run was made with {short_name(names[0])}, which is not found here: name its folder with"
                f" --models-dir, or the file with --{option}"
            )


def chosen_model(args: argparse.Namespace, otherwise: ModelSpec | None = None) -> ModelSpec:
    """Returns the model given on the command line.

    Args:
        args: The parsed command line.
        otherwise: The choice that the arguments change; None starts from the default model.
    """
    chosen = {name: getattr(args, name) for name in ("model", *REPLACEMENTS, "loras", "rewards")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    return ModelSpec.from_dict(
        (otherwise.to_dict() if otherwise else {"model": default_model(args.device)}) | chosen
    )
