"""Files of a model in the diffusers layout, from a folder or from the Hugging Face hub.

Weights are safetensors only: nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from safetensors import SafetensorError

from i4vgen.errors import ModelError


def read_json(model: str, path: str) -> dict | None:
    """The JSON file `path` of a model (a folder or a hub id); None if the model does not have that file.

    Raises `ModelError` if there is no such model, or if the file is not valid JSON.
    """
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", model) and not Path(model).is_dir():
        raise ModelError(f"there is no model {model!r}: use pocket, a folder, or a hub id such as OWNER/NAME")
    if Path(model).is_dir():
        file = Path(model, path)
        if not file.is_file():
            return None
    else:
        try:
            file = Path(hf_hub_download(model, path))
        except LocalEntryNotFoundError as error:
            raise ModelError(
                f"model {model!r} is not a folder here, and the model hub cannot be reached"
            ) from error
        except EntryNotFoundError:
            return None
        except (HFValidationError, HfHubHTTPError, OSError) as error:
            raise ModelError(f"model {model!r} is neither a folder here nor a model on the hub") from error
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON ({error}): download the model again") from error


def load(cls, model: str, subfolder: str, dtype: torch.dtype) -> torch.nn.Module:
    """One network of a model, complete, frozen and ready for inference.

    cls: a diffusers or transformers model class. subfolder: "" for the model's root.
    Raises `ModelError` for missing, truncated, incomplete or ill-fitting weights.
    """
    where = f"{model}/{subfolder}".rstrip("/")
    try:
        with quiet():
            network, report = cls.from_pretrained(
                model, subfolder=subfolder, torch_dtype=dtype, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(_cannot_load(where, error)) from error
    # The tables of sinusoids are computed, not learned: some motion adapters come without them.
    if missing := [key for key in report["missing_keys"] if not key.endswith("pos_embed.pe")]:
        raise ModelError(
            f"{where} lacks {len(missing)} weights, such as {missing[0]}: download the model again"
        )
    return network.requires_grad_(False).eval()


def load_tokenizer(cls, model: str, subfolder: str):
    """One tokenizer of a model. Raises `ModelError` if it is missing or damaged."""
    where = f"{model}/{subfolder}".rstrip("/")
    # transformers makes an empty tokenizer of a folder that has none.
    if all(read_json(model, f"{subfolder}/{name}.json") is None for name in ("tokenizer", "vocab")):
        raise ModelError(f"cannot load {where} (no tokenizer.json, no vocab.json): download the model again")
    try:
        with quiet():
            return cls.from_pretrained(model, subfolder=subfolder)
    except Exception as error:  # tokenizers raises bare Exception for damaged files
        raise ModelError(_cannot_load(where, error)) from error


def _cannot_load(where: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"cannot load {where} ({reason}): check that the model is complete, or download it again"


@contextlib.contextmanager
def quiet():
    """Keeps the libraries' progress bars and load reports out of our output: what matters is raised above."""
    import diffusers.utils.logging
    import transformers.utils.logging

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()
